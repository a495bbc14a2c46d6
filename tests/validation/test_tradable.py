"""Bars in which no order could be filled are marked, on the right side; thin, flat and volumeless bars that
could be traded are not.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import PANEL, RAW_PANEL, UNTRADABLE, check_table
from components.market.errors import MarketError
from components.market.limits import add_price_limit
from components.validation.config import Settings
from components.validation.examine import examine
from components.validation.validate import validate_panel

START = datetime(2021, 3, 1, 7, tzinfo=UTC)
BARS = 120


def market(seed: int = 0, symbols: int = 6, tick: float | None = None) -> pl.DataFrame:
    """A RAW_PANEL of daily bars with volume."""
    rng = np.random.default_rng(seed)
    shape = (BARS, symbols)
    close = 20 * np.exp(np.cumsum(rng.normal(0, 0.015, shape), axis=0))
    opened = close * np.exp(rng.normal(0, 0.004, shape))
    wick = np.exp(np.abs(rng.normal(0, 0.004, (2, *shape))))
    high, low = np.maximum(opened, close) * wick[0], np.minimum(opened, close) / wick[1]
    prices = {"open": opened, "high": high, "low": low, "close": close}
    if tick:
        prices = {name: np.maximum(np.round(value / tick), 1) * tick for name, value in prices.items()}
    times = np.repeat([START + timedelta(days=bar) for bar in range(BARS)], symbols)
    frame = pl.DataFrame(
        {
            "timestamp": times.tolist(),
            "symbol": [f"{300000 + number}.SZ" for number in range(symbols)] * BARS,
            "period": "1d",
            "event_time": (times - timedelta(hours=6)).tolist(),
            "known_time": times.tolist(),
            **{name: value.ravel() for name, value in prices.items()},
            "volume": np.round(1e6 * np.exp(rng.normal(0, 0.3, BARS * symbols))),
            "sector": None,
        }
    )
    frame = frame.with_columns(pl.col("sector").cast(pl.String)).cast(dict(RAW_PANEL.columns))
    return check_table(frame.select(*RAW_PANEL.columns), RAW_PANEL)


def at(number: int, *bars: int) -> pl.Expr:
    moments = [START + timedelta(days=bar) for bar in bars]
    return (pl.col("symbol") == f"{300000 + number}.SZ") & pl.col("timestamp").is_in(moments)


def one_price(frame: pl.DataFrame, where: pl.Expr, move: float, **values) -> pl.DataFrame:
    """Bars of one price, `move` away from the symbol's previous close; later prices follow it."""
    frame = frame.sort("symbol", "timestamp")
    before = pl.col("close").shift(1).over("symbol")
    factor = pl.when(where).then(before * (1 + move) / pl.col("close")).otherwise(1.0)
    later = frame.with_columns(factor.alias("factor")).with_columns(
        pl.col("factor").cum_prod().over("symbol")
    )
    later = later.with_columns(pl.col(name) * pl.col("factor") for name in ("open", "high", "low", "close"))
    flat = {name: pl.when(where).then("close").otherwise(name) for name in ("open", "high", "low")}
    changed = {name: pl.when(where).then(value).otherwise(name) for name, value in values.items()}
    return later.with_columns(**flat, **changed).drop("factor").sort("timestamp", "symbol")


def marked(frame: pl.DataFrame, **overrides) -> dict[str, set[tuple[str, int]]]:
    """Symbol and bar of each mark in the clean panel."""
    panel = validate_panel(frame, Settings(**overrides)).panel
    check_table(panel, PANEL)
    return {
        name: {
            (row["symbol"], (row["timestamp"] - START).days) for row in panel.filter(pl.col(name)).to_dicts()
        }
        if name in panel.columns
        else set()
        for name in UNTRADABLE
    }


def reasons(frame: pl.DataFrame) -> dict[str, int]:
    return dict(examine(frame, Settings()).findings["reason"].value_counts().rows())


@pytest.mark.parametrize("bars", [(40,), (40, 41, 42), (7, 90)])
def test_suspended_days_fill_neither_side(bars):
    frame = market()
    for bar in bars:
        frame = one_price(frame, at(2, bar), 0.0, volume=0.0)
    expected = {("300002.SZ", bar) for bar in bars}
    assert marked(frame) == {"unbuyable": expected, "unsellable": expected}
    assert reasons(frame) == {"not_tradable": len(bars)}


@pytest.mark.parametrize(("limit", "move"), [(0.1, 0.1), (0.1, 0.0984), (0.05, 0.0512), (0.15, 0.15)])
def test_a_day_locked_at_its_limit_fills_one_side(limit, move):
    frame = one_price(one_price(market(), at(1, 50), move), at(3, 60), -move)
    frame = add_price_limit(frame, limit)
    assert marked(frame) == {"unbuyable": {("300001.SZ", 50)}, "unsellable": {("300003.SZ", 60)}}


@pytest.mark.parametrize("move", [0.05, 0.07, 0.1, 0.3])
def test_a_jump_at_one_price_is_locked_where_no_limit_is_known(move):
    frame = one_price(one_price(market(), at(1, 50, 51), move), at(3, 60), -move)
    locked = {"unbuyable": {("300001.SZ", 50), ("300001.SZ", 51)}, "unsellable": {("300003.SZ", 60)}}
    assert marked(frame) == locked
    traded = frame.with_columns(pl.when(at(1, 50)).then(pl.col("low") * 0.99).otherwise("low").alias("low"))
    assert marked(traded) == locked | {"unbuyable": {("300001.SZ", 51)}}
    known = marked(add_price_limit(frame, {"300001": 0.4, "": move}))
    assert known == {"unbuyable": set(), "unsellable": {("300003.SZ", 60)}}


