"""TA-Lib's candle patterns inside our table, and our own indicators against TA-Lib's where it has them with a
finite memory.
"""

import numpy as np
import polars as pl
import pytest
import talib
from talib import abstract

from components.features import kernels as k
from components.features import order_windows as o
from components.features.build import build_factors
from components.features.config import Groups, Settings
from components.features.library import GROUPS
from components.features.library.candles import PATTERNS
from components.features.talib_indicators import LEVEL_RANGE, candle_pattern, candle_prices

PRICES = ("open", "high", "low", "close")


def only(*groups: str) -> Settings:
    return Settings(groups=Groups(**{name: name in groups for name in GROUPS}))


def bars(seed: int, rows: int, *, symbols: int = 1) -> pl.DataFrame:
    """Bars in cents of one symbol after another, with gaps, dojis and shadows enough for every kind of
    candle.
    """
    rng = np.random.default_rng(seed)
    close = 30 * np.exp(np.cumsum(0.02 * rng.standard_normal((symbols, rows)), axis=1))
    opened = np.hstack([close[:, :1], close[:, :-1]]) * np.exp(
        0.012 * rng.standard_normal(close.shape) * (rng.random(close.shape) < 0.5)
    )
    close = np.where(rng.random(close.shape) < 0.15, opened, close)
    high = np.maximum(opened, close) * np.exp(
        np.abs(0.01 * rng.standard_normal(close.shape)) * (rng.random(close.shape) < 0.7)
    )
    low = np.minimum(opened, close) * np.exp(
        -np.abs(0.01 * rng.standard_normal(close.shape)) * (rng.random(close.shape) < 0.7)
    )
    columns = {
        name: np.round(values, 2).reshape(-1)
        for name, values in zip(PRICES, (opened, high, low, close), strict=True)
    }
    return pl.DataFrame(
        columns
        | {
            k.BAR: np.tile(np.arange(rows), symbols),
            "volume": np.exp(10 + rng.standard_normal(close.size)),
        }
    )


def patterns_of(frame: pl.DataFrame) -> pl.DataFrame:
    prices = frame.select(candle_prices().alias("prices"))
    return prices.select(
        candle_pattern(pl.col("prices"), name, look_back).alias(name) for name, look_back in PATTERNS.items()
    )


def test_look_backs_are_talibs_own():
    assert {name: abstract.Function(f"CDL{name}").lookback for name in PATTERNS} == PATTERNS


def test_patterns_are_talibs_and_occur():
    frame = bars(1, 20_000)
    ours = patterns_of(frame)
    rounded = [frame[name].cast(pl.Float32).cast(pl.Float64).to_numpy() for name in PRICES]
    for name, look_back in PATTERNS.items():
        theirs = getattr(talib, f"CDL{name}")(*rounded)
        assert ours[name][:look_back].null_count() == look_back
        assert (ours[name][look_back:].to_numpy() * 100 == theirs[look_back:]).all(), name
        assert np.count_nonzero(theirs) >= 3, name


def test_rounding_to_float32_moves_hardly_any_pattern():
    frame = bars(2, 20_000)
    ours = patterns_of(frame)
    exact = [frame[name].to_numpy() for name in PRICES]
    differing = sum(
        int((ours[name][20:].to_numpy() * 100 != getattr(talib, f"CDL{name}")(*exact)[20:]).sum())
        for name in PATTERNS
    )
    assert differing <= 0.002 * 20_000 * len(PATTERNS)


@pytest.mark.parametrize("cut", [500, 2_017])
def test_patterns_forget_older_bars_and_know_no_later_ones(cut):
    frame = bars(3, 3_000)
    whole = patterns_of(frame)
    assert patterns_of(frame.head(cut)).equals(whole.head(cut))
    changed = frame.with_columns(
        pl.when(pl.int_range(pl.len()) >= cut).then(pl.col(name) * 3.0).otherwise(pl.col(name)).alias(name)
        for name in PRICES
    )
    assert patterns_of(changed).head(cut).equals(whole.head(cut))
    later = frame.slice(cut).with_columns(pl.int_range(pl.len()).alias(k.BAR))
    for name, look_back in PATTERNS.items():
        assert patterns_of(later)[name][look_back:].equals(whole[name][cut + look_back :]), name


