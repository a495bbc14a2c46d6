"""Whether two panels are of one market: told by prices, whatever the names, and never mixed with another."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from components.contracts.documents.market_sketch import MarketSketch
from components.metrics import market_sketch, same_market
from components.metrics.sketches import SIZE

BEGIN = datetime(2021, 1, 4, tzinfo=UTC)


def market(seed: int, bars: int = 300, names: int = 40, deviation: float = 0.02, tick: float = 0.0):
    """A panel of random walks; with a tick, of penny stocks whose prices move by whole ticks."""
    random = np.random.default_rng(seed)
    close = random.uniform(0.3, 3, names) * np.exp(
        np.cumsum(random.normal(0, deviation, (bars, names)), axis=0)
    )
    if tick:
        close = np.maximum(np.round(close / tick), 1) * tick
    moments = [BEGIN + timedelta(days=day) for day in range(bars)]
    return pl.DataFrame(
        {
            "timestamp": pl.Series(np.repeat(np.array(moments, dtype="datetime64[us]"), names)).cast(
                pl.Datetime("us", "UTC")
            ),
            "symbol": [f"S{number:03d}" for number in range(names)] * bars,
            "close": close.ravel(),
        }
    )


def half_of_it(panel):
    return panel.filter(pl.col("symbol") < "S010")


def other_names(panel):
    return panel.with_columns("X" + pl.col("symbol").str.reverse()).sort("timestamp", "symbol")


def loaded_anew(panel):
    """Adjusted for later splits, and rounded otherwise."""
    noise = np.random.default_rng(9).normal(0, 1e-8, len(panel))
    return panel.with_columns(pl.col("close") * (0.25 + noise))


def later_bars(panel):
    return panel.filter(pl.col("timestamp") >= BEGIN + timedelta(days=220))


@pytest.mark.parametrize("change", [half_of_it, other_names, loaded_anew, later_bars, lambda panel: panel])
@pytest.mark.parametrize("tick", [0.0, 0.01])
def test_the_same_prices_are_the_same_market(change, tick):
    panel = market(1, tick=tick)
    one, other = market_sketch(panel), market_sketch(change(panel))
    assert same_market(one, other) is True
    assert same_market(other, one) is True


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"tick": 0.01},
        {"names": 1},
        {"names": 400},
        {"names": 400, "deviation": 0.0004},  # minute by minute
        {"names": 400, "tick": 0.001},
    ],
)
def test_another_market_of_the_same_days_and_names_is_another(about):
    one, other = market_sketch(market(1, **about)), market_sketch(market(2, **about))
    assert same_market(one, other) is False


def test_nothing_is_told_without_common_bars_or_changes():
    panel = market(1)
    whole, begin = (
        market_sketch(panel),
        market_sketch(panel.filter(pl.col("timestamp") < datetime(2021, 1, 9, tzinfo=UTC))),
    )
    assert same_market(market_sketch(later_bars(panel)), begin) is None
    assert same_market(whole, MarketSketch()) is None
    assert market_sketch(panel.with_columns(close=pl.lit(3.0))) == MarketSketch()
    assert market_sketch(panel.clear()) == MarketSketch()


def test_a_sketch_is_a_sample_that_any_machine_draws_alike():
    found = market_sketch(market(1))
    assert len(found.hashes) == len(found.seconds) == SIZE
    assert not found.whole
    assert list(found.hashes) == sorted(set(found.hashes))
    assert found == market_sketch(market(1).sample(fraction=1.0, shuffle=True, seed=3))
    few = market_sketch(market(1, bars=6, names=3))
    assert few.whole
    # The hash of one pair, computed with Python's integers.
    rows = market(1, bars=3, names=1)
    value, close = 0, rows["close"].to_list()
    steps = [
        round(float(np.log(late / early)) * 1e6)
        for early, late in ((close[1], close[2]), (close[0], close[1]))
    ]
    for number in (int(rows["timestamp"][2].timestamp()) * 1_000_000, *steps):
        value = ((value ^ (number % 2**64)) + 0x9E3779B97F4A7C15) % 2**64
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % 2**64
        value ^= value >> 31
    assert market_sketch(rows).hashes == (value >> 1,)


@pytest.mark.parametrize(
    ("hashes", "seconds", "words"),
    [
        ([1, 2, 3], [10, 20], "3 hashes, but 2 seconds"),
        ([], [10], "0 hashes, but 1 seconds"),
        ([2, 1], [10, 20], "do not rise"),
        ([1, 1], [10, 20], "do not rise"),
        ([-5, 1], [10, 20], "do not rise from 0"),
    ],
)
def test_a_damaged_sketch_is_refused_when_it_is_read(hashes, seconds, words):
    whole = MarketSketch(hashes=(0, 2), seconds=(20, 10)).model_dump(mode="json")
    assert MarketSketch.model_validate_json(json.dumps(whole)).hashes == (0, 2)
    with pytest.raises(ValidationError, match=words):
        MarketSketch.model_validate_json(json.dumps(whole | {"hashes": hashes, "seconds": seconds}))
