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
from components.features import order_windows as o
from components.features.build import build_factors
from components.features.config import Groups, Settings
from components.features.estimators import corwin_schultz
from components.features.library import FACTORS, GROUPS, needed_measures
from components.features.profile_windows import volume_profile
from components.features.regime import QUANTILE_BARS, persistent_regime, raw_regime

FACTOR = {factor.name: factor for factor in FACTORS}


def one_symbol(close, *, opened=None, high=None, low=None, volume=None) -> pl.DataFrame:
    """A panel of one symbol with these daily bars."""
    bars = len(close)
    times = [datetime(2021, 3, 1, tzinfo=UTC) + timedelta(days=i) for i in range(bars)]
    columns = {
        "open": opened or close,
        "high": high or close,
        "low": low or close,
        "close": close,
        "volume": volume or [1e5] * bars,
    }
    frame = pl.DataFrame(
        {"event_time": times, **{name: np.asarray(values, dtype=float) for name, values in columns.items()}}
    )
    return frame.with_columns(
        pl.col("event_time").cast(pl.Datetime("us", "UTC")),
        timestamp=(pl.col("event_time") + timedelta(days=1)).cast(pl.Datetime("us", "UTC")),
        known_time=(pl.col("event_time") + timedelta(days=1)).cast(pl.Datetime("us", "UTC")),
        symbol=pl.lit("A"),
        period=pl.lit("1d"),
        sector=pl.lit("x"),
    )


def table_of(panel: pl.DataFrame, *groups: str, **settings) -> pl.DataFrame:
    """The factors of some groups."""
    return build_factors(
        panel, Settings(groups=Groups(**{name: name in groups for name in GROUPS}), **settings)
    )


def newest(panel: pl.DataFrame, name: str, **settings) -> float:
    """The last value of a factor."""
    return table_of(panel, FACTOR[name].group, **settings)[name][-1]


def evaluate(expression: pl.Expr, **columns) -> list:
    frame = pl.DataFrame(columns)
    return (
        frame.with_columns(pl.int_range(frame.height).alias(k.BAR))
        .select(value=expression)["value"]
        .to_list()
    )


def test_rsi_by_hand():
    # 14 changes: nine of +1 % and five of -0.6 %; gains 0.09, moves 0.12, so RSI = 75.
    steps = [0.01] * 9 + [-0.006] * 5
    assert newest(one_symbol(np.exp(np.cumsum([4.0, *steps])).tolist()), "rsi_14") == pytest.approx(
        75.0, rel=1e-5
    )


def test_corwin_schultz_by_hand():
    # Both bars from 100 e^0 to 100 e^0.02: beta = 2 * 0.0004 = 0.0008, gamma = 0.0004, c = 3 - 2 sqrt 2 =
    # 0.171573. alpha = (sqrt 2 - 1) * 0.0282843 / 0.171573 - 0.02 / 0.414214 = 0.0682843 - 0.0482843 = 0.02;
    # S = 2 (e^0.02 - 1) / (1 + e^0.02) = 0.0199993.
    value = evaluate(corwin_schultz(pl.col("b"), pl.col("g")), b=[0.0008], g=[0.02])[0]
    assert value == pytest.approx(0.0199993, abs=1e-7)
    top = 100 * math.exp(0.02)
    bars = 25
    panel = one_symbol([100.5] * bars, high=[top] * bars, low=[100.0] * bars)
    assert newest(panel, "corwin_schultz_20") == pytest.approx(0.0199993, abs=1e-6)
    # A range that only comes from movement gives a negative estimate, which counts as no spread.
    assert evaluate(corwin_schultz(pl.col("b"), pl.col("g")), b=[0.0008], g=[0.04])[0] == 0.0