def at_levels(levels: list[float], rows: int) -> pl.DataFrame:
    """Bars of as many symbols as there are levels, each at its own; the third knows no close now and then."""
    frame = bars(4, rows, symbols=len(levels))
    symbol = np.repeat(np.arange(len(levels)), rows)
    factor, lost = np.asarray(levels)[symbol], (symbol == 2) & (np.arange(len(symbol)) % 97 < 3)
    return frame.with_columns(pl.col(PRICES) * pl.Series(factor)).with_columns(
        close=pl.when(~pl.Series(lost)).then("close")
    )


def one_by_one(frame: pl.DataFrame, name: str, look_back: int) -> np.ndarray:
    """TA-Lib over each run of one symbol's known bars."""
    prices = [frame[price].cast(pl.Float32).cast(pl.Float64).to_numpy() for price in PRICES]
    known = frame["close"].is_not_null().to_numpy()
    begins = (frame[k.BAR].to_numpy() == 0) | ~np.append(True, known[:-1])
    result = np.full(len(frame), np.nan)
    for run in np.split(np.arange(len(frame)), np.flatnonzero(begins)[1:]):
        rows = run[known[run]]
        if len(rows) > look_back:
            found = getattr(talib, f"CDL{name}")(*(np.ascontiguousarray(price[rows]) for price in prices))
            result[rows[look_back:]] = found[look_back:] / 100
    return result


def test_symbols_at_any_levels_share_a_call_and_have_talibs_patterns():
    # The fourth moves further than sums stay exact over, so it stands alone; the last but one is infinite.
    levels = [1e-9, 1.0, 300.0, 1.0, 6e5, 1e9, 1e38, 2.0]
    frame = at_levels(levels, 600)
    steps = np.where(np.arange(600) < 300, 1.0, 4 * LEVEL_RANGE)
    moved = np.concatenate([steps if number == 3 else np.ones(600) for number in range(len(levels))])
    frame = frame.with_columns(pl.col(PRICES) * pl.Series(moved))
    alone = frame.select(candle_prices().alias("prices"))["prices"].struct.field("alone").to_numpy()
    assert set(np.flatnonzero(alone) // 600) == {3, 6}
    ours = patterns_of(frame)
    for name, look_back in PATTERNS.items():
        expected = one_by_one(frame, name, look_back)
        assert np.array_equal(ours[name].to_numpy(), expected, equal_nan=True), name


def test_without_levels_one_symbol_would_see_another():
    frame = at_levels([1e15, 1.0], 600)
    rounded = [frame[price].cast(pl.Float32).cast(pl.Float64).to_numpy() for price in PRICES]
    differing = 0
    for name, look_back in PATTERNS.items():
        together = getattr(talib, f"CDL{name}")(*rounded)[600 + look_back :] / 100
        differing += int((together != one_by_one(frame, name, look_back)[600 + look_back :]).sum())
    assert differing > 0


def test_without_the_rounding_a_running_sum_would_remember():
    # Bars in ticks of 0.1, whose bodies often equal their mean, after one bad print: on plain numbers
    # TA-Lib's running sums keep its rounding for ever.
    rng, rows, cut = np.random.default_rng(0), 3_000, 100
    opened = 30 + 0.1 * rng.integers(-3, 4, rows)
    close = opened + 0.1 * rng.integers(-2, 3, rows)
    high, low = (
        np.maximum(opened, close) + 0.1 * rng.integers(0, 3, rows),
        np.minimum(opened, close) - 0.1 * rng.integers(0, 3, rows),
    )
    close[20], high[20] = 130_030.7, 130_031.3
    exact = [np.round(values, 2) for values in (opened, high, low, close)]
    frame = pl.DataFrame(dict(zip(PRICES, exact, strict=True)) | {k.BAR: np.arange(rows)})
    whole, later = (
        patterns_of(frame),
        patterns_of(frame.slice(cut).with_columns(pl.int_range(pl.len()).alias(k.BAR))),
    )
    remembering = 0
    for name, look_back in PATTERNS.items():
        pattern = getattr(talib, f"CDL{name}")
        remembering += (
            pattern(*exact)[cut + look_back :] != pattern(*(values[cut:] for values in exact))[look_back:]
        ).any()
        assert later[name][look_back:].equals(whole[name][cut + look_back :]), name
    assert remembering >= 5


def test_patterns_do_not_cross_from_one_symbol_into_the_next_nor_over_an_unknown_bar():
    both = bars(5, 400, symbols=2)
    apart = pl.concat([patterns_of(both.head(400)), patterns_of(both.tail(400))])
    assert patterns_of(both).equals(apart)
    hole = both.head(400).with_columns(
        pl.when(pl.int_range(pl.len()) == 200).then(None).otherwise(pl.col("high")).alias("high")
    )
    found, whole = patterns_of(hole), patterns_of(both.head(400))
    for name, look_back in PATTERNS.items():
        assert found[name][:200].equals(whole[name][:200])
        assert found[name][200 : 201 + look_back].null_count() == look_back + 1
        assert found[name][201 + look_back :].equals(whole[name][201 + look_back :]), name


def test_indicators_agree_with_talib(random_panel):
    panel = random_panel(21, bars=150, symbols=6, missing=0.0).filter(pl.col("symbol") == "S02")
    high, low, close = (panel[name].to_numpy() for name in ("high", "low", "close"))
    table = build_factors(panel, only("channels"))
    aroon_down, aroon_up = talib.AROON(high, low, 25)
    expected = {
        "aroon_up_25": aroon_up,
        "aroon_down_25": aroon_down,
        "aroon_25": talib.AROONOSC(high, low, 25),
        "cci_20": talib.CCI(high, low, close, 20),
        "williams_r_14": talib.WILLR(high, low, close, 14),
        "ultimate_oscillator": talib.ULTOSC(high, low, close, 7, 14, 28),
        "line_slope_20": talib.LINEARREG_SLOPE(np.log(close), 20),
    }
    for name, theirs in expected.items():
        ours = table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        assert np.isnan(ours).sum() == np.isnan(theirs).sum(), name
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5, err_msg=name)


