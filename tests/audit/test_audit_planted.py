"""The test bench of the audit: every planted leak is caught, no honest factor is accused, and each check
earns its place.
"""

import numpy as np
import polars as pl
import pytest

from components.audit.config import Settings
from components.audit.factors import audit_factors
from components.audit.perturb import (
    ORDERS,
    file_order,
    other_future,
    shuffled_future,
    staggered_future,
    with_holes,
)
from tests.audit.clean import build_clean_library
from tests.audit.planted import NEXT, PLANTED, own

QUICK = Settings(scan_cuts=60, staggered_builds=4, warm_up_starts=0)
CLOSE = pl.col("close")


@pytest.mark.parametrize("leak", PLANTED, ids=lambda leak: leak.name)
def test_each_planted_leak_is_caught_and_only_it_is_named(leak, market, with_factor):
    def build(panel):
        return with_factor(pl.col("planted"))(leak.build(panel))

    result = audit_factors(market(0, n_bars=160, n_symbols=16), build, seed=0, settings=QUICK)
    named = {found.factor for found in result.leaks}
    assert named == {"planted"}, f"{leak.what}: {named}"


def test_there_are_planted_leaks_of_each_difficulty():
    assert len(PLANTED) >= 35
    assert {leak.difficulty for leak in PLANTED} == {"easy", "medium", "hard", "nearly invisible"}


@pytest.mark.parametrize("seed", [0, 1])
def test_no_honest_factor_of_more_than_two_hundred_is_accused(seed, market):
    result = audit_factors(
        market(seed, n_bars=200, n_symbols=12),
        build_clean_library,
        cuts=2,
        seed=seed,
        settings=Settings(guided_cuts=1, scan_cuts=6, staggered_builds=1),
    )
    assert [leak.sentence() for leak in result.leaks] == []
    assert result.unstable == []
    assert result.checked["factors"] >= 200
    assert result.checked["factors_without_values"] == []


def test_a_declared_warm_up_that_is_too_short_is_found(market, with_factor):
    build = with_factor(own(CLOSE.rolling_mean(30)), "average")
    panel = market(0)
    assert audit_factors(panel, build, seed=0, declared={"average": 30, "momentum_20": 21}).passed
    (leak,) = audit_factors(panel, build, seed=0, declared={"average": 29, "momentum_20": 21}).leaks
    assert (leak.check, leak.factor) == ("warm_up", "average")


def test_warm_up_is_measured(market, clean_factors):
    bars = {
        entry["factor"]: entry["bars"] for entry in audit_factors(market(0), clean_factors, seed=0).warm_up
    }
    assert (bars["momentum_20"], bars["average_ratio"], bars["rank_today"]) == (21, 10, 1)
    assert bars["expanding_mean"] is None
    assert 40 < bars["exponential"] < 120


def test_what_reads_the_future_from_elsewhere_shows_in_the_placebo_only(market, with_factor):
    """A function that keeps tomorrow from the whole panel is the same on every changed one: no rebuild can
    move it.
    """
    panel = market(0)
    kept = panel.select("timestamp", "symbol", own(NEXT).alias("kept"))
    noise = pl.Series(np.random.default_rng(0).normal(0, 0.02, len(panel)))

    def build(rows, strength=1.0):
        joined = rows.join(
            kept.with_columns(pl.col("kept") * strength + noise),
            on=["timestamp", "symbol"],
            how="left",
            maintain_order="left",
        )
        return with_factor(pl.col("kept"))(joined)

    found = audit_factors(panel, build, seed=0).leaks
    assert {leak.check for leak in found} <= {"placebo", "too_good"}
    assert {leak.factor for leak in found} == {"planted"}
    assert audit_factors(panel, lambda rows: build(rows, 0.0), seed=0).passed


def test_a_predictable_market_accuses_nobody(with_factor, market):
    """Where a return follows from the one before, honest factors rank like the next return, for
    one bar only.
    """
    rng = np.random.default_rng(0)
    shocks = rng.normal(0, 0.02, (261, 24))
    returns = shocks[1:] - 0.6 * shocks[:-1]
    panel = market(0)
    path = pl.DataFrame(
        {
            "timestamp": panel["timestamp"].unique().sort().gather(np.arange(260).repeat(24)),
            "symbol": [f"S{s:02d}" for s in range(24)] * 260,
            "__close": 50 * np.exp(returns.cumsum(axis=0)).ravel(),
        }
    )
    prices = (
        panel.join(path, on=["timestamp", "symbol"], how="left", maintain_order="left")
        .with_columns(pl.col("__close").alias("close"))
        .drop("__close")
    )
    assert audit_factors(prices, with_factor(own((CLOSE / CLOSE.shift(1)).log()), "reversal"), seed=0).passed


@pytest.mark.parametrize("order", ORDERS)
def test_changed_panels_keep_every_byte_up_to_the_cut_and_their_order(order, market):
    panel = market(0, n_bars=40).sort(order)
    cut = panel["timestamp"].unique().sort()[25]
    until = pl.col("timestamp") <= cut
    rng = np.random.default_rng(0)
    for changed in (
        other_future(panel, cut, rng),
        shuffled_future(panel, cut, rng, among_symbols=True),
        shuffled_future(panel, cut, rng, among_symbols=False),
    ):
        assert changed.filter(until).equals(panel.filter(until))
        assert not changed.filter(~until).equals(panel.filter(~until))
        assert file_order(changed) == order
    staggered, stays = staggered_future(panel, rng)
    assert staggered.filter(pl.Series(stays)).equals(panel.filter(pl.Series(stays)))
    assert 0.3 < stays.mean() < 0.7
    holed = with_holes(panel, cut, rng)
    assert holed.filter(~until).equals(panel.filter(~until))
    assert holed["close"].null_count() > 0


def test_a_leak_on_one_date_is_found_by_a_staggered_future(market, with_factor):
    panel = market(2)
    day = panel["timestamp"].unique().sort()[97]
    build = with_factor(
        pl.when(pl.col("timestamp") == day).then(own(NEXT) * 1e-3).otherwise(0.0)
        + own(CLOSE / CLOSE.shift(5))
    )
    settings = Settings(guided_cuts=0, scan_cuts=0, staggered_builds=40, warm_up_starts=0)
    assert audit_factors(
        panel, build, seed=1, settings=settings.model_copy(update={"staggered_builds": 0})
    ).passed
    assert {leak.timestamp for leak in audit_factors(panel, build, seed=1, settings=settings).leaks} == {day}
