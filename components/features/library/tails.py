"""The tails of one symbol's returns: expected shortfall, quantile spreads, tail indices, jumps; all of log
returns a bar.
"""

import math

import polars as pl

from components.features import kernels as k
from components.features import order_windows as o
from components.features.library.declare import Factor, Measure, c, share

GROUP = "tails"


def _quantile(percent: int) -> pl.Expr:
    return c(f"return_quantile_{percent}")


MEASURES = (
    *(
        Measure(f"return_quantile_{p}", "symbol", k.quantile(c("log_return"), 60, p / 100))
        for p in (5, 25, 50, 75, 95)
    ),
    Measure("shortfall_60", "symbol", o.mean_of_lowest(c("log_return"), 60, 3)),
    Measure("windfall_60", "symbol", -o.mean_of_lowest(-c("log_return"), 60, 3)),
    Measure("bipower", "symbol", c("log_return").abs() * k.lag(c("log_return"), 1).abs()),
    Measure("return_squares_60", "symbol", k.total(c("return_squared"), 60)),
    Measure("return_deviation", "symbol", c("log_return") - k.mean(c("log_return"), 60)),
    Measure("market_deviation", "symbol", c("market_return") - k.mean(c("market_return"), 60)),
    Measure("falling_market_squared", "row", c("market_return").clip(upper_bound=0.0) ** 2),
    Measure("return_in_falling_market", "row", c("log_return") * c("market_return").clip(upper_bound=0.0)),
)

FACTORS = (
    Factor("value_at_risk_60", GROUP, 61, _quantile(5), "5 % quantile", "row"),
    Factor(
        "expected_shortfall_60",
        GROUP,
        61,
        c("shortfall_60"),
        "Acerbi and Tasche 2002; mean of the worst 3 of 60",
        "row",
    ),
    Factor("expected_windfall_60", GROUP, 61, c("windfall_60"), "mean of the best 3 of 60", "row"),
    Factor(
        "tail_ratio_60",
        GROUP,
        61,
        share(_quantile(95), -_quantile(5)),
        "95 % quantile over the size of the 5 % quantile",
        "row",
    ),
    Factor(
        "tail_asymmetry_60",
        GROUP,
        61,
        k.ratio(c("windfall_60") + c("shortfall_60"), c("windfall_60") - c("shortfall_60")),
        "best 3 against worst 3 of 60",
        "row",
    ),
    Factor("quantile_spread_60", GROUP, 61, _quantile(95) - _quantile(5), "95 % less 5 % quantile", "row"),
    Factor(
        "quantile_skewness_60",
        GROUP,
        61,
        k.ratio(_quantile(95) + _quantile(5) - 2 * _quantile(50), _quantile(95) - _quantile(5)),
        "Hinkley 1975, Bowley's skewness at 5 %",
        "row",
    ),
    Factor(
        "quantile_kurtosis_60",
        GROUP,
        61,
        k.ratio(_quantile(95) - _quantile(5), _quantile(75) - _quantile(25)),
        "Hogg 1974, tails over the middle half",
        "row",
    ),
    Factor(
        "hill_left_120",
        GROUP,
        121,
        o.hill(-c("log_return"), 120, 12),
        "Hill 1975, inverse tail index of the 12 largest falls of 120",
    ),
    Factor(
        "hill_right_120",
        GROUP,
        121,
        o.hill(c("log_return"), 120, 12),
        "Hill 1975, inverse tail index of the 12 largest rises of 120",
    ),
    Factor(
        "jump_share_60",
        GROUP,
        62,
        1 - math.pi / 2 * share(k.total(c("bipower"), 60), c("return_squares_60")),
        "Barndorff-Nielsen and Shephard 2004, share of the variance beyond bipower variation",
    ),
    Factor(
        "largest_square_share_60",
        GROUP,
        61,
        share(k.highest(c("return_squared"), 60), c("return_squares_60")),
        "share of the largest move in the sum of squares",
    ),
    Factor(
        "coskewness_60",
        GROUP,
        120,
        k.ratio(
            k.mean(c("return_deviation") * c("market_deviation") ** 2, 60),
            c("deviation_60") * c("market_deviation_60") ** 2,
        ),
        "Harvey and Siddique 2000, with the squared market",
    ),
    Factor(
        "downside_beta_60",
        GROUP,
        61,
        share(k.total(c("return_in_falling_market"), 60), k.total(c("falling_market_squared"), 60)),
        "Ang, Chen and Xing 2006; about zero, on bars of a falling market",
    ),
)
