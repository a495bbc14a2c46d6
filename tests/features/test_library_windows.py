"""The library's own windows, nested and ordered, against the plain kernels and NumPy; each computed from its
own values alone.
"""

import numpy as np
import polars as pl
import pytest

from components.features import kernels as k
from components.features import nested_windows as n
from components.features import order_windows as o
from components.features.profile_windows import volume_profile

WINDOWS = (5, 10, 20, 30, 60)
X, Y = pl.col("x"), pl.col("y")


def two_symbols(seed: int = 0, rows: int = 700) -> pl.DataFrame:
    """Two symbols one after the other: x in cents with ties, y beside it, two unknown values in
    the second.
    """
    rng = np.random.default_rng(seed)
    x = np.round(40 + np.cumsum(rng.standard_normal(2 * rows)), 1)
    y = 0.3 * x + rng.standard_normal(2 * rows)
    frame = pl.DataFrame({"x": x, "y": y, k.BAR: np.tile(np.arange(rows), 2)})
    hole = pl.int_range(pl.len()).is_in([rows + 200, rows + 411])
    return frame.with_columns(pl.when(hole).then(None).otherwise(X).alias("x"))


NESTED = {
    "lines": n.lines(X, WINDOWS),
    "moments": n.moments(X, WINDOWS),
    "extremes": n.extremes(X, Y, WINDOWS),
    "ranks": n.ranks(X, WINDOWS),
    "quantiles": n.quantiles(X, WINDOWS, 0.2, 0.8),
    "correlations": n.correlations(X, Y, WINDOWS),
    "signs": n.signs(X - 40, WINDOWS),
    "gains": n.gains(X - 40, WINDOWS),
}
ORDERED = {
    "mean_absolute_deviation": o.mean_absolute_deviation(X, 20),
    "bars_since_newest_highest": o.bars_since_newest_highest(X, 26),
    "mean_of_lowest": o.mean_of_lowest(X, 60, 3),
    "hill": o.hill(X, 60, 6),
    "profile": volume_profile((Y + 1).log(), Y.log(), (Y + 0.5).log(), X, 60, 24, 0.7),
}


def bars_since_highest(x: pl.Expr, bars: int) -> pl.Expr:
    """Of equal ones the oldest counts."""

    def counted(values: list[np.ndarray]) -> np.ndarray:
        padded = np.concatenate([np.full(bars - 1, np.nan), values[0]])
        seen = np.lib.stride_tricks.sliding_window_view(padded, bars)
        return np.where(np.isnan(seen).any(axis=1), np.nan, bars - 1 - seen.argmax(axis=1))

    return k.window("bars_since_highest", [x], bars, counted)


def plain(field: str, bars: int) -> pl.Expr:
    """The same window by the kernels that take one length."""
    up = (X - 40).clip(lower_bound=0.0)
    return {
        "lines.mean": lambda: k.mean(X, bars),
        "lines.deviation": lambda: k.deviation(X, bars),
        "lines.slope": lambda: k.slope(X, bars),
        "lines.rsquare": lambda: k.rsquare(X, bars),
        "lines.residual": lambda: k.residual(X, bars),
        "moments.mean": lambda: k.mean(X, bars),
        "moments.deviation": lambda: k.deviation(X, bars),
        "extremes.highest": lambda: k.highest(X + 0 * Y, bars),
        "extremes.lowest": lambda: k.lowest(Y + 0 * X, bars),
        "extremes.since_highest": lambda: bars_since_highest(X + 0 * Y, bars),
        "extremes.since_lowest": lambda: bars_since_highest(-Y + 0 * X, bars),
        "ranks.rank": lambda: k.rank(X, bars),
        "quantiles.lower": lambda: k.quantile(X, bars, 0.2),
        "quantiles.upper": lambda: k.quantile(X, bars, 0.8),
        "correlations.correlation": lambda: k.correlation(X, Y, bars),
        "signs.rises": lambda: k.mean((X > 40).cast(pl.Float64), bars),
        "signs.falls": lambda: k.mean((X < 40).cast(pl.Float64), bars),
        "gains.gain": lambda: k.total(up, bars) / k.total((X - 40).abs(), bars),
    }[field]()


