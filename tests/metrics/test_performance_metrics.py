"""Sharpe ratios, drawdown, calibration and PSI: hand numbers, properties and other libraries as oracles."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_pinball_loss

from components.contracts import TIME
from components.metrics import (
    bars_per_year,
    calibration_slope,
    cost_share,
    coverage,
    hit_rate,
    horizon_adjusted_sharpe,
    information_ratio,
    long_run_variance,
    max_drawdown,
    overlap_corrected_sharpe,
    performance_summary,
    pinball_loss,
    population_stability_index,
    reliability_table,
    sharpe_interval,
    sharpe_ratio,
)
from tests.benchmarks.bench_significance import misses, sharpe_errors

RETURNS = arrays(float, st.integers(3, 60), elements=st.floats(-0.2, 0.2))


def test_sharpe_by_hand():
    # mean 0.01, sample std 0.02: 0.5 * sqrt(252).
    returns = np.array([-0.01, 0.01, 0.03])
    assert sharpe_ratio(returns, bars_per_year=252) == pytest.approx(0.5 * np.sqrt(252))
    assert horizon_adjusted_sharpe(returns, horizon=5, bars_per_year=252) == pytest.approx(
        0.5 * np.sqrt(252 / 5)
    )
    assert information_ratio(returns + 0.02, np.full(3, 0.02), bars_per_year=252) == pytest.approx(
        0.5 * np.sqrt(252)
    )


@pytest.mark.parametrize("returns", [[], [0.1], [0.01] * 5, [0.0] * 5])
def test_sharpe_without_spread_is_nan(returns):
    assert np.isnan(sharpe_ratio(np.array(returns), bars_per_year=252))


def test_sharpe_works_on_many_series():
    many = np.random.default_rng(0).normal(size=(4, 30))
    np.testing.assert_allclose(
        sharpe_ratio(many, bars_per_year=52), [sharpe_ratio(row, bars_per_year=52) for row in many]
    )


def test_overlap_correction_by_hand():
    # 100 returns have int(0.4 * 100^(2/3)) = 8 cosines; Hedges' factor of 8 is G(4) / G(3.5) * sqrt(2 / 8).
    returns = np.random.default_rng(4).normal(0.1, 1, 100)
    factor = 6 / 3.3233509704478426 * 0.5
    expected = factor * returns.mean() / np.sqrt(long_run_variance(returns, horizon=1)) * np.sqrt(252)
    assert overlap_corrected_sharpe(returns, horizon=1, bars_per_year=252) == pytest.approx(expected)


def test_overlap_correction_undoes_overlap():
    noise = np.random.default_rng(3).normal(0.05, 1, 200_000)
    overlapping = np.convolve(noise, np.ones(5), mode="valid")
    plain = sharpe_ratio(noise, bars_per_year=252)
    found = overlap_corrected_sharpe(overlapping, horizon=5, bars_per_year=252)
    assert found == pytest.approx(plain, rel=0.06)
    assert sharpe_ratio(overlapping, bars_per_year=252) > 2 * plain


@pytest.mark.parametrize(
    ("bars", "horizon", "autoregression", "overlap"),
    [
        (250, 5, 0.0, True),
        (1000, 10, 0.2, True),
        (1000, 21, 0.0, True),
        (500, 1, 0.4, True),
        (250, 5, 0.0, False),
        (500, 10, 0.4, False),
    ],
)
def test_the_corrected_sharpe_comes_nearest_the_truth(bars, horizon, autoregression, overlap):
    """The truth is 0.8; what lags of one or two horizons give lies up to 0.2 above it."""
    errors = sharpe_errors(
        bars, horizon, autoregression=autoregression, overlap=overlap, runs=3000, seed=bars + horizon
    )
    bias, spread = errors["ours"]
    assert abs(bias) < 0.06
    assert spread < 1.1 * min(errors["lags h"][1], errors["lags 2 h"][1])


@pytest.mark.parametrize("returns", [[], [0.1] * 3, [0.01] * 90, list(np.arange(31.0))])
def test_too_few_returns_have_no_corrected_sharpe_and_no_interval(returns):
    returns = np.array(returns)
    assert np.isnan(overlap_corrected_sharpe(returns, horizon=1, bars_per_year=252))
    assert np.isnan(sharpe_interval(returns, level=0.9, bars_per_year=252)).all()


@pytest.mark.parametrize("true", [0.0, 2.0])
@pytest.mark.parametrize(("bars", "horizon"), [(60, 5), (120, 21)])
def test_an_interval_misses_as_rarely_as_is_said(bars, horizon, true):
    """Above the truth in 5 % of all cases; the block bootstrap does so in 8 to 15 %."""
    found = misses(bars, horizon, true=true, autoregression=0.0, runs=600, seed=5)
    assert 0.02 <= found["ours"] <= 0.08
    assert found["bootstrap"] > found["ours"]


def test_an_interval_lies_about_the_ratio():
    returns = np.random.default_rng(9).normal(0.1, 1, 300)
    ratio = sharpe_ratio(returns, bars_per_year=252)
    low, high = sharpe_interval(returns, level=0.9, bars_per_year=252)
    assert (low + high) / 2 == pytest.approx(ratio)
    wider = sharpe_interval(returns, level=0.99, bars_per_year=252)
    assert wider[0] < low < ratio < high < wider[1]


def test_drawdown_by_hand():
    # 1.0 1.1 0.88 0.968 0.7744: from 1.1 to 0.7744.
    assert max_drawdown(np.array([0.1, -0.2, 0.1, -0.2])) == pytest.approx(1 - 0.7744 / 1.1)
    assert max_drawdown(np.array([-0.3])) == pytest.approx(0.3)
    assert max_drawdown(np.array([0.1, 0.2])) == 0.0
    assert max_drawdown(np.array([])) == 0.0


@settings(max_examples=60, deadline=None)
@given(RETURNS)
def test_drawdown_matches_a_loop_and_is_a_share(returns):
    peak = equity = 1.0
    worst = 0.0
    for value in returns:
        equity *= 1 + value
        peak = max(peak, equity)
        worst = max(worst, 1 - equity / peak)
    assert max_drawdown(returns) == pytest.approx(worst, abs=1e-12)
    assert 0 <= max_drawdown(returns) <= 1


def test_hits_and_costs_by_hand():
    assert hit_rate(np.array([0.1, -0.1, 0.0, 0.2])) == pytest.approx(2 / 3)
    assert np.isnan(hit_rate(np.zeros(3)))
    assert cost_share(np.array([0.02, -0.01]), np.array([0.001, 0.001])) == pytest.approx(0.2)
    assert np.isnan(cost_share(np.array([-0.01]), np.array([0.001])))


def test_summary_names_every_figure():
    frame = pl.DataFrame(
        {
            "gross_return": [0.02, -0.01, 0.01],
            "cost": [0.001] * 3,
            "net_return": [0.019, -0.011, 0.009],
            "turnover": [1.0, 0.5, 0.3],
            "exposure": [1.0, 1.0, 0.7],
        }
    )
    summary = performance_summary(frame, horizon=5, bars_per_year=252)
    assert summary["turnover"] == pytest.approx(0.6)
    assert summary["annual_turnover"] == pytest.approx(0.6 * 252)
    assert summary["cost_share"] == pytest.approx(0.003 / 0.02)
    assert summary["average_return_bps"] == pytest.approx(0.017 / 3 * 1e4)
    assert summary["average_exposure"] == pytest.approx(0.9)
    assert summary["max_drawdown"] == pytest.approx(0.011)
    assert performance_summary(frame.clear(), horizon=5, bars_per_year=252) == {"bars": 0}


def calendar(step: timedelta, count: int, weekends: bool = True) -> pl.Series:
    moments = [datetime(2023, 1, 2, tzinfo=UTC) + step * i for i in range(count)]
    return pl.Series([m for m in moments if weekends or m.weekday() < 5], dtype=TIME)


def sessions(count: int, hours: tuple[int, ...] = (21,), first: int = 2) -> list[datetime]:
    """Ends of bars at `hours` UTC, on `count` weekdays from January `first` of 2023 on."""
    days = (datetime(2023, 1, first, tzinfo=UTC) + timedelta(days=day) for day in range(2 * count))
    return [
        day + timedelta(hours=hour)
        for day in [day for day in days if day.weekday() < 5][:count]
        for hour in hours
    ]


def test_bars_per_year():
    assert bars_per_year("1d", calendar(timedelta(days=1), 800, weekends=False)) == 252
    assert bars_per_year("1d", calendar(timedelta(days=1), 800)) == pytest.approx(365.25)
    assert bars_per_year("1h", calendar(timedelta(hours=1), 5000)) == pytest.approx(8766)
    assert bars_per_year("4h", calendar(timedelta(hours=4), 900)) == pytest.approx(2191.5)
    assert bars_per_year("1h", pl.Series(sessions(400, tuple(range(15, 22))), dtype=TIME)) == 7 * 252


@pytest.mark.parametrize("count", [7, 8, 13, 30, 61])
def test_bars_per_year_of_a_few_daily_bars_follow_their_week(count):
    assert bars_per_year("1d", calendar(timedelta(days=1), count)) == pytest.approx(365.25)
    assert bars_per_year("1d", pl.Series(sessions(count), dtype=TIME)) == 252


@pytest.mark.parametrize(
    ("period", "stamps", "expected"),
    [
        ("1d", [], 252),
        ("1d", sessions(1), 252),
        ("1d", sessions(4), 252),
        ("1d", [datetime(2023, 1, day, tzinfo=UTC) for day in (7, 8, 9)], 365.25),
        ("1h", sessions(2, tuple(range(15, 22))), 1764),
        ("1h", [datetime(2023, 1, 2, tzinfo=UTC) + timedelta(hours=hour) for hour in range(1, 40)], 8766),
        ("4h", [], 2191.5),
    ],
)
def test_bars_per_year_of_less_than_a_week(period, stamps, expected):
    assert bars_per_year(period, pl.Series(stamps, dtype=TIME)) == pytest.approx(expected)


@pytest.mark.parametrize("year", [1900, 1970, 2022, 2062])
@pytest.mark.parametrize("count", [30, 400])
def test_one_far_off_stamp_does_not_change_bars_per_year(year, count):
    coins = [datetime(2023, 1, 3, tzinfo=UTC) + timedelta(days=day) for day in range(count)]
    for clean, expected in ((coins, 365.25), (sessions(count), 252)):
        stamps = sorted([*clean, datetime(year, 6, 15, 21, tzinfo=UTC)])
        assert bars_per_year("1d", pl.Series(stamps, dtype=TIME)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(10))
def test_holidays_half_days_gaps_and_special_sessions_leave_bars_per_year_alone(seed):
    rng = np.random.default_rng(seed)
    weeks = int(rng.integers(4, 120))
    days = sessions(5 * weeks, first=2 + int(rng.integers(5)))
    closed = rng.random(len(days)) < 9 / 261
    outage = int(rng.integers(len(days)))
    closed[outage : outage + int(rng.integers(len(days) // 4))] = True
    open_days = [day for day, shut in zip(days, closed, strict=True) if not shut]
    saturday = datetime(2023, 1, 14, 21, tzinfo=UTC)
    with_session = sorted([*open_days, *([saturday] if weeks > 8 else [])])
    assert bars_per_year("1d", pl.Series(with_session, dtype=TIME)) == 252
    hourly = [
        day - timedelta(hours=back) for day in open_days for back in range(3 if rng.random() < 0.02 else 7)
    ]
    assert bars_per_year("1h", pl.Series(sorted(hourly), dtype=TIME)) == 7 * 252


def test_coverage_by_hand():
    bands = pl.DataFrame(
        {"label": [0.0, 1.0, 2.0, 3.0, None], "p10": [0.5] * 5, "p50": [1.5] * 5, "p90": [2.0] * 5}
    )
    assert coverage(bands) == {
        "below_p10": 0.25,
        "below_p50": 0.5,
        "below_p90": 0.75,
        "inside_p10_p90": 0.5,
        "rows": 4,
    }
    assert np.isnan(coverage(bands.clear())["inside_p10_p90"])


def test_true_quantiles_cover():
    label = np.random.default_rng(8).normal(size=20_000)
    bands = pl.DataFrame({"label": label, "p10": -1.2816, "p50": 0.0, "p90": 1.2816})
    assert coverage(bands)["inside_p10_p90"] == pytest.approx(0.8, abs=0.015)
    wrong = coverage(bands.with_columns(pl.col("p10", "p90") * 2))
    assert wrong["inside_p10_p90"] > 0.95


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from([0.1, 0.5, 0.9]))
def test_pinball_matches_sklearn(seed, quantile):
    label, predicted = np.random.default_rng(seed).normal(size=(2, 30))
    assert pinball_loss(label, predicted, quantile=quantile) == pytest.approx(
        mean_pinball_loss(label, predicted, alpha=quantile)
    )


def test_pinball_by_hand():
    assert pinball_loss(np.array([1.0, -1.0, np.nan]), np.zeros(3), quantile=0.9) == pytest.approx(
        (0.9 + 0.1) / 2
    )
    assert np.isnan(pinball_loss(np.array([np.nan]), np.zeros(1), quantile=0.5))


def test_reliability_by_hand():
    pairs = pl.DataFrame({"score": [1.0, 2.0, 3.0, 4.0, None], "label": [0.0, 2.0, 5.0, 7.0, 9.0]})
    assert reliability_table(pairs, bins=2).select("bin", "predicted", "realised", "rows").rows() == [
        (1, 1.5, 1.0, 2),
        (2, 3.5, 6.0, 2),
    ]


def test_equal_scores_share_a_bin():
    table = reliability_table(pl.DataFrame({"score": [1.0] * 20, "label": list(range(20))}))
    assert table["rows"].to_list() == [20]


def test_slope_matches_sklearn():
    random = np.random.default_rng(1)
    score = random.normal(size=200)
    label = 0.4 * score + random.normal(size=200)
    assert calibration_slope(pl.DataFrame({"score": score, "label": label})) == pytest.approx(
        LinearRegression().fit(score[:, None], label).coef_[0]
    )
    assert np.isnan(calibration_slope(pl.DataFrame({"score": [1.0] * 5, "label": label[:5]})))


def test_psi_by_hand():
    # One cut at 2.5 (median): reference 2 | 2, current 1 | 3; with half counts 2.5/5, 2.5/5 and 1.5/5, 3.5/5.
    expected = (0.3 - 0.5) * np.log(0.3 / 0.5) + (0.7 - 0.5) * np.log(0.7 / 0.5)
    assert population_stability_index(
        np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 3, 9]), bins=2
    ) == pytest.approx(expected)


def test_psi_stays_low_for_one_distribution_and_rises_for_two():
    random = np.random.default_rng(2)
    reference = random.normal(size=5000)
    assert population_stability_index(reference, random.normal(size=5000)) < 0.02
    assert population_stability_index(reference, random.normal(1, 1, size=5000)) > 0.25
    assert population_stability_index(reference, np.zeros(5000)) > 1
    assert population_stability_index(np.zeros(100), np.zeros(100)) == pytest.approx(0)
    assert np.isnan(population_stability_index(np.array([np.nan]), reference))


@settings(max_examples=40, deadline=None)
@given(RETURNS, RETURNS)
def test_psi_is_never_negative_nor_infinite(reference, current):
    assert 0 <= population_stability_index(reference, current) < np.inf
