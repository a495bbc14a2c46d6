"""Factors against numbers worked out by hand, and against a slow oracle in SQL or plain loops."""

import math
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kurtosis, skew

from components.contracts import REGIMES
from components.features import kernels as k
from components.features.build import _by_symbol, _with_measures, build_factors
from components.features.config import Settings
from components.features.library import MEASURES
from components.features.regime import QUANTILE_BARS, persistent_regime, raw_regime


def one_symbol(close, *, opened=None, high=None, low=None, volume=None) -> pl.DataFrame:
    """A panel of one symbol with these daily bars."""
    bars = len(close)
    times = [datetime(2021, 3, 1, tzinfo=UTC) + timedelta(days=i) for i in range(bars)]
    columns = {"open": opened or close, "high": high or close, "low": low or close, "close": close, "volume": volume or [1e5] * bars}
    frame = pl.DataFrame({"event_time": times, **{name: np.asarray(values, dtype=float) for name, values in columns.items()}})
    return frame.with_columns(
        pl.col("event_time").cast(pl.Datetime("us", "UTC")),
        timestamp=(pl.col("event_time") + timedelta(days=1)).cast(pl.Datetime("us", "UTC")),
        known_time=(pl.col("event_time") + timedelta(days=1)).cast(pl.Datetime("us", "UTC")),
        symbol=pl.lit("A"),
        period=pl.lit("1d"),
        sector=pl.lit("x"),
    )


def newest(panel: pl.DataFrame, name: str) -> float:
    return build_factors(panel, Settings())[name][-1]


def evaluate(expression: pl.Expr, **columns) -> list:
    return pl.DataFrame(columns).select(value=expression)["value"].to_list()


def test_rsi_by_hand():
    # 14 changes: nine of +1 % and five of -0.6 %; gains 0.09, moves 0.12, so RSI = 75.
    steps = [0.01] * 9 + [-0.006] * 5
    assert newest(one_symbol(np.exp(np.cumsum([4.0, *steps])).tolist()), "rsi_14") == pytest.approx(75.0, rel=1e-5)


def test_corwin_schultz_by_hand():
    # Both bars from 100 e^0 to 100 e^0.02: beta = 2 * 0.0004 = 0.0008, gamma = 0.0004, c = 3 - 2 sqrt 2 = 0.171573.
    # alpha = (sqrt 2 - 1) * 0.0282843 / 0.171573 - 0.02 / 0.414214 = 0.0682843 - 0.0482843 = 0.02; S = 2 (e^0.02 - 1) / (1 + e^0.02) = 0.0199993.
    value = evaluate(k.corwin_schultz(pl.col("b"), pl.col("g")), b=[0.0008], g=[0.02])[0]
    assert value == pytest.approx(0.0199993, abs=1e-7)
    top = 100 * math.exp(0.02)
    bars = 25
    panel = one_symbol([100.5] * bars, high=[top] * bars, low=[100.0] * bars)
    assert newest(panel, "corwin_schultz_20") == pytest.approx(0.0199993, abs=1e-6)
    # A range that only comes from movement gives a negative estimate, which counts as no spread.
    assert evaluate(k.corwin_schultz(pl.col("b"), pl.col("g")), b=[0.0008], g=[0.04])[0] == 0.0


def test_corwin_schultz_does_not_count_the_gap_between_bars():
    # The second of each pair opens 5 % higher and keeps its range of 2 %: moved back by the gap, the two ranges touch:
    # [0, 0.02] closed at 0.02 and [0.05, 0.07] moved by 0.03 to [0.02, 0.04], so sqrt(gamma) = 0.04.
    panel = one_symbol([100 * math.exp(0.02), 100 * math.exp(0.07)], high=[100 * math.exp(0.02), 100 * math.exp(0.07)], low=[100.0, 100 * math.exp(0.05)])
    measured = _with_measures(_by_symbol(panel)[0], MEASURES)
    assert measured["gap"][1] == pytest.approx(0.03)
    assert measured["two_bar_range"][1] == pytest.approx(0.04)
    assert measured["two_bar_sum"][1] == pytest.approx(0.0008)


