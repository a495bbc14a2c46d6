"""Windows: numbers against a loop over windows, the same bits whatever history lies before, symbols that
don't mix, formulas that read well.
"""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from components.features import folding
from components.features import kernels as k
from components.features.expressions import columns_read, formula

BARS = 7
X, Y = pl.col("x"), pl.col("y")
TIME = np.arange(BARS)


def fit(w):
    return stats.linregress(TIME, w)


def exponential(w):
    weights = (1 - 2 / (2 + 1)) ** np.arange(len(w))[::-1]
    return np.sum(weights * w) / weights.sum()


# Expression, rows of its window, and the same over one window of x (and y), written as one would on paper.
WINDOWS = {
    "lag": (k.lag(X, BARS - 1), BARS, lambda x, y: x[0]),
    "change": (k.change(X, BARS - 1), BARS, lambda x, y: x[-1] - x[0]),
    "mean": (k.mean(X, BARS), BARS, lambda x, y: x.mean()),
    "total": (k.total(X, BARS), BARS, lambda x, y: x.sum()),
    "variance": (k.variance(X, BARS), BARS, lambda x, y: x.var(ddof=1)),
    "deviation": (k.deviation(X, BARS), BARS, lambda x, y: x.std(ddof=1)),
    "skewness": (k.skewness(X, BARS), BARS, lambda x, y: stats.skew(x)),
    "kurtosis": (k.kurtosis(X, BARS), BARS, lambda x, y: stats.kurtosis(x)),
    "highest": (k.highest(X, BARS), BARS, lambda x, y: x.max()),
    "lowest": (k.lowest(X, BARS), BARS, lambda x, y: x.min()),
    "quantile": (k.quantile(X, BARS, 0.8), BARS, lambda x, y: np.quantile(x, 0.8)),
    "rank": (k.rank(X, BARS), BARS, lambda x, y: stats.rankdata(x)[-1] / BARS),
    "slope": (k.slope(X, BARS), BARS, lambda x, y: fit(x).slope),
    "rsquare": (k.rsquare(X, BARS), BARS, lambda x, y: fit(x).rvalue ** 2),
    "residual": (
        k.residual(X, BARS),
        BARS,
        lambda x, y: x[-1] - fit(x).intercept - fit(x).slope * (BARS - 1),
    ),
    "exponential_mean": (k.exponential_mean(X, 2), 9, lambda x, y: exponential(x[1:])),
    "covariance": (k.covariance(X, Y, BARS), BARS, lambda x, y: np.cov(x, y, ddof=0)[0, 1]),
    "correlation": (k.correlation(X, Y, BARS), BARS, lambda x, y: np.corrcoef(x, y)[0, 1]),
    "slope_of_sum": (k.slope_of_sum(X, BARS), BARS, lambda x, y: fit(np.cumsum(x)).slope),
}


def frame(x, y=None, lengths=None) -> pl.DataFrame:
    lengths = lengths or [len(x)]
    bar = np.concatenate([np.arange(length) for length in lengths])
    return pl.DataFrame(
        {
            "x": pl.Series(x, dtype=pl.Float64, nan_to_null=True),
            "y": pl.Series(x if y is None else y, dtype=pl.Float64, nan_to_null=True),
            k.BAR: bar,
        }
    )


def series(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return 5 + rng.standard_normal(rows), np.round(rng.standard_normal(rows), 1)


@pytest.mark.parametrize("name", WINDOWS)
def test_a_window_agrees_with_a_loop(name):
    expression, rows, expected = WINDOWS[name]
    lengths = [40, 3, 1, BARS, 60]
    x, y = series(1, sum(lengths))
    got = frame(x, y, lengths).select(expression.alias("v"))["v"].to_list()
    start = 0
    for length in lengths:
        for i in range(start, start + length):
            if i - start < rows - 1:
                assert got[i] is None
            else:
                assert got[i] == pytest.approx(
                    expected(x[i - rows + 1 : i + 1], y[i - rows + 1 : i + 1]), rel=1e-9, abs=1e-12
                )
        start += length


@pytest.mark.parametrize("name", WINDOWS)
@settings(max_examples=12, deadline=None)
@given(st.data())
def test_the_history_before_a_window_leaves_no_bit_behind(name, data):
    expression, rows, _ = WINDOWS[name]
    values = st.lists(
        st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, np.nan])), min_size=rows, max_size=3 * rows
    )
    x, before = (
        np.array(data.draw(values)),
        np.array(data.draw(st.lists(st.floats(-1e12, 1e12), max_size=40))),
    )
    alone = frame(x).select(expression.alias("v"))["v"]
    after = frame(np.concatenate([before, x])).select(expression.alias("v"))["v"][len(before) :]
    assert alone[rows - 1 :].equals(after[rows - 1 :])