def test_corwin_schultz_does_not_count_the_gap_between_bars():
    # The second of each pair opens 5 % higher and keeps its range of 2 %: moved back by the gap, the two
    # ranges touch: [0, 0.02] closed at 0.02 and [0.05, 0.07] moved by 0.03 to [0.02, 0.04], so sqrt(gamma) =
    # 0.04.
    panel = one_symbol(
        [100 * math.exp(0.02), 100 * math.exp(0.07)],
        high=[100 * math.exp(0.02), 100 * math.exp(0.07)],
        low=[100.0, 100 * math.exp(0.05)],
    )
    measured = panel.with_columns(pl.int_range(pl.len()).alias(k.BAR))
    for measure in needed_measures([FACTOR["corwin_schultz_20"]]):
        measured = measured.with_columns(measure.expression.alias(measure.name))
    assert measured["gap"][1] == pytest.approx(0.03)
    assert measured["two_bar_range"][1] == pytest.approx(0.04)
    assert measured["two_bar_sum"][1] == pytest.approx(0.0008)


def test_roll_by_hand():
    # Returns +1 %, -1 %, +1 %, ...: over 20 pairs the covariance is -0.0001, so the spread is 2 * 0.01.
    steps = [0.01 if i % 2 else -0.01 for i in range(22)]
    assert newest(one_symbol(np.exp(np.cumsum([3.0, *steps])).tolist()), "roll_spread_20") == pytest.approx(
        0.02, rel=1e-4
    )
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
    assert newest(panel, "volume_surprise_20") == pytest.approx(
        math.log(volume[-1] / volume[-20:].mean()), rel=1e-5
    )
    assert newest(panel, "momentum_20_60") == pytest.approx(math.log(close[-21] / close[-61]), rel=1e-5)
    assert newest(panel, "volatility_20") == pytest.approx(np.diff(np.log(close))[-20:].std(ddof=1), rel=1e-5)


def test_bars_are_log_ratios_to_the_previous_close():
    panel = one_symbol(
        [100.0] * 20 + [102.0],
        opened=[100.0] * 20 + [101.0],
        high=[100.0] * 20 + [104.0],
        low=[100.0] * 20 + [99.0],
        volume=[1e5] * 20 + [3.85e5],
    )
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
    "yang_zhang_20": (
        "sqrt(var_samp(gap) over w20 + 0.34/(1.34+21/19)*var_samp(ln(close/open)) over w20 +"
        " (1-0.34/(1.34+21/19))*avg(ln(high/close)*ln(high/open) + ln(low/close)*ln(low/open)) over w20)"
    ),
    "realised_volatility_60": "sqrt(avg(r*r) over w60)",
    "bollinger_20": "(ln(close) - avg(ln(close)) over w20) / (2*stddev_samp(ln(close)) over w20)",
    "stochastic_20": "(ln(close) - min(ln(low)) over w20) / (max(ln(high)) over w20 - min(ln(low)) over w20)",
    "atr_14": "avg(ln(greatest(high, before)/least(low, before))) over w14",
    "cmf_20": "(avg((2*ln(close)-ln(high)-ln(low))/ln(high/low)*volume) over w20) / avg(volume) over w20",
    "mfi_14": (
        "100 * sum(case when d > 0 then (high+low+close)/3*volume else 0 end) over w14 / sum(case when d <> 0"
        " then (high+low+close)/3*volume else 0 end) over w14"
    ),
    "price_volume_correlation_20": "corr(r, ln(volume)) over w20",
    "return_autocorrelation_20": "corr(r, r1) over w20",
    "price_impact_20": "covar_pop(r, sign(r)*sqrt(close*volume)) over w20 / avg(close*volume) over w20",
    "beta_60": "covar_pop(r, m) over w60 / var_pop(m) over w60",
    "idiosyncratic_volatility_60": "sqrt(greatest(var_samp(r) over w60 * (1 - corr(r, m) over w60 ^ 2), 0))",
    "efficiency_20": "sum(r) over w20 / sum(abs(r)) over w20",
    "downside_share_60": "sum(case when r < 0 then r*r else 0 end) over w60 / sum(r*r) over w60",
    "average_cross_20_100": "avg(ln(close)) over w20 - avg(ln(close)) over w100",
    "abdi_ranaldo_20": (
        "sqrt(greatest(avg(4*(ln(before) - (ln(high1)+ln(low1))/2)*(ln(before) - (ln(high)+ln(low))/2)) over"
        " w20, 0))"
    ),
    "high_252_distance": "ln(close) - ln(max(high) over w252)",
    "turnover_surprise_5_60": "ln(avg(close*volume) over w5 / avg(close*volume) over w60)",
    "average_price_gap_20": "ln(close) - ln(sum((high+low+close)/3*volume) over w20 / sum(volume) over w20)",
    "sector_relative_momentum_20": "momentum - avg(momentum) over (partition by timestamp, sector)",
}