def test_roll_by_hand():
    # Returns +1 %, -1 %, +1 %, ...: over 20 pairs the covariance is -0.0001, so the spread is 2 * 0.01.
    steps = [0.01 if i % 2 else -0.01 for i in range(22)]
    assert newest(one_symbol(np.exp(np.cumsum([3.0, *steps])).tolist()), "roll_spread_20") == pytest.approx(0.02, rel=1e-4)
    trending = [0.01] * 10 + [-0.01] * 12
    assert newest(one_symbol(np.exp(np.cumsum([3.0, *trending])).tolist()), "roll_spread_20") == 0.0


def test_amihud_by_hand():
    # |r| = 2 % each day on 1e6 dollars: 1e6 * 0.02 / 1e6 = 0.02, in logs -3.912.
    close = np.exp(np.cumsum([2.0] + [0.02 if i % 2 else -0.02 for i in range(20)]))
    panel = one_symbol(close.tolist(), volume=(1e6 / close).tolist())
    assert newest(panel, "amihud_20") == pytest.approx(math.log(0.02), rel=1e-5)


def test_obv_slope_by_hand():
    # Every bar rises on the same volume: the running sum grows by one mean volume a bar.
    rising = one_symbol(np.exp(np.arange(25) * 0.01).tolist())
    assert newest(rising, "obv_slope_20") == pytest.approx(1.0, rel=1e-5)
    increments = np.random.default_rng(0).standard_normal(40)
    ours = evaluate(k.slope_of_sum(pl.col("x"), 20), x=increments)[-1]
    assert ours == pytest.approx(np.polyfit(np.arange(20), np.cumsum(increments)[-20:], 1)[0], rel=1e-9)


def test_planted_signals_of_a_simulator_are_in_the_library():
    rng = np.random.default_rng(4)
    close = np.exp(np.cumsum(0.01 * rng.standard_normal(80)) + 3)
    volume = np.exp(rng.standard_normal(80) + 10)
    panel = one_symbol(close.tolist(), volume=volume.tolist())
    assert newest(panel, "reversal_5") == pytest.approx(-math.log(close[-1] / close[-6]), rel=1e-5)
    assert newest(panel, "volume_surprise_20") == pytest.approx(math.log(volume[-1] / volume[-20:].mean()), rel=1e-5)
    assert newest(panel, "momentum_20_60") == pytest.approx(math.log(close[-21] / close[-61]), rel=1e-5)
    assert newest(panel, "volatility_20") == pytest.approx(np.diff(np.log(close))[-20:].std(ddof=1), rel=1e-5)


def test_bars_are_log_ratios_to_the_previous_close():
    panel = one_symbol([100.0] * 20 + [102.0], opened=[100.0] * 20 + [101.0], high=[100.0] * 20 + [104.0], low=[100.0] * 20 + [99.0], volume=[1e5] * 20 + [3.85e5])
    table = build_factors(panel, Settings())
    for name, value in (("bar_open", 1.01), ("bar_high", 1.04), ("bar_low", 0.99), ("bar_close", 1.02)):
        assert table[name][-1] == pytest.approx(math.log(value), rel=1e-5)
    # Mean volume of the 20 bars that end here: (19 * 1e5 + 3.85e5) / 20 = 1.1425e5.
    assert table["bar_volume"][-1] == pytest.approx(math.log(3.85 / 1.1425), rel=1e-5)


def test_exponential_mean_forgets_after_four_spans():
    span = 5
    x = np.random.default_rng(1).standard_normal(60)
    decay = 1 - 2 / (span + 1)
    weights = decay ** np.arange(4 * span)
    expected = (x[::-1][: 4 * span] * weights).sum() / weights.sum()
    assert evaluate(k.exponential_mean(pl.col("x"), span), x=x)[-1] == pytest.approx(expected, rel=1e-12)
    older = x.copy()
    older[: 60 - 4 * span] += 1e6
    assert evaluate(k.exponential_mean(pl.col("x"), span), x=older)[-1] == pytest.approx(expected, abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-0.3, 0.3), min_size=12, max_size=40), st.integers(0, 10**6))
