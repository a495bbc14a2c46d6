"""The head and the band: numbers worked out by hand, and what always holds."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.experts.bands import Bands, fit_bands
from components.experts.errors import ExpertError
from components.experts.rows import Stopper, target


def rows(labels, *, volatility=None, per_bar=1) -> pl.DataFrame:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "timestamp": [start + timedelta(days=i // per_bar) for i in range(len(labels))],
            "symbol": [f"S{i % per_bar}" for i in range(len(labels))],
            "label": pl.Series(labels, dtype=pl.Float64),
            "volatility_20": pl.Series(
                volatility if volatility is not None else [1.0] * len(labels), dtype=pl.Float32
            ),
        }
    )


def test_an_exact_line_is_found():
    bands = fit_bands(rows([1.0, 3.0, 5.0, 7.0]), np.array([0.0, 1.0, 2.0, 3.0]), horizon=1)
    assert (bands.head_scale, bands.head_bias) == pytest.approx((2.0, 1.0))
    assert (bands.low, bands.high) == pytest.approx((0.0, 0.0), abs=1e-12)


def test_band_is_the_outer_tenth_in_units_of_volatility():
    labels = np.arange(
        -9.0, 10.0
    )  # 19 residuals: floor(0.1 * 20) = 2, so the second smallest and the second largest
    bands = fit_bands(rows(labels * 2, volatility=[2.0] * 19), np.zeros(19), horizon=1, calibrate=False)
    assert (bands.low, bands.middle, bands.high) == (-8.0, 0.0, 8.0)
    found = bands.predictions(rows([0.0], volatility=[0.5]), np.array([1.0]))
    assert found.select("p10", "p50", "p90").row(0) == (-3.0, 1.0, 5.0)
    assert found["uncertainty"][0] == pytest.approx(8.0 / 2.563)


def test_slope_shrinks_by_its_t_statistic():
    # raw -1, 1, -1, 1 and labels -2, 1, 0, 1: slope 1, residuals -1, 0, 1, 0, clustered error^2 = (1 + 1) /
    # 16, t^2 = 8
    bands = fit_bands(rows([-2.0, 1.0, 0.0, 1.0]), np.array([-1.0, 1.0, -1.0, 1.0]), horizon=1)
    assert bands.head_scale == pytest.approx(8 / 9)
    assert fit_bands(
        rows([-2.0, 1.0, 0.0, 1.0]), np.array([-1.0, 1.0, -1.0, 1.0]), horizon=4
    ).head_scale == pytest.approx(2 / 3)


def test_an_inverted_head_keeps_its_ranks_at_next_to_no_size():
    raw = np.array([3.0, 1.0, 2.0, 0.0])
    bands = fit_bands(rows([0.0, 2.0, 1.0, 3.0]), raw, horizon=1)
    score = bands.predictions(rows([0.0] * 4), raw)["score"].to_numpy()
    assert np.array_equal(np.argsort(score), np.argsort(raw))
    assert score.std() == pytest.approx(1e-3 * np.std([0.0, 2.0, 1.0, 3.0]))


def test_labels_whose_squares_are_zero_still_give_a_head():
    bands = fit_bands(rows([0.0, -2.25e-281]), np.array([0.0, -1.0]), horizon=3)
    assert bands.head_scale > 0
    assert np.isfinite([bands.head_bias, bands.low, bands.high]).all()


def test_no_label_is_refused():
    with pytest.raises(ExpertError, match="no early-stopping row has a label"):
        fit_bands(rows([None, None]), np.zeros(2), horizon=1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-1, 1), st.floats(-5, 5), st.floats(0, 1, width=32)), min_size=1, max_size=40
    )
)
def test_bands_never_cross_and_scores_never_flip(values):
    labels, raw, volatility = (list(column) for column in zip(*values, strict=True))
    frame = rows(labels, volatility=volatility)
    bands = fit_bands(frame, np.array(raw), horizon=3)
    found = bands.predictions(frame, np.array(raw))
    assert bands.head_scale > 0
    assert ((found["p10"] <= found["p50"]) & (found["p50"] <= found["p90"])).all()
    assert (found["uncertainty"] >= 0).all()
    assert Bands.from_dict(bands.to_dict()) == bands


def test_cross_sectional_target_by_hand():
    found = target(rows([1.0, 2.0, 3.0, 7.0, 7.0, 7.0], per_bar=3), "zscore")
    overall = np.std([1.0, 2.0, 3.0, 7.0, 7.0, 7.0])
    np.testing.assert_allclose(found, [-1.0, 0.0, 1.0, *[min(7 / overall, 4.0)] * 3])


def test_stopper_keeps_the_best_round():
    stopper = Stopper(patience=2, fewest_rounds=1)
    assert [stopper.update(value) for value in (3.0, 1.0, 2.0, 1.5)] == [False, False, False, True]
    assert stopper.kept_rounds == 2
    assert Stopper(patience=0, fewest_rounds=1).update(1.0) is False
