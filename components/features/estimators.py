"""Published estimators of spread and volatility, as expressions over bars."""

import math

import polars as pl

from components.features.kernels import covariance, lag, mean, root, variance


def roll_spread(log_return: pl.Expr, bars: int) -> pl.Expr:
    """Effective spread 2 sqrt(-cov(r[t], r[t-1])), 0 where the covariance is positive (Roll 1984); needs bars
    + 2 bars.
    """
    return 2 * (-covariance(log_return, lag(log_return, 1), bars)).clip(lower_bound=0.0).sqrt()


def corwin_schultz(two_bar_sum: pl.Expr, two_bar_range: pl.Expr) -> pl.Expr:
    """Spread of two neighbouring bars from highs and lows, negative estimates set to 0 (Corwin and Schultz
    2012).

    `two_bar_sum` is beta, the sum of both squared log ranges; `two_bar_range` is sqrt(gamma), the log range
    of both together.
    """
    constant = 3 - 2 * math.sqrt(2)
    alpha = (math.sqrt(2) - 1) * two_bar_sum.sqrt() / constant - two_bar_range / math.sqrt(constant)
    return (2 * (alpha.exp() - 1) / (1 + alpha.exp())).clip(lower_bound=0.0)


def yang_zhang(overnight: pl.Expr, intraday: pl.Expr, rogers_satchell: pl.Expr, bars: int) -> pl.Expr:
    """Volatility a bar that is free of drift and counts opening jumps (Yang and Zhang 2000); needs bars + 1
    bars.
    """
    k = 0.34 / (1.34 + (bars + 1) / (bars - 1))
    return root(
        variance(overnight, bars) + k * variance(intraday, bars) + (1 - k) * mean(rogers_satchell, bars)
    )