def test_correlation_agrees_with_numpy(returns, seed):
    x = np.asarray(returns)
    y = 0.5 * x + 0.05 * np.random.default_rng(seed).standard_normal(len(x))
    ours = evaluate(k.correlation(pl.col("x"), pl.col("y"), 10), x=x, y=y)[-1]
    if x[-10:].std() < 1e-4:
        assert ours is None or -1 <= ours <= 1
    else:
        assert ours == pytest.approx(np.corrcoef(x[-10:], y[-10:])[0, 1], abs=1e-6)


ORACLE = {
    "parkinson_20": "sqrt(avg(ln(high/low)^2) over w20 / (4*ln(2)))",
    "garman_klass_20": "sqrt(greatest(avg(0.5*ln(high/low)^2 - (2*ln(2)-1)*ln(close/open)^2) over w20, 0))",
    "rogers_satchell_20": "sqrt(avg(ln(high/close)*ln(high/open) + ln(low/close)*ln(low/open)) over w20)",
    "yang_zhang_20": "sqrt(var_samp(gap) over w20 + 0.34/(1.34+21/19)*var_samp(ln(close/open)) over w20 + (1-0.34/(1.34+21/19))*avg(ln(high/close)*ln(high/open) + ln(low/close)*ln(low/open)) over w20)",
    "realised_volatility_60": "sqrt(avg(r*r) over w60)",
    "bollinger_20": "(ln(close) - avg(ln(close)) over w20) / (2*stddev_samp(ln(close)) over w20)",
    "stochastic_20": "(ln(close) - min(ln(low)) over w20) / (max(ln(high)) over w20 - min(ln(low)) over w20)",
    "atr_14": "avg(ln(greatest(high, before)/least(low, before))) over w14",
    "cmf_20": "(avg((2*ln(close)-ln(high)-ln(low))/ln(high/low)*volume) over w20) / avg(volume) over w20",
    "mfi_14": "100 * sum(case when d > 0 then (high+low+close)/3*volume else 0 end) over w14 / sum(case when d <> 0 then (high+low+close)/3*volume else 0 end) over w14",
    "price_volume_correlation_20": "corr(r, ln(volume)) over w20",
    "return_autocorrelation_20": "corr(r, r1) over w20",
    "price_impact_20": "covar_pop(r, sign(r)*sqrt(close*volume)) over w20 / avg(close*volume) over w20",
    "beta_60": "covar_pop(r, m) over w60 / var_pop(m) over w60",
    "idiosyncratic_volatility_60": "sqrt(greatest(var_samp(r) over w60 * (1 - corr(r, m) over w60 ^ 2), 0))",
    "efficiency_20": "sum(r) over w20 / sum(abs(r)) over w20",
    "downside_share_60": "sum(case when r < 0 then r*r else 0 end) over w60 / sum(r*r) over w60",
    "average_cross_20_100": "avg(ln(close)) over w20 - avg(ln(close)) over w100",
    "abdi_ranaldo_20": "sqrt(greatest(avg(4*(ln(before) - (ln(high1)+ln(low1))/2)*(ln(before) - (ln(high)+ln(low))/2)) over w20, 0))",
    "high_252_distance": "ln(close) - ln(max(high) over w252)",
    "turnover_surprise_5_60": "ln(avg(close*volume) over w5 / avg(close*volume) over w60)",
    "average_price_gap_20": "ln(close) - ln(sum((high+low+close)/3*volume) over w20 / sum(volume) over w20)",
    "sector_relative_momentum_20": "momentum - avg(momentum) over (partition by timestamp, sector)",
}