def test_factors_agree_with_sql_windows(random_panel):
    panel = random_panel(11, bars=300, symbols=9, missing=0.01)
    ours = build_factors(panel, Settings())
    windows = ", ".join(
        f"w{n} as (partition by symbol order by timestamp rows {n - 1} preceding)"
        for n in (5, 14, 20, 60, 100, 252)
    )
    query = f"""
        with a as (select *, lag(close) over s before, lag(high) over s high1, lag(low) over s low1,
                           ln(close / lag(close, 20) over s) momentum,
                          (high+low+close)/3 - lag((high+low+close)/3) over s d
                    from panel window s as (partition by symbol order by timestamp)),
             b as (select *, ln(close / before) r, ln(open / before) gap from a),
             e as (select *, avg(r) over (partition by timestamp) m,
                    lag(r) over (partition by symbol order by timestamp) r1 from b)
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
    ours = build_factors(panel, Settings()).join(
        panel.select("timestamp", "symbol", "close"), on=["timestamp", "symbol"]
    )
    returns = panel.with_columns(r=pl.col("close").log().diff().over("symbol")).with_columns(
        m=pl.col("r").mean().over("timestamp")
    )
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
        assert mine["residual_momentum_60"][t] == pytest.approx(
            np.sum(residuals) / np.std(residuals, ddof=1), rel=1e-4
        )


def test_regime_names_what_the_market_does():
    rng = np.random.default_rng(0)
    calm = 0.004 * rng.standard_normal(260)
    names = {}
    for kind, drift, scale in (("bull", 0.004, 0.5), ("bear", -0.004, 0.5), ("high_volatility", 0.0, 5.0)):
        market = np.concatenate([calm, drift + scale * 0.004 * rng.standard_normal(30)])
        frame = pl.DataFrame({"m": market}).with_columns(
            trend=pl.col("m").rolling_sum(40), vol=pl.col("m").rolling_std(20)
        )
        frame = frame.with_columns(raw=raw_regime(pl.col("trend"), pl.col("vol"))).with_columns(
            state=persistent_regime(pl.col("raw"))
        )
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


def walk(seed: int, bars: int) -> dict[str, np.ndarray]:
    """A random walk's open, high, low, close and volume."""
    rng = np.random.default_rng(seed)
    close = 40 * np.exp(np.cumsum(0.02 * rng.standard_normal(bars)))
    opened = close * np.exp(0.01 * rng.standard_normal(bars))
    high, low = (
        np.maximum(opened, close) * np.exp(0.01 * rng.random(bars)),
        np.minimum(opened, close) * np.exp(-0.01 * rng.random(bars)),
    )
    return {
        "opened": opened,
        "high": high,
        "low": low,
        "close": close,
        "volume": np.exp(10 + rng.standard_normal(bars)),
    }


def panel_of(bars: dict[str, np.ndarray]) -> pl.DataFrame:
    return one_symbol(
        bars["close"].tolist(), **{name: values.tolist() for name, values in bars.items() if name != "close"}
    )


