"""Normalisation: numbers by hand, the shift by one bar, and slow oracles for rank and robust score."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from components.features.normalise import (
    LARGEST_SCORE,
    against_own_past,
    cross_sectional_ranks,
    rolling_robust,
)

DAY = [1] * 5 + [2] * 3 + [3] * 6


def ranks(values, day) -> list:
    time = pl.Series(day, dtype=pl.Int64).rle_id().to_numpy()
    return cross_sectional_ranks(pl.DataFrame({"x": pl.Series(values, dtype=pl.Float32)}), ["x"], time)[
        "x_rank"
    ].to_list()


def scores(method: str, values, window: int) -> list:
    return against_own_past(pl.DataFrame({"x": pl.Series(values, dtype=pl.Float32)}), ["x"], method, window)[
        f"x_{method}"
    ].to_list()


def test_ranks_by_hand():
    # Five values, two of them equal: places 0, 1.5, 1.5, 3, 4 of 4. Three values are too few. Five of six are
    # known.
    values = [3.0, 1.0, 2.0, 2.0, 9.0, 5.0, 6.0, 7.0, 1.0, None, 2.0, -1.0, float("inf"), -5.0]
    assert ranks(values, DAY) == [
        0.25,
        -0.5,
        -0.125,
        -0.125,
        0.5,
        0.0,
        0.0,
        0.0,
        0.0,
        None,
        0.25,
        -0.25,
        0.5,
        -0.5,
    ]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ranks_agree_with_scipy(data):
    number = st.one_of(
        st.none(),
        st.sampled_from([0.0, -0.0, 1.0, -1.0]),
        st.floats(-1048576, 1048576, width=32, allow_subnormal=False),
    )
    days = data.draw(st.lists(st.lists(number, min_size=1, max_size=12), min_size=1, max_size=6))
    flat, labels = [x for day in days for x in day], [d for d, day in enumerate(days) for _ in day]
    expected = []
    for day in days:
        known = [x for x in day if x is not None]
        place = iter(rankdata(known) - 1 if known else [])
        expected += [
            None if x is None else (next(place) / (len(known) - 1) - 0.5 if len(known) >= 5 else 0.0)
            for x in day
        ]
    got = ranks(flat, labels)
    assert [x is None for x in got] == [x is None for x in expected]
    assert [x for x in got if x is not None] == pytest.approx(
        [x for x in expected if x is not None], abs=1e-6
    )


def test_an_empty_table_and_a_single_row_are_ranked():
    assert ranks([], []) == []
    assert ranks([4.0], [1]) == [0.0]


def test_the_present_bar_is_no_part_of_its_own_scale():
    # Past 1, 2, 3, 4: mean 2.5, standard deviation 1.290994; the present 10 scores 7.5 / 1.290994 = 5.809475.
    assert scores("zscore", [1.0, 2.0, 3.0, 4.0, 10.0], 4)[-1] == pytest.approx(5.809475, rel=1e-6)
    # Range of the past 3, middle 2.5.
    assert scores("minmax", [1.0, 2.0, 3.0, 4.0, 10.0], 4)[-1] == pytest.approx(2.5)
    # Median 2.5, deviations 1.5, 0.5, 0.5, 1.5: MAD 1, times 1.4826.
    assert scores("robust", [1.0, 2.0, 3.0, 4.0, 10.0], 4)[-1] == pytest.approx(7.5 / 1.4826, rel=1e-6)


@pytest.mark.parametrize("method", ["zscore", "minmax", "robust"])
def test_scores_of_flat_and_wild_series(method):
    assert scores(method, [0.1] * 60 + [0.2], 48)[-1] is None
    noise = np.random.default_rng(0).standard_normal(60).tolist()
    assert scores(method, [*noise, 1e6], 48)[-1] == LARGEST_SCORE
    assert scores(method, [*noise, None], 48)[-1] is None


def test_robust_score_agrees_with_a_loop_over_windows():
    rng = np.random.default_rng(2)
    values = rng.standard_normal(400)
    values[rng.random(400) < 0.1] = np.nan
    got = rolling_robust(values, 48)
    for t in range(48, 400):
        past = values[t - 48 : t]
        centre = np.nanmedian(past)
        mad = np.nanmedian(np.abs(past - centre))
        expected = np.clip((values[t] - centre) / (1.4826 * mad), -LARGEST_SCORE, LARGEST_SCORE)
        assert got[t] == pytest.approx(expected, rel=1e-9, nan_ok=True)
    assert np.isnan(got[:48]).all()