def test_money_flow_agrees_with_talib(random_panel):
    panel = random_panel(22, bars=150, symbols=6, missing=0.0).filter(pl.col("symbol") == "S02")
    theirs = talib.MFI(*(panel[name].to_numpy() for name in ("high", "low", "close", "volume")), 14)
    ours = (
        build_factors(panel, only("volume_liquidity"))["mfi_14"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_windows_agree_with_talib():
    frame = bars(6, 400)
    close, high = frame["close"].to_numpy(), frame["high"].to_numpy()
    ours = frame.select(
        correlation=k.correlation(pl.col("close"), pl.col("high"), 30),
        highest=k.highest(pl.col("high"), 30),
        spread=k.deviation(pl.col("close"), 20),
        distance=o.mean_absolute_deviation(pl.col("close"), 20),
    )
    expected = {
        "correlation": talib.CORREL(close, high, 30),
        "highest": talib.MAX(high, 30),
        # TA-Lib divides by n.
        "spread": talib.STDDEV(close, 20) * np.sqrt(20 / 19),
        "distance": talib.AVGDEV(close, 20),
    }
    for name, theirs in expected.items():
        np.testing.assert_allclose(
            ours[name].fill_null(np.nan).to_numpy(), theirs, rtol=1e-6, atol=1e-6, err_msg=name
        )


def test_the_newest_of_equal_highs_counts_as_in_talib():
    highs = np.array([1.0, 5.0, 2.0, 5.0, 3.0, 4.0, 1.0])
    frame = pl.DataFrame({"x": highs, k.BAR: np.arange(7)})
    since = frame.select(since=o.bars_since_newest_highest(pl.col("x"), 6))["since"].to_list()
    assert since == [None] * 5 + [2.0, 3.0]
    up = talib.AROON(highs, highs - 0.5, 5)[1]
    assert up[5:].tolist() == [100 * (5 - 2) / 5, 100 * (5 - 3) / 5]