def test_blocks_do_not_show(monkeypatch):
    x, y = series(2, 500)
    whole = {name: frame(x, y).select(window[0].alias("v"))["v"] for name, window in WINDOWS.items()}
    monkeypatch.setattr(folding, "BLOCK_ROWS", 11)
    for name, window in WINDOWS.items():
        assert frame(x, y).select(window[0].alias("v"))["v"].equals(whole[name]), name


@pytest.mark.parametrize(
    "name", [name for name in WINDOWS if name not in ("lag", "change", "exponential_mean", "slope_of_sum")]
)
def test_an_unknown_value_blanks_the_windows_that_hold_it_and_no_other(name):
    expression, rows, _ = WINDOWS[name]
    x, y = series(3, 60)
    holed = x.copy()
    holed[30] = np.nan
    whole, got = (frame(values, y).select(expression.alias("v"))["v"] for values in (x, holed))
    assert got[30 : 30 + rows].null_count() == rows
    assert got[:30].equals(whole[:30])
    assert got[30 + rows :].equals(whole[30 + rows :])


def test_windows_that_may_miss_values():
    x = [1.0, 2.0, None, 4.0, 10.0, None, None]
    got = frame(x).select(
        k.mean(X, 4, at_least=2).alias("m"),
        k.deviation(X, 4, at_least=3).alias("d"),
        k.exponential_mean(X, 1).alias("e"),
    )
    assert got["m"].to_list() == pytest.approx([None, None, None, 7 / 3, 16 / 3, 7.0, 7.0])
    assert got["d"].to_list()[:3] == [None] * 3
    assert got["d"].to_list()[3:5] == pytest.approx([np.std([1, 2, 4], ddof=1), np.std([2, 4, 10], ddof=1)])
    assert got["d"].to_list()[5:] == [None, None]
    assert got["e"].to_list()[4:] == [10.0, None, None]


def test_flat_windows_have_no_spread_and_no_ratio():
    flat = frame([7.3] * 30)
    names = ("deviation", "skewness", "kurtosis", "rsquare", "correlation")
    got = flat.select(**{name: WINDOWS[name][0] for name in names}, ratio=k.ratio(X, k.deviation(X, BARS)))[
        BARS:
    ]
    assert got["deviation"].to_list() == [0.0] * len(got)
    assert got.select(names[1:]).null_count().row(0) == (len(got),) * 4
    assert got["ratio"].null_count() == len(got)


def test_elementwise_expressions():
    got = frame([1.0, -4.0, 0.0, None], [2.0, 1e-12, 0.0, 3.0]).select(
        r=k.ratio(X, Y), l=k.logarithm(X), root=k.root(X)
    )
    assert got["r"].to_list() == [0.5, None, None, None]
    assert got["l"].to_list() == [0.0, None, None, None]
    assert got["root"].to_list() == [1.0, 0.0, 0.0, None]


def test_windows_are_refused_that_would_look_ahead_or_hold_nothing():
    for bars in (0, -1):
        with pytest.raises(ValueError, match="1 or more"):
            k.lag(X, bars)
    assert frame([]).select(k.mean(X, 3)).is_empty()


def test_formulas_name_the_window_and_columns_leave_out_the_bar_number():
    expression = k.ratio(k.change(X, 3), k.covariance(k.lag(X, 1), k.mean(Y, 5, at_least=2), 20))
    assert (
        formula(expression) == 'col("x").change(3).ratio(col("x").lag(1).covariance(col("y").mean(5, 2), 20))'
    )
    assert columns_read(expression) == ("x", "y")
