"""The parts of mining: ranks, functions, the sample's split, the choice of inputs, and the limits
of a gain.
"""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from components.features import formulas as declared
from components.mining import functions
from components.mining.config import Settings
from components.mining.judge import corrected_limits
from components.mining.ranks import unit_ranks, unit_values
from components.mining.sample import MiningError, Part, draw_sample
from components.mining.search import strongest_inputs
from tests.mining.mined_market import HORIZON, TARGET, TIMELINE, mined_market

VALUES = st.one_of(st.floats(-1e12, 1e12), st.sampled_from([0.0, 1e-10, -1e-10, 1e-9, 1.0, float("nan")]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=30))
def test_functions_are_those_of_the_features_stage(pairs):
    """The same formula has the same values where it is mined and where it is declared."""
    left, right = (np.array(side) for side in zip(*pairs, strict=True))
    table = pl.DataFrame({"a": left, "b": right})
    assert functions.SMALLEST == declared.SMALLEST
    assert {name: arity for name, (arity, _) in functions.FUNCTIONS.items()} == {
        name: arity for name, (arity, _) in declared.FUNCTIONS.items()
    }
    for name, (arity, function) in functions.FUNCTIONS.items():
        with np.errstate(all="ignore"):
            mined = function(*(left, right)[:arity])
        built = (
            table.select(
                declared.parse_formula(f"{name}({'a, b' if arity == 2 else 'a'})").expression.alias("value")
            )["value"]
            .fill_null(np.nan)
            .to_numpy()
        )
        np.testing.assert_allclose(
            np.where(np.isfinite(mined), mined, np.nan), built, rtol=1e-14, err_msg=name
        )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.5, -3.0, float("nan"), float("inf")]), min_size=1, max_size=12),
        min_size=1,
        max_size=5,
    )
)
def test_ranks_agree_with_scipy(bars):
    starts = np.concatenate([[0], np.cumsum([len(bar) for bar in bars])])
    found = unit_ranks(np.concatenate(bars), starts)
    for bar, first, last in zip(bars, starts[:-1], starts[1:], strict=True):
        values = np.array(bar)
        finite = np.isfinite(values)
        expected = np.zeros(len(values))
        if finite.sum() >= 5 and np.ptp(values[finite]) > 0:
            ranks = rankdata(values[finite])
            expected[finite] = (ranks - ranks.mean()) / np.linalg.norm(ranks - ranks.mean())
        np.testing.assert_allclose(found[first:last], expected, atol=1e-12)


def test_unit_values_by_hand():
    found = unit_values(np.array([1.0, 3.0, 5.0, 5.0]), np.array([0, 2, 4]))
    np.testing.assert_allclose(found, [-np.sqrt(0.5), np.sqrt(0.5), 0, 0])


@pytest.fixture(scope="module")
def null_market():
    return mined_market(0.0, 1, symbols=40, bars=500)


def sample_of(market, **changes):
    return draw_sample(
        market,
        Settings(**changes),
        TIMELINE,
        horizon=HORIZON,
        target=TARGET,
    )


def test_the_parts_lie_in_the_validation_window_with_a_gap_between(null_market):
    """500 bars: validation is bars 200 to 399; labels of 394 and later end in the test window, so 194 bars
    are usable, 77 of them held out, 16 purged.
    """
    sample = sample_of(null_market)
    calendar = null_market.training_set["timestamp"].unique().sort()
    assert sample.mining.timestamps.to_list() == calendar[200:301].to_list()
    assert sample.holdout.timestamps.to_list() == calendar[317:394].to_list()
    assert "weekday" not in sample.columns
    assert len(sample.columns) == 11
    assert sum(sample.weights.values()) == pytest.approx(1)


def test_a_window_that_is_too_short_is_said_not_mined(null_market):
    sample = sample_of(null_market, min_holdout_bars=100)
    assert (sample.mining, sample.holdout) == (None, None)
    assert "77 bars, fewer than mining.min_holdout_bars=100" in sample.note
    assert "fewer than the 240 that 10 folds need" in sample_of(null_market, folds=10).note


def test_unknown_experts_and_targets_are_refused(null_market):
    with pytest.raises(MiningError, match=r"'ghost'.*ridge_heavy, ridge_light"):
        sample_of(null_market, experts=("ghost",))
    with pytest.raises(MiningError, match="no column 'profit'"):
        draw_sample(
            null_market,
            Settings(),
            TIMELINE,
            horizon=HORIZON,
            target="profit",
        )


def test_the_stackers_own_scores_do_not_count(null_market):
    stack = null_market.predictions.filter(pl.col("expert") == "ridge_light").with_columns(
        pl.lit("stack").alias("expert"), pl.col("score") * -1
    )
    predictions = pl.concat(
        [null_market.predictions, stack, stack.with_columns(pl.lit("z_elasticnet").alias("expert"))]
    )
    sample = draw_sample(
        replace(null_market, predictions=predictions),
        Settings(),
        TIMELINE,
        horizon=HORIZON,
        target=TARGET,
    )
    np.testing.assert_array_equal(sample.mining.stack, sample_of(null_market).mining.stack)


def test_strongest_inputs_finds_a_pair_that_neither_input_shows():
    generator = np.random.default_rng(3)
    starts = np.arange(0, 3_001, 50)
    inputs = generator.uniform(-0.5, 0.5, (3_000, 12))
    inputs[::17, 5] = np.nan
    target = unit_values(
        np.nan_to_num(inputs[:, 2] * inputs[:, 9]) + 0.05 * generator.standard_normal(3_000), starts
    )
    part = Part(pl.Series(range(60)), pl.Series(["A"] * 3_000), starts, target, target, target, inputs)
    assert strongest_inputs(part, target, 2).tolist() == [2, 9]
    ranks = np.stack([unit_ranks(column, starts) for column in inputs.T], axis=1) * np.sqrt(50)
    products = np.array(
        [[abs((ranks[:, i] * ranks[:, j] * target).sum()) for j in range(12)] for i in range(12)]
    ).max(axis=1)
    expected = np.argsort(-np.maximum(products, np.abs(ranks.T @ target)))[:5]
    assert strongest_inputs(part, target, 5).tolist() == sorted(expected.tolist())


def test_the_limit_of_a_gain_is_kept_over_many_series_without_gain():
    """Means of five neighbours, 100 bars, level 0.05: the limit lies above 0 in about 1 of 20, the plain
    percentile limit in more than 1 of 13.
    """
    generator = np.random.default_rng(0)
    series = [np.convolve(generator.standard_normal(104), np.ones(5), "valid") for _ in range(400)]
    level = Settings(significance=0.05, bootstrap_draws=400)
    above = np.mean(
        [
            corrected_limits(values, tries=1, settings=level, horizon=5, seed=k)[0] > 0
            for k, values in enumerate(series)
        ]
    )
    assert 0.01 < above < 0.075
    shared = np.mean(
        [
            corrected_limits(values, tries=10, settings=level, horizon=5, seed=k)[0] > 0
            for k, values in enumerate(series)
        ]
    )
    assert shared < 0.02


def test_more_tries_lower_the_limit_and_a_short_series_has_none():
    gains = 0.02 + 0.05 * np.random.default_rng(1).standard_normal(100)
    limits = [
        corrected_limits(gains, tries=tries, settings=Settings(), horizon=5, seed=0) for tries in (1, 5, 50)
    ]
    assert limits[0][0] > limits[1][0] > limits[2][0]
    assert limits[0][1] < limits[2][1]
    assert corrected_limits(gains[:19], tries=1, settings=Settings(), horizon=5, seed=0) == (-np.inf, np.inf)