def test_channels_against_plain_numpy():
    bars = walk(1, 130)
    high, low, close = np.log(bars["high"]), np.log(bars["low"]), np.log(bars["close"])
    table = table_of(panel_of(bars), "channels")
    assert table["donchian_55"][-1] == pytest.approx(
        (close[-1] - low[-55:].min()) / (high[-55:].max() - low[-55:].min()), rel=1e-5
    )
    assert table["donchian_breakout_20"][-1] == pytest.approx(close[-1] - high[-21:-1].max(), rel=1e-4)
    true_range = np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])
    weights = (1 - 2 / 21) ** np.arange(80)
    middle = (close[::-1][:80] * weights).sum() / weights.sum()
    assert table["keltner_20"][-1] == pytest.approx(
        (close[-1] - middle) / (2 * true_range[-10:].mean()), rel=1e-4
    )
    assert table["squeeze_20"][-1] == pytest.approx(
        2 * close[-20:].std(ddof=1) / (2 * true_range[-10:].mean()), rel=1e-4
    )
    line = np.polyval(np.polyfit(np.arange(60), close[-60:], 1), np.arange(60))
    assert table["line_gap_60"][-1] == pytest.approx(
        (close[-1] - line[-1]) / close[-60:].std(ddof=1), rel=1e-4
    )
    assert table["line_fit_60"][-1] == pytest.approx(
        np.corrcoef(np.arange(60), close[-60:])[0, 1] ** 2, rel=1e-4
    )
    plain = {name: bars[name] for name in ("high", "low", "close")}
    span = np.maximum(plain["high"][1:], plain["close"][:-1]) - np.minimum(
        plain["low"][1:], plain["close"][:-1]
    )
    reach = plain["high"][-14:].max() - plain["low"][-14:].min()
    assert table["choppiness_14"][-1] == pytest.approx(
        100 * math.log(span[-14:].sum() / reach) / math.log(14), rel=1e-5
    )
    vortex = (np.abs(plain["high"][1:] - plain["low"][:-1]) - np.abs(plain["low"][1:] - plain["high"][:-1]))[
        -14:
    ].sum() / span[-14:].sum()
    assert table["vortex_14"][-1] == pytest.approx(vortex, rel=1e-4)


def test_ichimoku_by_hand():
    # A straight line up by 1 a bar, ranges of 1 either side: the middle of n bars ending at t is t + 100 - (n
    # - 1) / 2.
    close = [100.0 + i for i in range(100)]
    table = table_of(one_symbol(close, high=[c + 1 for c in close], low=[c - 1 for c in close]), "ichimoku")
    now = 199.0
    tenkan, kijun, span_b = now - 4, now - 12.5, now - 25.5
    assert table["ichimoku_tenkan"][-1] == pytest.approx(math.log(now / tenkan), rel=1e-5)
    assert table["ichimoku_cross"][-1] == pytest.approx(math.log(tenkan / kijun), rel=1e-5)
    assert table["ichimoku_cloud_ahead"][-1] == pytest.approx(
        math.log((tenkan + kijun) / 2 / span_b), rel=1e-5
    )
    # The cloud at the bar is that of 26 bars ago.
    assert table["ichimoku_span_a"][-1] == pytest.approx(
        math.log(now / ((tenkan + kijun) / 2 - 26)), rel=1e-5
    )
    assert table["ichimoku_span_b"][-1] == pytest.approx(math.log(now / (span_b - 26)), rel=1e-5)
    assert table["ichimoku_chikou"][-1] == pytest.approx(math.log(now / (now - 26)), rel=1e-5)
    assert table["ichimoku_place"][-1] == 1.0


def test_tails_against_plain_numpy(random_panel):
    panel = random_panel(31, bars=200, symbols=7, missing=0.0)
    table = table_of(panel, "tails").filter(pl.col("symbol") == "S03")
    returns = panel.with_columns(r=pl.col("close").log().diff().over("symbol")).with_columns(
        m=pl.col("r").mean().over("timestamp")
    )
    r, m = returns.filter(pl.col("symbol") == "S03").select("r", "m").to_numpy()[-60:].T
    ordered = np.sort(r)
    q5, q25, q50, q75, q95 = np.quantile(r, (0.05, 0.25, 0.5, 0.75, 0.95))
    expected = {
        "value_at_risk_60": q5,
        "expected_shortfall_60": ordered[:3].mean(),
        "expected_windfall_60": ordered[-3:].mean(),
        "tail_ratio_60": q95 / -q5,
        "quantile_spread_60": q95 - q5,
        "quantile_skewness_60": (q95 + q5 - 2 * q50) / (q95 - q5),
        "quantile_kurtosis_60": (q95 - q5) / (q75 - q25),
        "largest_square_share_60": (r**2).max() / (r**2).sum(),
        "downside_beta_60": (r * m)[m < 0].sum() / (m**2)[m < 0].sum(),
    }
    for name, value in expected.items():
        assert table[name][-1] == pytest.approx(value, rel=1e-4, abs=1e-7), name
    long = returns.filter(pl.col("symbol") == "S03")["r"].to_numpy()
    falls = np.sort(-long[-120:])[::-1]
    assert table["hill_left_120"][-1] == pytest.approx(np.log(falls[:12] / falls[12]).mean(), rel=1e-4)
    bipower = (np.abs(long[-60:]) * np.abs(long[-61:-1])).sum()
    assert table["jump_share_60"][-1] == pytest.approx(1 - math.pi / 2 * bipower / (r**2).sum(), rel=1e-3)