def test_factors_agree_with_sql_windows(random_panel):
    panel = random_panel(11, bars=300, symbols=9, missing=0.01)
    ours = build_factors(panel, Settings())
    windows = ", ".join(f"w{n} as (partition by symbol order by timestamp rows {n - 1} preceding)" for n in (5, 14, 20, 60, 100, 252))
    query = f"""
        with a as (select *, lag(close) over s before, lag(high) over s high1, lag(low) over s low1, ln(close / lag(close, 20) over s) momentum,
                          (high+low+close)/3 - lag((high+low+close)/3) over s d from panel window s as (partition by symbol order by timestamp)),
             b as (select *, ln(close / before) r, ln(open / before) gap from a),
             e as (select *, avg(r) over (partition by timestamp) m, lag(r) over (partition by symbol order by timestamp) r1 from b)
        select timestamp, symbol, {", ".join(f"{sql} as {name}" for name, sql in ORACLE.items())} from e
        window {windows} order by timestamp, symbol"""
    oracle = duckdb.from_arrow(panel.to_arrow()).query("panel", query).pl()
    for name in ORACLE:
        mine, theirs = ours[name].cast(pl.Float64), oracle[name]
        known = mine.is_not_null()
        assert known.sum() > 100, name
        assert ((mine - theirs).filter(known).abs() <= 2e-5 * theirs.filter(known).abs() + 2e-6).all(), name


def test_skewness_and_residual_momentum_against_plain_loops(random_panel):
    panel = random_panel(12, bars=200, symbols=6, missing=0.0)
    ours = build_factors(panel, Settings()).join(panel.select("timestamp", "symbol", "close"), on=["timestamp", "symbol"])
    returns = panel.with_columns(r=pl.col("close").log().diff().over("symbol")).with_columns(m=pl.col("r").mean().over("timestamp"))
    own = returns.filter(pl.col("symbol") == "S02").select("r", "m").to_numpy()
    mine = ours.filter(pl.col("symbol") == "S02")
    for t in (150, 199):
        window = own[t - 59 : t + 1, 0]
        assert mine["skewness_60"][t] == pytest.approx(skew(window), rel=1e-4)
        assert mine["kurtosis_60"][t] == pytest.approx(kurtosis(window), rel=1e-4)
        residuals = []
        for s in range(t - 59, t + 1):
            r, m = own[s - 59 : s + 1].T
            residuals.append(r[-1] - np.cov(r, m, ddof=0)[0, 1] / m.var() * m[-1])
        assert mine["residual_momentum_60"][t] == pytest.approx(np.sum(residuals) / np.std(residuals, ddof=1), rel=1e-4)


def test_regime_names_what_the_market_does():
    rng = np.random.default_rng(0)
    calm = 0.004 * rng.standard_normal(260)
    names = {}
    for kind, drift, scale in (("bull", 0.004, 0.5), ("bear", -0.004, 0.5), ("high_volatility", 0.0, 5.0)):
        market = np.concatenate([calm, drift + scale * 0.004 * rng.standard_normal(30)])
        frame = pl.DataFrame({"m": market}).with_columns(trend=pl.col("m").rolling_sum(40), vol=pl.col("m").rolling_std(20))
        frame = frame.with_columns(raw=raw_regime(pl.col("trend"), pl.col("vol"))).with_columns(state=persistent_regime(pl.col("raw")))
        assert frame["raw"][: 40 + QUANTILE_BARS - 2].null_count() == 40 + QUANTILE_BARS - 2
        names[kind] = REGIMES[int(frame["state"][-1])]
    assert names == {kind: kind for kind in names}


def test_a_regime_must_persist_and_is_forgotten_after_a_while():
    neutral, bull = 1.0, 2.0
    blip = [bull] * 6 + [neutral] * 4 + [bull] * 3
    assert evaluate(persistent_regime(pl.col("x")), x=blip)[4:] == [bull] * 9
    assert evaluate(persistent_regime(pl.col("x")), x=[bull] * 6 + [neutral] * 5)[-1] == neutral
    restless = [0.0] * 6 + [neutral, bull] * 15
    states = evaluate(persistent_regime(pl.col("x")), x=restless)
    assert states[5 + 20] == 0.0
    assert states[5 + 21] == neutral
