"""Expressions that the factor table is written in: windows over one symbol's bars, and published estimators.

Every window ends at the present bar and has a fixed length, so a value never depends on bars older than its warm-up.
"""

import math

import polars as pl

# Denominators below this are a flat window and its rounding noise: the ratio is undefined there, not large.
FLAT = 1e-9
# The same for a product of two standard deviations, each known to half the digits of its level.
FLAT_PRODUCT = 1e-7


def lag(x: pl.Expr, bars: int) -> pl.Expr:
    """The value `bars` bars ago."""
    return x.shift(bars)


def change(x: pl.Expr, bars: int) -> pl.Expr:
    """x[t] - x[t - bars]."""
    return x - x.shift(bars)


def mean(x: pl.Expr, bars: int, at_least: int | None = None) -> pl.Expr:
    """Mean over the last `bars` values, null where fewer than `at_least` (default: all) of them are known."""
    return x.rolling_mean(bars, min_samples=at_least or bars)


def total(x: pl.Expr, bars: int) -> pl.Expr:
    """Sum over the last `bars` values."""
    return x.rolling_sum(bars)


def deviation(x: pl.Expr, bars: int) -> pl.Expr:
    """Sample standard deviation over the last `bars` values."""
    return x.rolling_std(bars)


def highest(x: pl.Expr, bars: int) -> pl.Expr:
    """Maximum over the last `bars` values."""
    return x.rolling_max(bars)


def lowest(x: pl.Expr, bars: int) -> pl.Expr:
    """Minimum over the last `bars` values."""
    return x.rolling_min(bars)


def ratio(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """a / b, null where b is flat (|b| <= 1e-9)."""
    return a / pl.when(b.abs() > FLAT).then(b)


def root(x: pl.Expr) -> pl.Expr:
    """Square root of a variance, which rounding may have left a hair below zero."""
    return x.clip(lower_bound=0.0).sqrt()


def logarithm(x: pl.Expr) -> pl.Expr:
    """Natural logarithm, null where x <= 0."""
    return pl.when(x > 0).then(x).log()


def exponential_mean(x: pl.Expr, span: int) -> pl.Expr:
    """Exponential mean with decay 1 - 2 / (span + 1), cut off after 4 * span bars; needs 4 * span + 1 bars.

    The cut makes the memory finite: the recursion's value 4 * span bars ago is subtracted with its remaining weight.
    """
    alpha, bars = 2 / (span + 1), 4 * span
    rest = (1 - alpha) ** bars
    recursion = x.ewm_mean(alpha=alpha, adjust=False, ignore_nulls=False)
    return (recursion - rest * recursion.shift(bars)) / (1 - rest)


def covariance(x: pl.Expr, y: pl.Expr, bars: int) -> pl.Expr:
    """Population covariance over the last `bars` pairs."""
    return mean(x * y, bars) - mean(x, bars) * mean(y, bars)


def correlation(x: pl.Expr, y: pl.Expr, bars: int) -> pl.Expr:
    """Pearson correlation over the last `bars` pairs of returns or logs, null where one of them is flat."""
    spread = x.rolling_std(bars) * y.rolling_std(bars) * ((bars - 1) / bars)
    return (covariance(x, y, bars) / pl.when(spread > FLAT_PRODUCT).then(spread)).clip(-1.0, 1.0)


def slope_of_sum(increment: pl.Expr, bars: int) -> pl.Expr:
    """Least-squares slope per bar of the running sum of `increment` over the last `bars` bars."""
    centre = (bars - 1) / 2
    scale = sum((k - centre) ** 2 for k in range(bars))
    weights = [sum(k - centre for k in range(j, bars)) / scale for j in range(bars)]
    # Weighted windows take no nulls; an unknown increment adds nothing to the running sum.
    return increment.fill_null(0.0).rolling_sum(bars, weights=weights)


def roll_spread(log_return: pl.Expr, bars: int) -> pl.Expr:
    """Effective spread 2 sqrt(-cov(r[t], r[t-1])), 0 where the covariance is positive (Roll 1984); needs bars + 2 bars."""
    return 2 * (-covariance(log_return, log_return.shift(1), bars)).clip(lower_bound=0.0).sqrt()


def corwin_schultz(two_bar_sum: pl.Expr, two_bar_range: pl.Expr) -> pl.Expr:
    """Spread of two neighbouring bars from highs and lows, negative estimates set to 0 (Corwin and Schultz 2012).

    `two_bar_sum` is beta, the sum of both squared log ranges; `two_bar_range` is sqrt(gamma), the log range of both together.
    """
    constant = 3 - 2 * math.sqrt(2)
    alpha = (math.sqrt(2) - 1) * two_bar_sum.sqrt() / constant - two_bar_range / math.sqrt(constant)
    return (2 * (alpha.exp() - 1) / (1 + alpha.exp())).clip(lower_bound=0.0)


def yang_zhang(overnight: pl.Expr, intraday: pl.Expr, rogers_satchell: pl.Expr, bars: int) -> pl.Expr:
    """Volatility a bar that is free of drift and counts opening jumps (Yang and Zhang 2000); needs bars + 1 bars."""
    k = 0.34 / (1.34 + (bars + 1) / (bars - 1))
    return root(overnight.rolling_var(bars) + k * intraday.rolling_var(bars) + (1 - k) * mean(rogers_satchell, bars))


def cyclic(position: pl.Expr, length: int, phase: str) -> pl.Expr:
    """sin or cos of a position on a circle of `length` steps."""
    angle = position.cast(pl.Float64) * (2 * math.pi / length)
    return angle.sin() if phase == "sin" else angle.cos()