def test_hill_finds_the_index_of_a_pareto_tail():
    # P(x > t) = t^-3 has the inverse tail index 1/3; the mean over many windows comes near it.
    x = (1 - np.random.default_rng(5).random(60_000)) ** (-1 / 3)
    found = np.nanmean(np.array(evaluate(o.hill(pl.col("x"), 120, 12), x=x), dtype=float)[119::120])
    assert found == pytest.approx(1 / 3, rel=0.05)


def test_pivots_by_hand():
    # The bar before: high 110, low 100, close 108, so P = 106 and the range 10; now the close is 109.
    table = table_of(one_symbol([108.0, 109.0], high=[110.0, 109.0], low=[100.0, 109.0]), "pivots")
    levels = {
        "classic": 106,
        "classic_r1": 112,
        "classic_s1": 102,
        "classic_r2": 116,
        "classic_s2": 96,
        "fibonacci_r1": 109.82,
        "fibonacci_s2": 99.82,
    }
    levels |= {"camarilla_r3": 110.75, "camarilla_s3": 105.25, "camarilla_r4": 113.5, "camarilla_s4": 102.5}
    for name, level in levels.items():
        assert table[f"pivot_{name}"][-1] == pytest.approx((109 - level) / 108, rel=1e-5), name


def test_candles_by_hand():
    # From 100 to 103 within 99 to 105: body 3, shadows 2 and 1 of a range of 6. The bar lies outside the one
    # before.
    panel = one_symbol([101.0, 103.0], opened=[101.0, 100.0], high=[102.0, 105.0], low=[100.0, 99.0])
    table = table_of(panel, "candles")
    for name, value in {
        "candle_body": 3 / 6,
        "candle_upper_shadow": 2 / 6,
        "candle_lower_shadow": 1 / 6,
        "candle_outside": 1.0,
        "candle_inside": 0.0,
    }.items():
        assert table[name][-1] == pytest.approx(value), name


def test_volume_profile_by_hand():
    # 59 bars of volume 1 spread over [0, 24] in logs of 0.01, and one of volume 60 within the shelf from 6 to
    # 7: that is the point of control.
    bars = 60
    high, low, volume = [0.24] * bars, [0.0] * bars, [1.0] * bars
    high[30], low[30], volume[30] = 0.0675, 0.0625, 60.0
    columns = {"high": high, "low": low, "close": [0.10] * bars, "volume": volume}
    profile = evaluate(
        volume_profile(pl.col("high"), pl.col("low"), pl.col("close"), pl.col("volume"), bars, 24, 0.7),
        **columns,
    )[-1]
    each = 59 / 24
    assert profile["control"] == pytest.approx(0.10 - 0.065)
    assert profile["high_node"] == pytest.approx(profile["control"])
    # Below 0.10 lie ten shelves and the bar of 60.
    assert profile["below"] == pytest.approx((10 * each + 60) / 119)
    # 70 % of 119 is 83.3: the full shelf and nine more (of equal ones the upper first): up to the 16th shelf.
    assert profile["value_low"] == pytest.approx(0.10 - 0.06)
    assert profile["value_high"] == pytest.approx(0.10 - 0.16)
    assert (
        evaluate(
            volume_profile(pl.col("high"), pl.col("low"), pl.col("close"), pl.col("volume"), bars, 24, 0.7),
            **columns | {"volume": [0.0] * bars},
        )[-1]["control"]
        is None
    )


