"""The universe that can be traded: which rows of a panel belong to it, as known at the close of their bar."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import UNIVERSE, UNTRADABLE
from components.market.errors import MarketError
from components.market.universe_config import UniverseSettings

KEY = ["timestamp", "symbol"]
BY_TRADED_VALUE = ("min_traded_value", "most_traded_names", "most_traded_share")


@dataclass(frozen=True)
class Rule:
    """What is asked for, None where nothing is, and whether a row has it; null where that is unknown."""

    asked: float | None
    holds: pl.Expr

    @property
    def kept(self) -> pl.Expr:
        """Whether a row keeps the rule: what is unknown does not."""
        return self.holds.fill_null(False)


def tradable_universe(panel: pl.DataFrame, settings: UniverseSettings) -> pl.DataFrame:
    """The universe of a panel: a UNIVERSE table, one row for each row of the panel.

    Everything is measured over the last `settings.bars` bars of the panel's calendar, up to the row's own:
    what comes later moves nothing. `traded_value` is the mean of close times volume a bar; bars whose volume
    is unknown are left out of it, bars without a row count as 0. A name whose traded value is unknown keeps
    no rule on it.

    Parameters
    ----------
    panel : a validated PANEL table

    Raises
    ------
    MarketError
        If traded value is asked for and the panel knows no volume, or no row at all keeps the rules.
    """
    measured = _measured(panel.sort("symbol", "timestamp"), settings.bars).sort(KEY)
    rules = {name: rule for name, rule in _rules(settings).items() if rule.asked is not None}
    by_value = [name for name in BY_TRADED_VALUE if name in rules]
    if by_value and len(measured) and measured["traded_value"].null_count() == len(measured):
        raise MarketError(
            f"market.universe.{by_value[0]} asks for traded value, but no volume of the panel is known. Map"
            " the column of the volume in market.columns, or ask for something else, such as"
            " market.universe.min_listed_bars."
        )
    kept = measured.with_columns(
        pl.all_horizontal(pl.lit(True), *(rule.kept for rule in rules.values())).alias("tradable")
    )
    if len(kept) and not kept["tradable"].any():
        raise MarketError(_nothing_left(measured, rules))
    return kept.select(*UNIVERSE.columns)


def described(universe: pl.DataFrame) -> str:
    """How much of a UNIVERSE table can be traded, in words."""
    if universe.is_empty() or universe["tradable"].all():
        return f"all {len(universe):,} rows can be traded"
    names = universe.group_by("timestamp").agg(pl.col("tradable").sum())["tradable"]
    low, middle, high = (int(names.quantile(share, "nearest")) for share in (0.05, 0.5, 0.95))
    return (
        f"{universe['tradable'].sum():,} of {len(universe):,} rows can be traded"
        f" ({universe['tradable'].mean():.0%}); {middle} names a bar, {low} to {high} on nine bars of ten"
    )


def _measured(rows: pl.DataFrame, bars: int) -> pl.DataFrame:
    """`traded_value`, `traded_share` and `listed_bars` beside key and `close`, of rows sorted by (symbol,
    timestamp).
    """
    blocked = (
        pl.all_horizontal(pl.col(UNTRADABLE).fill_null(False))
        if set(UNTRADABLE) <= set(rows.columns)
        else pl.lit(False)
    )
    close, volume = (
        pl.when(pl.col(name).is_finite() & (pl.col(name) >= 0)).then(pl.col(name))
        for name in ("close", "volume")
    )
    rows = rows.select(
        *KEY,
        "close",
        (pl.col("timestamp").rank("dense").cast(pl.Int64) - 1).alias("bar"),
        (pl.col("symbol").rank("dense").cast(pl.Int64) - 1).alias("code"),
        (close * volume).alias("value"),
        (close.is_not_null() & ~blocked & (volume.is_null() | (volume > 0))).alias("traded"),
    ).with_columns((pl.col("bar") - pl.col("bar").min().over("symbol") + 1).alias("listed_bars"))
    if rows.is_empty():
        return rows.with_columns(traded_value=pl.col("value"), traded_share=pl.col("value"))
    known = rows["value"].is_not_null().to_numpy()
    each = np.stack(
        [rows["value"].fill_null(0.0).to_numpy(), known, ~known, rows["traded"].to_numpy()]
    ).astype(float)
    value, n_known, n_unknown, n_traded = _window_sums(each, rows["code"], rows["bar"], bars)
    span = np.minimum(rows["listed_bars"].to_numpy(), bars)
    mean = np.where(n_known > 0, value / np.maximum(span - n_unknown, 1), np.nan)
    return rows.with_columns(
        pl.Series("traded_value", mean).fill_nan(None), pl.Series("traded_share", n_traded / span)
    )


def _window_sums(values: np.ndarray, code: pl.Series, bar: pl.Series, bars: int) -> np.ndarray:
    """Sums over the last `bars` bars of a row's symbol; `values` (kinds, rows), sorted by symbol and bar.

    Each window is added up by itself: differences of running totals would leave crumbs of other symbols.
    """
    place = (code * (bar.max() + bars + 1) + bar).to_numpy()
    starts = np.searchsorted(place, place - bars + 1)
    edges = np.column_stack([starts, np.arange(1, len(place) + 1)]).ravel()
    padded = np.concatenate([values, np.zeros((len(values), 1))], axis=1)
    return np.add.reduceat(padded, edges, axis=1)[:, ::2]


def _rules(settings: UniverseSettings) -> dict[str, Rule]:
    """Every rule by the name of its setting."""
    value = pl.col("traded_value")
    place = value.rank("min", descending=True).over("timestamp")
    names, share = settings.most_traded_names, settings.most_traded_share
    # Names of one traded value stay or go together; at least one name of a bar stays.
    room = pl.max_horizontal((share or 1) * value.count().over("timestamp"), pl.lit(1.0)) + 1e-9
    return {
        "min_traded_value": _at_least("traded_value", settings.min_traded_value),
        "most_traded_names": Rule(names, (place <= (names or 0)) & (value > 0)),
        "most_traded_share": Rule(share, (place <= room) & (value > 0)),
        "min_price": _at_least("close", settings.min_price),
        "min_traded_share": _at_least("traded_share", settings.min_traded_share),
        "min_listed_bars": _at_least("listed_bars", settings.min_listed_bars),
    }


def _at_least(name: str, asked: float | None) -> Rule:
    return Rule(asked, pl.col(name).cast(pl.Float64).fill_nan(None) >= pl.lit(asked, dtype=pl.Float64))


def _nothing_left(measured: pl.DataFrame, rules: dict[str, Rule]) -> str:
    """Why no row is left: how many rows keep each rule, and how large each figure gets."""
    counts = measured.select(rule.kept.sum().alias(name) for name, rule in rules.items()).row(0)
    kept = ", ".join(
        f"{name} = {rule.asked:g} is kept by {count:,}"
        for (name, rule), count in zip(rules.items(), counts, strict=True)
    )
    figures = ("traded_value", "close", "traded_share", "listed_bars")
    largest = ", ".join(
        f"{name} {value:.6g}" for name in figures if (value := measured[name].max()) is not None
    )
    return (
        f"market.universe: none of {len(measured):,} rows can be traded. Of its rules {kept} rows; largest"
        f" found: {largest}. Ask for less."
    )