def test_a_listing_that_opens_locked_day_after_day_can_not_be_bought():
    frame = one_price(market(), at(5, *range(110, 120)), 0.1).filter(~at(5, *range(109)))
    assert marked(frame, min_coverage=0.01)["unbuyable"] == {("300005.SZ", bar) for bar in range(110, 120)}


@pytest.mark.parametrize("without", [pl.col("symbol") == "300002.SZ", pl.col("timestamp").dt.year() == 2021])
def test_a_source_without_ranges_says_nothing_of_locks(without):
    """A symbol of closes alone beside others, and a year of closes alone before one with ranges."""
    later = market(1).with_columns(
        pl.col("timestamp", "event_time", "known_time").dt.offset_by("1y"),
        *(pl.col(name) * 1.5 for name in ("open", "high", "low", "close")),
    )
    frame = pl.concat([one_price(market(), at(2, 50), 0.1), later])
    bare = [pl.when(without).then("close").otherwise(name).alias(name) for name in ("open", "high", "low")]
    assert marked(frame)["unbuyable"] == {("300002.SZ", 50)}
    assert marked(frame.with_columns(bare))["unbuyable"] == set()


def test_limits_differ_by_the_beginning_of_the_symbol_and_by_row():
    frame = one_price(one_price(market(), at(1, 50), 0.1), at(3, 60), 0.1)
    by_start = add_price_limit(frame, {"": 0.2, "300001": 0.1})
    assert marked(by_start)["unbuyable"] == {("300001.SZ", 50)}
    by_row = frame.with_columns(pl.when(at(3, 60)).then(0.1).alias("price_limit"))
    assert marked(add_price_limit(by_row, {"": 0.2}))["unbuyable"] == {("300003.SZ", 60)}


def test_a_column_of_limit_prices_is_refused():
    with pytest.raises(MarketError, match=r"price_limit.*22\.5.*300000"):
        add_price_limit(market().with_columns(price_limit=pl.lit(22.5)), None)


def thin(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.when(at(2, *range(BARS))).then(3.0).otherwise("volume").alias("volume"))


def flat_with_volume(frame: pl.DataFrame) -> pl.DataFrame:
    return one_price(one_price(frame, at(2, 30, 70), 0.0), at(4, 50), 0.03)


def without_volume(frame: pl.DataFrame) -> pl.DataFrame:
    """No volume at all, and some hours at one price."""
    return one_price(frame, at(2, 30, 70), 0.0).with_columns(pl.lit(None, pl.Float64).alias("volume"))


def zero_everywhere(frame: pl.DataFrame) -> pl.DataFrame:
    return one_price(frame, at(2, 30, 70), 0.0).with_columns(volume=pl.lit(0.0))


def one_symbol_without_volume(frame: pl.DataFrame) -> pl.DataFrame:
    """An index beside its stocks: its volume is 0 throughout."""
    return one_price(frame, at(2, 30, 70), 0.0, volume=0.0).with_columns(
        pl.when(at(2, *range(BARS))).then(0.0).otherwise("volume").alias("volume")
    )


def volume_that_comes_late(frame: pl.DataFrame) -> pl.DataFrame:
    """A source that writes 0 for the first half."""
    return one_price(frame, at(2, 30), 0.0).with_columns(
        pl.when(at(2, *range(60))).then(0.0).otherwise("volume").alias("volume")
    )


@pytest.mark.parametrize(
    "alike",
    [
        thin,
        flat_with_volume,
        without_volume,
        zero_everywhere,
        one_symbol_without_volume,
        volume_that_comes_late,
    ],
)
def test_bars_that_could_be_traded_stay_unmarked(alike):
    frame = add_price_limit(alike(market()), 0.1)
    panel = validate_panel(frame, Settings(zero_volume="keep")).panel
    assert not set(UNTRADABLE) & set(panel.columns)
    assert "price_limit" not in panel.columns


def test_an_hour_without_a_trade_stays_in_the_panel():
    frame = market()
    for bar in range(20, 100, 8):
        frame = one_price(frame, at(2, bar), 0.0, volume=0.0)
    found = validate_panel(frame, Settings())
    assert len(found.panel) == len(frame)
    assert found.panel["unbuyable"].sum() == 10
    assert not found.failures


@pytest.mark.parametrize("size", [0.05, 0.1, 0.15])
def test_many_days_at_one_price_and_one_size_ask_for_the_limit_they_show(size):
    frame = market()
    for number, bar in enumerate(range(20, 80, 10)):
        frame = one_price(frame, at(number, bar), size * (-1) ** number)
    assert reasons(add_price_limit(frame, 0.2)) == {"one_price_jump": 6}
    assert reasons(add_price_limit(frame, size)) == reasons(frame) == {"not_tradable": 6}


def test_jumps_of_many_sizes_or_of_few_ticks_ask_for_nothing():
    frame = market()
    for number, bar in enumerate(range(20, 80, 10)):
        frame = one_price(frame, at(number, bar), 0.04 + 0.03 * number)
    assert "one_price_jump" not in reasons(frame)
    cents = market(tick=2.0)
    assert "one_price_jump" not in reasons(cents)