def test_beta_to_the_reference_symbol(random_panel):
    panel = random_panel(33, bars=100, symbols=6, missing=0.0)
    table = table_of(panel, "reference", reference_symbol="S02")
    r = (
        panel.with_columns(r=pl.col("close").log().diff().over("symbol"))
        .pivot("symbol", index="timestamp", values="r")
        .sort("timestamp")
        .tail(60)
    )
    own, reference = r["S03"].to_numpy(), r["S02"].to_numpy()
    last = table.filter(pl.col("symbol") == "S03")
    assert last["reference_beta_60"][-1] == pytest.approx(
        np.cov(own, reference)[0, 1] / reference.var(ddof=1), rel=1e-4
    )
    assert last["reference_correlation_60"][-1] == pytest.approx(np.corrcoef(own, reference)[0, 1], rel=1e-4)
    assert table.filter(pl.col("symbol") == "S02")["reference_beta_60"][-1] == pytest.approx(1.0, rel=1e-6)
    for absent in (None, "S99"):
        assert table_of(panel, "reference", reference_symbol=absent)["reference_beta_60"].null_count() == len(
            panel
        )


def test_derivatives_against_plain_numpy():
    bars = walk(4, 100)
    rng = np.random.default_rng(9)
    funding, interest = 1e-4 * rng.standard_normal(100), np.exp(12 + 0.1 * rng.standard_normal(100))
    table = table_of(
        panel_of(bars).with_columns(funding_rate=pl.Series(funding), open_interest=pl.Series(interest)),
        "derivatives",
    )
    assert table["funding"][-1] == pytest.approx(funding[-1], rel=1e-5)
    assert table["funding_sum_20"][-1] == pytest.approx(funding[-20:].sum(), rel=1e-4)
    assert table["funding_zscore_60"][-1] == pytest.approx(
        (funding[-1] - funding[-60:].mean()) / funding[-60:].std(ddof=1), rel=1e-4
    )
    assert table["open_interest_slope_20"][-1] == pytest.approx(
        np.polyfit(np.arange(20), np.log(interest[-20:]), 1)[0], rel=1e-4
    )
    r, change = np.diff(np.log(bars["close"])), np.diff(np.log(interest))
    assert table["open_interest_price_5"][-1] == pytest.approx(change[-5:].sum() * r[-5:].sum(), rel=1e-4)
    large = np.array([abs(r[i]) > 2 * r[i - 19 : i + 1].std(ddof=1) for i in range(len(r) - 20, len(r))])
    assert table["liquidation_20"][-1] == pytest.approx(
        np.where(large, np.maximum(-change[-20:], 0), 0).mean(), rel=1e-4, abs=1e-9
    )


def test_the_delay_is_the_time_until_a_bar_was_known():
    panel = one_symbol([10.0, 11.0, 12.0]).with_columns(
        known_time=pl.col("timestamp") + pl.Series([timedelta(seconds=s) for s in (1, 30, 4.5)])
    )
    assert table_of(panel, "delay")["delay_s"].to_list() == [1.0, 30.0, 4.5]


def daily_flags(first: datetime, days: int, *, weekends: bool) -> pl.DataFrame:
    """Date and event flags of a symbol that trades on all days, or on Monday to Friday."""
    times = [first + timedelta(days=i) for i in range(days)]
    times = [t for t in times if weekends or t.weekday() < 5]
    panel = one_symbol([10.0] * len(times)).with_columns(
        pl.Series("event_time", times).cast(pl.Datetime("us", "UTC"))
    )
    panel = panel.with_columns(
        timestamp=pl.col("event_time") + timedelta(days=1),
        known_time=pl.col("event_time") + timedelta(days=1),
    )
    return table_of(panel, "events").with_columns(day=(pl.col("timestamp") - timedelta(days=1)).dt.date())