@pytest.mark.parametrize("name", NESTED)
def test_nested_windows_are_the_plain_ones(name):
    frame = two_symbols()
    found = frame.select(found=NESTED[name]).unnest("found")
    for column in found.columns:
        field, bars = column.rsplit("_", 1)
        expected = (
            frame.select(expected=plain(f"{name}.{field}", int(bars)))["expected"]
            .fill_null(np.nan)
            .to_numpy()
        )
        ours = found[column].to_numpy()
        assert np.array_equal(np.isnan(ours), np.isnan(expected)), column
        assert np.isfinite(expected).sum() > 800, column
        np.testing.assert_allclose(ours, expected, rtol=2e-6, atol=2e-6, err_msg=column)


@pytest.mark.parametrize("name", [*NESTED, *ORDERED])
def test_a_window_has_the_same_bits_whatever_lies_before_it_or_after(name):
    expression = (NESTED | ORDERED)[name]
    frame = two_symbols(1, 1_300)
    whole = frame.select(found=expression)
    for start, end in ((0, 777), (313, 1_300), (1_300, 2_600), (1_937, 2_400)):
        part = (
            frame.slice(start, end - start)
            .with_columns(pl.int_range(pl.len()).alias(k.BAR))
            .select(found=expression)
        )
        assert part["found"][59:].equals(whole["found"][start + 59 : end]), (start, end)


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("rows", [1, 7, 59])
def test_fewer_rows_than_the_longest_window_give_the_shorter_windows(name, rows):
    frame = two_symbols(3)
    whole = frame.select(found=NESTED[name])
    assert frame.head(rows).select(found=NESTED[name]).equals(whole.head(rows))


@pytest.mark.parametrize("name", [*NESTED, *ORDERED])
def test_a_window_never_reaches_into_another_symbol(name):
    expression = (NESTED | ORDERED)[name]
    frame = two_symbols(2)
    apart = pl.concat([half.select(found=expression) for half in (frame.head(700), frame.tail(700))])
    assert frame.select(found=expression).equals(apart)


def test_large_levels_keep_their_digits():
    # A price of a million that moves by cents: sums of squares of the level itself would lose the deviation.
    rng = np.random.default_rng(3)
    x = 1e6 + 0.01 * rng.standard_normal(100)
    frame = pl.DataFrame({"x": x, k.BAR: np.arange(100)})
    found = frame.select(found=n.lines(X, WINDOWS)).unnest("found").row(-1, named=True)
    assert found["deviation_60"] == pytest.approx(x[-60:].std(ddof=1), rel=1e-5)
    assert found["slope_60"] == pytest.approx(np.polyfit(np.arange(60), x[-60:] - 1e6, 1)[0], rel=1e-4)
    flat = (
        pl.DataFrame({"x": np.full(100, 1e6 + 0.1), k.BAR: np.arange(100)})
        .select(found=n.lines(X, WINDOWS))
        .unnest("found")
        .row(-1, named=True)
    )
    assert flat["deviation_60"] == 0.0
    assert np.isnan(flat["rsquare_60"])


def test_ordered_windows_against_numpy():
    frame = two_symbols(4).head(300)
    x = frame["x"].to_numpy()
    found = frame.select(
        low=o.mean_of_lowest(X, 60, 3), hill=o.hill(X - 5, 60, 6), distance=o.mean_absolute_deviation(X, 20)
    ).row(-1, named=True)
    assert found["low"] == pytest.approx(np.sort(x[-60:])[:3].mean())
    assert found["distance"] == pytest.approx(np.abs(x[-20:] - x[-20:].mean()).mean())
    top = np.sort(x[-60:] - 5)[::-1]
    assert found["hill"] == pytest.approx(np.log(top[:6] / top[6]).mean())
    assert frame.select(o.hill(X - 1e6, 60, 6).alias("none"))["none"].null_count() == len(frame)
