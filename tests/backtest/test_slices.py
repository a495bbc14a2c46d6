"""Figures in parts: against brute force, part by part, and against what the whole is worth."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from scipy.stats import pearsonr, spearmanr
from small_markets import long_table

from components.backtest.config import Settings
from components.backtest.engine import run_backtest
from components.backtest.fifths import liquidity
from components.backtest.paper_book import paper_book
from components.backtest.prices import Prices, market_prices
from components.backtest.slices import slices
from components.backtest.terms import Terms
from components.contracts.documents.evaluation import SliceRow
from components.metrics import (
    cost_share,
    half_width,
    hit_rate,
    max_drawdown,
    sharpe_interval,
    sharpe_ratio,
    t_value,
)

BARS, NAMES, HORIZON, YEARLY = 60, 20, 2, 252.0
KEY = ["timestamp", "symbol"]
SETTINGS = Settings(quantile=0.2, stop_loss_share=None, cost_bps_per_side=3.0)
TERMS = Terms(SETTINGS, HORIZON, YEARLY)


@dataclass(frozen=True)
class Market:
    """Scores, what happened, prices, the book, and the tables of parts by their kind."""

    predictions: pl.DataFrame
    facts: pl.DataFrame
    prices: Prices
    money: pl.DataFrame
    tables: dict[str, list[SliceRow]]


@pytest.fixture(scope="module")
def market() -> Market:
    return made(NAMES)


def made(names: int) -> Market:
    random = np.random.default_rng(2)
    shape = (BARS, names)
    steps = random.normal(0, 0.001, (2 * BARS, names))
    prices = market_prices(
        _table(*100 * np.exp(np.cumsum(steps, axis=0)).reshape(BARS, 2, names).swapaxes(0, 1))
    )
    label = random.normal(0, 1, shape)
    score = 0.3 * label + random.normal(0, 1, shape)
    score[random.random(shape) < 0.1] = np.nan
    label[random.random(shape) < 0.1] = np.nan
    value = random.lognormal(0, 1, shape)
    value[:, 3] = np.nan
    predictions = (
        long_table(score=score, p10=score - 1, p90=score + 1, uncertainty=np.ones(shape))
        .filter(pl.col("score").is_finite())
        .with_columns(pl.lit("1d").alias("period"))
    )
    day = (pl.col("timestamp").dt.ordinal_day() - 1) // 15 % 2 == 0
    size = random.lognormal(0, 2, names) * random.lognormal(0, 0.1, shape)
    size[:, 5] = np.nan
    facts = long_table(label=label, traded_value=value, market_cap=size).with_columns(
        pl.col("label", "traded_value", "market_cap").fill_nan(None),
        pl.when(pl.col("symbol") < "S08").then(pl.lit("oil")).otherwise(pl.lit("tech")).alias("sector"),
        pl.when(day).then(pl.lit("bear")).otherwise(pl.lit("bull")).alias("regime"),
    )
    money = paper_book(predictions, prices, TERMS)
    tables = {table.by: table.rows for table in slices(predictions, facts, money, TERMS)}
    return Market(predictions, facts, prices, money, tables)


def _table(opening: np.ndarray, close: np.ndarray) -> pl.DataFrame:
    return long_table(open=opening, close=close)


def pairs(market: Market) -> pl.DataFrame:
    both = market.predictions.join(market.facts, on=KEY).sort(KEY)

    def tenth(name: str) -> pl.Expr:
        place = ((pl.col(name).rank() - 0.5) / pl.col(name).count()).over("timestamp") * 10
        return place.floor().cast(pl.Int32).add(1).cast(pl.String).alias(f"{name}_tenth")

    return both.with_columns(tenth("traded_value"), tenth("market_cap"))


@pytest.mark.parametrize(
    ("by", "part"),
    [
        ("regime", pl.col("regime")),
        ("sector", pl.col("sector")),
        ("traded_value", pl.col("traded_value_tenth")),
        ("size", pl.col("market_cap_tenth")),
    ],
)
def test_skill_inside_a_part_agrees_with_brute_force(market, by, part):
    rows = pairs(market).with_columns(part.fill_null("unknown").alias("part"))
    found = {row.part: row for row in market.tables[by]}
    assert set(found) == set(rows["part"])
    for name, own in found.items():
        plain, ranked = [], []
        mine = rows.filter((pl.col("part") == name) & pl.col("label").is_not_null())
        for _, bar in mine.group_by("timestamp", maintain_order=True):
            if len(bar) >= 3:
                plain.append(pearsonr(bar["score"], bar["label"]).statistic)
                ranked.append(spearmanr(bar["score"], bar["label"]).statistic)
        assert own.rows == len(mine)
        assert own.bars == len(ranked)
        if not ranked:
            assert own.rank_ic is None
            continue
        assert own.ic == pytest.approx(np.mean(plain))
        assert own.rank_ic == pytest.approx(np.mean(ranked))
        assert own.icir == pytest.approx(np.mean(ranked) / np.std(ranked, ddof=1))
        t = t_value(np.array(ranked), horizon=HORIZON)
        reach = half_width(np.array(ranked), horizon=HORIZON, level=SETTINGS.interval_level)
        if np.isnan(t):
            assert own.rank_ic_t is None
            assert own.rank_ic_interval == (None, None)
        else:
            assert own.rank_ic_t == pytest.approx(t)
            assert own.rank_ic_interval == pytest.approx((own.rank_ic - reach, own.rank_ic + reach))
    few = [row for row in found.values() if row.bars < 32]
    assert all(row.rank_ic_t is None for row in few)
    assert few or by != "regime"


def test_skill_of_a_symbol_is_its_correlation_over_time(market):
    for row in market.tables["symbol"][:5]:
        own = pairs(market).filter((pl.col("symbol") == row.part) & pl.col("label").is_not_null())
        assert row.ic == pytest.approx(pearsonr(own["score"], own["label"]).statistic)
        assert row.rank_ic == pytest.approx(spearmanr(own["score"], own["label"]).statistic)
        inside = (own["label"] - own["score"]).abs() <= 1
        assert row.inside_p10_p90 == pytest.approx(inside.mean())
        assert row.rank_ic_t is not None


@pytest.mark.parametrize("entry", ["next_open", "next_close"])
def test_the_paper_book_is_the_engines_where_moves_are_small(market, entry):
    terms = Terms(SETTINGS.model_copy(update={"entry": entry}), HORIZON, YEARLY)
    trade = run_backtest(
        market.prices, market.predictions, terms.settings, horizon=HORIZON, bars_per_year=YEARLY
    )
    money = paper_book(market.predictions, market.prices, terms)
    paper = money.group_by("timestamp").agg(pl.col("earned", "cost", "traded").sum()).sort("timestamp")
    engine = trade.returns.sort("timestamp")
    assert len(paper) == len(engine)
    assert paper["earned"].to_numpy() == pytest.approx(engine["gross_return"].to_numpy(), abs=2e-6)
    assert paper["traded"].to_numpy() == pytest.approx(engine["turnover"].to_numpy(), abs=5e-3)


def test_the_whole_is_worth_what_the_measures_say(market):
    (whole,) = market.tables["whole"]
    bars = market.money.group_by("timestamp").agg(pl.col("earned", "cost", "traded").sum()).sort("timestamp")
    earned, cost, traded = (bars[name].to_numpy() for name in ("earned", "cost", "traded"))
    net = earned - cost
    assert whole.traded_bars == len(net) == BARS - 1
    assert whole.average_return_bps == pytest.approx(net.mean() * 1e4)
    assert whole.sharpe_net == pytest.approx(sharpe_ratio(net, bars_per_year=YEARLY))
    limits = sharpe_interval(net, level=SETTINGS.interval_level, bars_per_year=YEARLY)
    assert whole.sharpe_net_interval == pytest.approx(limits)
    assert whole.max_drawdown == pytest.approx(max_drawdown(net))
    assert whole.hit_share == pytest.approx(hit_rate(net))
    assert whole.turnover == pytest.approx(traded.mean())
    expected = cost_share(earned, cost)
    assert whole.cost_share is None if np.isnan(expected) else whole.cost_share == pytest.approx(expected)
    ratio = earned.mean() / net.std(ddof=1) * np.sqrt(YEARLY)
    assert whole.information_ratio == pytest.approx(ratio)
    assert whole.ratio_per_turnover == pytest.approx(ratio / (traded.mean() * YEARLY))


def test_the_parts_share_the_profit_among_them(market):
    (whole,) = market.tables["whole"]
    for by, rows in market.tables.items():
        assert sum(row.profit for row in rows) == pytest.approx(whole.profit), by
        assert sum(row.rows for row in rows) == whole.rows, by
    weekday = market.tables["weekday"]
    assert [row.part for row in weekday] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    assert sum(row.traded_bars for row in weekday) == whole.traded_bars
    assert [row.part for row in market.tables["traded_value"]] == [*map(str, range(1, 11)), "unknown"]
    assert "hour" not in market.tables


def test_the_least_traded_fifth_earns_what_its_names_earn(market):
    found = liquidity(market.predictions, market.facts, market.money, market.prices, TERMS)
    placed = pairs(market).filter(pl.col("traded_value_tenth").is_in(["1", "2"])).select(KEY)
    least = market.money.join(placed, on=KEY)["earned"].sum()
    profit = market.money["earned"].sum()
    expected = None if profit <= 0 else pytest.approx(least / profit)
    assert found.least_traded_profit_share == expected
    unknown = market.facts.with_columns(pl.lit(None, dtype=pl.Float64).alias("traded_value"))
    assert liquidity(market.predictions, unknown, market.money, market.prices, TERMS) is None
    tables = slices(market.predictions, unknown, market.money, TERMS)
    assert "traded_value" not in {table.by for table in tables}


def test_a_bar_that_ends_at_midnight_belongs_to_the_day_before(market):
    """The bars of the market end at 21:00."""
    later = pl.col("timestamp") + pl.duration(hours=3)
    moved = (table.with_columns(later) for table in (market.predictions, market.facts, market.money))
    tables = {table.by: table.rows for table in slices(*moved, TERMS)}
    for by in ("year", "month", "weekday"):
        found, expected = (
            [(row.part, row.rows, row.bars, row.traded_bars) for row in rows]
            for rows in (tables[by], market.tables[by])
        )
        assert found == expected


def test_hours_are_told_apart_within_the_day(market):
    hourly = market.predictions.with_columns(pl.lit("1h").alias("period"))
    tables = {table.by: table.rows for table in slices(hourly, market.facts, market.money, TERMS)}
    assert [row.part for row in tables["hour"]] == ["21"]


def test_without_market_capitalisation_there_is_no_table_by_size(market):
    facts = market.facts.with_columns(pl.lit(None, dtype=pl.Float64).alias("market_cap"))
    tables = {table.by for table in slices(market.predictions, facts, market.money, TERMS)}
    assert set(market.tables) - tables == {"size"}


def test_skill_among_small_names_alone_is_seen_by_size():
    """Planted: the scores of the smallest names are their labels, those of the others noise."""
    market = made(70)
    small = pl.col("market_cap") < pl.col("market_cap").quantile(0.15)
    noise = pl.Series(np.random.default_rng(4).normal(size=len(market.predictions)))
    planted = market.predictions.join(market.facts, on=KEY, how="left", maintain_order="left").with_columns(
        score=pl.when(small.fill_null(False) & pl.col("label").is_not_null()).then("label").otherwise(noise)
    )
    found = slices(planted.select(market.predictions.columns), market.facts, market.money, TERMS)
    by_size = {row.part: row for table in found if table.by == "size" for row in table.rows}
    assert list(by_size) == [*map(str, range(1, 11)), "unknown"]
    assert by_size["1"].rank_ic > 0.9
    assert max(abs(by_size[str(tenth)].rank_ic) for tenth in range(3, 11)) < 0.2