def test_sessions_that_open_and_close_a_period():
    shares = daily_flags(datetime(2021, 3, 1, tzinfo=UTC), 70, weekends=False)
    flagged = {
        name: [day.isoformat() for day in shares.filter(pl.col(name) == 1.0)["day"]]
        for name in ("month_open", "month_close", "quarter_open", "quarter_close")
    }
    # 2021: 31 March is a Wednesday, 30 April a Friday, 1 and 2 May a weekend.
    assert flagged == {
        "month_open": ["2021-04-01", "2021-05-03"],
        "month_close": ["2021-03-31", "2021-04-30"],
        "quarter_open": ["2021-04-01"],
        "quarter_close": ["2021-03-31"],
    }
    week = shares.filter(pl.col("week_close") == 1.0)["day"]
    assert set(week.dt.weekday()) == {5}
    assert set(shares.filter(pl.col("week_open") == 1.0)["day"].dt.weekday()) == {1}
    coins = daily_flags(datetime(2021, 3, 1, tzinfo=UTC), 70, weekends=True)
    assert set(coins.filter(pl.col("week_close") == 1.0)["day"].dt.weekday()) == {7}
    assert [day.isoformat() for day in coins.filter(pl.col("month_close") == 1.0)["day"]] == [
        "2021-03-31",
        "2021-04-30",
    ]


def test_bursts_and_gaps_by_hand():
    rng = np.random.default_rng(3)
    volume = np.exp(10 + 0.1 * rng.standard_normal(41))
    volume[-1] = np.exp(11)
    half = np.full(41, 0.005)
    half[-1] = 0.02
    close = np.full(41, 100.0)
    high, low = close * np.exp(half), close * np.exp(-half)
    opened = close.copy()
    opened[-1] = 100 * math.exp(0.015)
    table = table_of(
        panel_of({"opened": opened, "high": high, "low": low, "close": close, "volume": volume}), "events"
    )
    # True ranges before were 0.01, so a gap of 0.015 is one and a half of them.
    assert table["volume_burst"][-2:].to_list() == [0.0, 1.0]
    assert table["range_burst"][-2:].to_list() == [0.0, 1.0]
    assert table["range_bursts_20"][-1] == pytest.approx(1 / 20)
    assert table["gap_event"][-2:].to_list() == [0.0, 1.0]
    assert table["gap_size"][-1] == pytest.approx(1.5, rel=1e-5)


def test_formulas_against_pandas(random_panel):
    panel = random_panel(35, bars=120, symbols=9, missing=0.0).filter(~pl.col("symbol").is_in(["S00", "S08"]))
    table = table_of(panel, "formulas").filter(pl.col("symbol") == "S04")
    wide = {
        name: panel.to_pandas().pivot(index="timestamp", columns="symbol", values=name)
        for name in ("open", "high", "low", "close", "volume")
    }
    opened, high, low, close, volume = wide.values()
    log = np.log

    # Correlations of ranks that stand still are 0 in ours, undefined in pandas.
    def ranked(frame):
        return frame.rank(axis=1, pct=True)

    def last_place(frame, bars):
        return frame.rolling(bars).rank(pct=True)

    def relative(frame):
        return log(frame) - log(close).rolling(20).mean()

    relative_volume = volume / volume.rolling(20).mean()
    expected = {
        "alpha_002": -ranked(log(volume).diff(2)).rolling(6).corr(ranked(log(close / opened))).fillna(0.0),
        "alpha_003": -ranked(relative(opened)).rolling(10).corr(ranked(relative_volume)).fillna(0.0),
        "alpha_004": -last_place(ranked(relative(low)), 9),
        "alpha_013": -ranked(relative(close)).rolling(5).cov(ranked(relative_volume), ddof=0),
        "alpha_020": (
            -ranked(log(opened / high.shift(1)))
            * ranked(log(opened / close.shift(1)))
            * ranked(log(opened / low.shift(1)))
        ),
        "alpha_034": (
            2
            - ranked(log(close).diff().rolling(2).std() / log(close).diff().rolling(5).std())
            - ranked(log(close).diff())
        ),
        "alpha_038": -ranked(last_place(close, 10)) * ranked(log(close / opened)),
        "alpha_043": last_place(relative_volume, 20) * last_place(-log(close).diff(7), 8),
        "alpha_054": -(close - low) / (high - low) * (opened / close) ** 5,
    }
    for name, frame in expected.items():
        theirs = frame["S04"].to_numpy()[-40:]
        ours = table[name].cast(pl.Float64).to_numpy()[-40:]
        known = np.isfinite(theirs)
        assert known.sum() >= 30, name
        np.testing.assert_allclose(ours[known], theirs[known], rtol=1e-4, atol=1e-5, err_msg=name)
