"""A model's figures in parts: by regime, time, sector, symbol, by how much a name trades and how large it is.

Forecasts are ordered within a part; for a symbol over time. Money is the part's share in the long_short book
(`components.backtest.paper_book`), in the bar after each decision.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from components.backtest.fifths import place
from components.backtest.terms import Terms
from components.contracts.documents.evaluation import SliceRow, SliceTable
from components.metrics import information_coefficient
from components.metrics.correlation import FEWEST_SYMBOLS
from components.metrics.grouped import mean_tests
from components.timeline.periods import is_daily

KEY = ["timestamp", "symbol"]
DECILES = 10
# What names are put in order by within a bar, and what that table is called.
TENTHS = {"traded_value": "traded_value", "market_cap": "size"}
INTERVALS = ("ic_interval", "rank_ic_interval", "sharpe_net_interval")
UNKNOWN = "unknown"
# The bar that ends at midnight belongs to the day before.
DAY = pl.col("timestamp") - pl.duration(microseconds=1)


@dataclass(frozen=True)
class Cut:
    """One way to part rows: the text of a row's part, and what parts are put in order by.

    `of_bars`: all rows of a bar are in one part.
    """

    part: pl.Expr
    order: pl.Expr
    of_bars: bool = False


CUTS = {
    "whole": Cut(pl.lit("all"), pl.lit(0), of_bars=True),
    "regime": Cut(pl.col("regime"), pl.lit(0)),
    "year": Cut(DAY.dt.strftime("%Y"), DAY.dt.year(), of_bars=True),
    "month": Cut(DAY.dt.strftime("%b"), DAY.dt.month(), of_bars=True),
    "weekday": Cut(DAY.dt.strftime("%a"), DAY.dt.weekday(), of_bars=True),
    "hour": Cut(pl.col("timestamp").dt.strftime("%H"), pl.col("timestamp").dt.hour(), of_bars=True),
    "sector": Cut(pl.col("sector"), pl.lit(0)),
    "traded_value": Cut(pl.col("traded_value_tenth").cast(pl.String), pl.col("traded_value_tenth")),
    "size": Cut(pl.col("market_cap_tenth").cast(pl.String), pl.col("market_cap_tenth")),
    "symbol": Cut(pl.col("symbol"), pl.lit(0)),
}


def slices(
    predictions: pl.DataFrame, facts: pl.DataFrame, money: pl.DataFrame, terms: Terms
) -> list[SliceTable]:
    """Every table of one model in one window. The hour is left out of daily bars, the tenths by traded value
    where no volume is known, those by size where no market capitalisation is: a name that trades much need
    not be large, so nothing stands in for it.

    Parameters
    ----------
    predictions : table with MEASURED_COLUMNS
    facts : `timestamp`, `symbol`, `label`, `sector`, `regime`, `traded_value`, `market_cap`
    money : from `paper_book`
    """
    own = ("score", "p10", "p90")
    rows = (
        predictions.select(*KEY, *own)
        .with_columns(pl.lit(True).alias("scored"))
        .join(money, on=KEY, how="full", coalesce=True)
        .join(facts.select(*KEY, "label", "sector", "regime", *TENTHS), on=KEY, how="left")
        .with_columns(pl.when("scored").then(pl.col(name)).alias(name) for name in TENTHS)
    )
    tenths = ((place(name) * DECILES).floor().cast(pl.Int32).add(1).alias(f"{name}_tenth") for name in TENTHS)
    rows = rows.with_columns(tenths)
    left_out = {"hour"} if is_daily(predictions["period"][0]) else set()
    left_out |= {by for name, by in TENTHS.items() if rows[f"{name}_tenth"].null_count() == len(rows)}
    usable = rows.filter(pl.col("score").is_finite() & pl.col("label").is_finite())
    whole = _by_bar(usable.with_columns(part=pl.lit("all")))
    return [
        SliceTable(by=name, rows=_table(name, cut, rows, usable, whole, money, terms))
        for name, cut in CUTS.items()
        if name not in left_out
    ]


def _table(
    name: str,
    cut: Cut,
    rows: pl.DataFrame,
    usable: pl.DataFrame,
    whole: pl.DataFrame,
    money: pl.DataFrame,
    terms: Terms,
) -> list[SliceRow]:
    parted = rows.with_columns(cut.part.fill_null(UNKNOWN).alias("part"), cut.order.alias("order"))
    if cut.of_bars:
        coefficients = whole.with_columns(cut.part.alias("part"))
    else:
        own = usable.with_columns(cut.part.fill_null(UNKNOWN).alias("part"))
        coefficients = _over_time(own) if name == "symbol" else _by_bar(own)
    inside = pl.col("label").is_between("p10", "p90").mean()
    labelled = pl.col("label").is_finite() & pl.col("score").is_finite()
    parts = parted.group_by("part").agg(
        pl.col("order").min(), labelled.sum().alias("rows"), inside.alias("inside_p10_p90")
    )
    figures = (
        parts.join(_skill(coefficients, terms), on="part", how="left")
        .join(_money(parted, money, terms), on="part", how="left")
        .with_columns(pl.col("bars", "traded_bars").fill_null(0))
        .sort("order", "part", nulls_last=True)
        .drop("order")
    )
    return [_row(row) for row in figures.to_dicts()]


def _row(figures: dict[str, Any]) -> SliceRow:
    limits = {name: tuple(figures[name] or (None, None)) for name in INTERVALS}
    return SliceRow(**{**figures, **limits})


def _by_bar(usable: pl.DataFrame) -> pl.DataFrame:
    """Coefficients inside each `part` of each bar: `part`, `timestamp`, `ic`, `rank_ic`."""
    by = ("timestamp", "part")
    scores, labels = usable.select(*KEY, "part", "score"), usable.select(*KEY, "label")
    plain, ranked = (information_coefficient(scores, labels, rank=rank, by=by) for rank in (False, True))
    return plain.select(*by, "ic", ranked["ic"].alias("rank_ic"))


def _over_time(usable: pl.DataFrame) -> pl.DataFrame:
    """What each bar adds to the correlation over time of its `part`, a symbol: products of standardised
    values, whose mean is the correlation.
    """
    ranked = usable.with_columns(
        pl.col("score", "label").rank().over("part").name.prefix("ranked_"), pl.len().over("part").alias("n")
    ).filter(pl.col("n") >= FEWEST_SYMBOLS)

    def product(score: str, label: str) -> pl.Expr:
        return _standardised(score) * _standardised(label)

    return ranked.select(
        "part",
        "timestamp",
        product("score", "label").fill_nan(None).alias("ic"),
        product("ranked_score", "ranked_label").fill_nan(None).alias("rank_ic"),
    )


def _standardised(name: str) -> pl.Expr:
    """Null where the values of a part are all alike."""
    value = pl.col(name)
    varies = value.max() > value.min()
    return ((value - value.mean()) / pl.when(varies).then(value.std(ddof=0))).over("part")


def _skill(coefficients: pl.DataFrame, terms: Terms) -> pl.DataFrame:
    """By `part`: means of the coefficients with intervals, and t, ICIR and bars of the RankIC."""
    found = None
    for name in ("ic", "rank_ic"):
        known = coefficients.filter(pl.col(name).is_not_null()).sort("part", "timestamp")
        parts = known.group_by("part", maintain_order=True).agg(
            pl.len().alias("bars"), (pl.col(name).mean() / pl.col(name).std()).alias("icir")
        )
        tests = mean_tests(
            known[name].to_numpy(),
            parts["bars"].to_numpy(),
            horizon=terms.horizon,
            level=terms.settings.interval_level,
        )
        own = parts.select(
            "part",
            pl.Series(name, tests.mean),
            pl.Series(
                f"{name}_interval", np.column_stack([tests.mean - tests.reach, tests.mean + tests.reach])
            ),
        )
        if name == "rank_ic":
            own = own.with_columns(parts["bars"], parts["icir"], pl.Series("rank_ic_t", tests.t))
        found = own if found is None else found.join(own, on="part", how="full", coalesce=True)
    return found


def _money(parted: pl.DataFrame, money: pl.DataFrame, terms: Terms) -> pl.DataFrame:
    """By `part`: what it brought into the book, on the bars on which it had names."""
    traded = money["timestamp"].unique().implode()
    series = (
        parted.filter(pl.col("timestamp").is_in(traded))
        .group_by("part", "timestamp", maintain_order=True)
        .agg(pl.col("earned", "cost", "traded").sum())
        .sort("part", "timestamp")
        .with_columns((pl.col("earned") - pl.col("cost")).alias("net"))
        .with_columns(pl.col("net").log1p().cum_sum().over("part").alias("grown"))
        .with_columns(pl.max_horizontal(pl.col("grown").cum_max().over("part"), 0.0).alias("peak"))
    )
    net, yearly = pl.col("net"), terms.bars_per_year
    deviation = pl.when(net.max() > net.min()).then(net.std())
    active = net.filter(net != 0)
    gross_ratio = pl.col("earned").mean() / deviation * np.sqrt(yearly)
    figures = series.group_by("part", maintain_order=True).agg(
        pl.len().alias("traded_bars"),
        (net.mean() * 1e4).alias("average_return_bps"),
        (net.mean() / deviation * np.sqrt(yearly)).alias("sharpe_net"),
        gross_ratio.alias("information_ratio"),
        (active > 0).mean().alias("hit_share"),
        (1 - (pl.col("grown") - pl.col("peak")).exp()).max().alias("max_drawdown"),
        pl.col("traded").mean().alias("turnover"),
        pl.when(pl.col("earned").sum() > 0)
        .then(pl.col("cost").sum() / pl.col("earned").sum())
        .alias("cost_share"),
        pl.when(pl.col("traded").sum() > 0)
        .then(gross_ratio / (pl.col("traded").mean() * yearly))
        .alias("ratio_per_turnover"),
        pl.col("earned").sum().alias("profit"),
    )
    limits = _sharpe_limits(series["net"].to_numpy(), figures["traded_bars"].to_numpy().astype(int), terms)
    return figures.with_columns(pl.Series("sharpe_net_interval", limits))


def _sharpe_limits(net: np.ndarray, lengths: np.ndarray, terms: Terms) -> np.ndarray:
    """As `components.metrics.sharpe_interval` of each part, (parts, 2)."""
    if not len(lengths):
        return np.empty((0, 2))
    level, starts = terms.settings.interval_level, np.cumsum(lengths) - lengths
    mean = np.repeat(np.add.reduceat(net, starts) / lengths, lengths)
    squares = np.add.reduceat((net - mean) ** 2, starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.repeat(np.sqrt(squares / (lengths - 1)), lengths)
        standardised, ratio = (net - mean) / deviation, mean / deviation
        both = standardised - ratio / 2 * (standardised**2 - 1)
    reach = np.maximum(
        *(mean_tests(part, lengths, horizon=1, level=level).reach for part in (standardised, both))
    )
    centre = ratio[starts]
    return np.column_stack([centre - reach, centre + reach]) * np.sqrt(terms.bars_per_year)
