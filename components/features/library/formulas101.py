"""Formulas of Kakushadze 2016, 101 Formulaic Alphas, beyond those in the older groups: on log prices where
differences are meant.

`rank` across symbols is the share of a timestamp's symbols with a lower or equal value. An outermost rank is
left out where the input is ranked anyway. Where the paper ranks prices or volumes themselves across symbols,
ours ranks them against the symbol's own mean of 20 bars ("relative"): on prices adjusted backwards a level
knows the splits and dividends to come.
"""

import polars as pl

from components.features import kernels as k
from components.features.library.declare import Factor, Measure, c, share

GROUP = "formulas"


def _ranked(name: str, of: pl.Expr) -> Measure:
    """The rank of an expression of columns among the symbols of the timestamp, in (0, 1]."""
    return Measure(name, "cross_section", of.rank() / of.count())


def _together(x: pl.Expr, y: pl.Expr, bars: int) -> pl.Expr:
    """Correlation; 0 where one of the two stands still, as ranks often do."""
    return k.correlation(x, y, bars).fill_null(0.0 * k.covariance(x, y, bars))


def _alpha(number: int, warm_up_bars: int, expression: pl.Expr, what: str, scope: str = "symbol") -> Factor:
    return Factor(
        f"alpha_{number:03d}", GROUP, warm_up_bars, expression, f"Kakushadze 2016, {number}; {what}", scope
    )


MEASURES = (
    Measure("close_change_7", "symbol", k.change(c("log_close"), 7)),
    Measure("lowest_change_5", "symbol", k.lowest(c("log_return"), 5)),
    Measure("highest_change_5", "symbol", k.highest(c("log_return"), 5)),
    Measure("volume_change_2", "symbol", k.change(c("log_volume"), 2)),
    Measure("close_acceleration", "symbol", k.change(c("log_return"), 1)),
    Measure("return_change_3", "symbol", k.change(c("log_return"), 3)),
    Measure("relative_volume", "row", share(c("volume"), c("volume_mean_20"))),
    Measure("close_rank_10", "symbol", k.rank(c("log_close"), 10)),
    Measure("high_rank_5", "symbol", k.rank(c("log_high"), 5)),
    Measure("volume_rank_5", "symbol", k.rank(c("volume"), 5)),
    Measure("relative_volume_rank_5", "symbol", k.rank(c("relative_volume"), 5)),
    Measure(
        "stochastic_12",
        "symbol",
        k.ratio(
            c("log_close") - k.lowest(c("log_low"), 12),
            k.highest(c("log_high"), 12) - k.lowest(c("log_low"), 12),
        ),
    ),
    Measure("open_gap_high", "row", c("log_open") - c("previous_high")),
    Measure("open_gap_low", "row", c("log_open") - c("previous_low")),
    Measure(
        "volatility_2_5", "symbol", share(k.deviation(c("log_return"), 2), k.deviation(c("log_return"), 5))
    ),
    Measure("high_deviation_10", "symbol", k.deviation(c("log_high"), 10)),
    Measure("high_volume_correlation_5", "symbol", k.correlation(c("log_high"), c("log_volume"), 5)),
    Measure("rank_correlation_5", "symbol", _together(c("volume_rank_5"), c("high_rank_5"), 5)),
    Measure("size_of_change_7_rank_60", "symbol", k.rank(c("close_change_7").abs(), 60)),
    Measure("log_close_mean_20", "symbol", k.mean(c("log_close"), 20)),
    _ranked("ranked_open", c("log_open") - c("log_close_mean_20")),
    _ranked("ranked_high", c("log_high") - c("log_close_mean_20")),
    _ranked("ranked_low", c("log_low") - c("log_close_mean_20")),
    _ranked("ranked_close", c("log_close") - c("log_close_mean_20")),
    _ranked("ranked_volume", c("relative_volume")),
    _ranked("ranked_volume_change_2", c("volume_change_2")),
    _ranked("ranked_intraday", c("intraday_return")),
    _ranked("ranked_return_change_3", c("return_change_3")),
    _ranked("ranked_close_rank_10", c("close_rank_10")),
    _ranked("ranked_acceleration", c("close_acceleration")),
    _ranked("ranked_relative_volume_rank_5", c("relative_volume_rank_5")),
    _ranked("ranked_stochastic_12", c("stochastic_12")),
    _ranked("ranked_open_gap_high", c("open_gap_high")),
    _ranked("ranked_open_gap_close", c("overnight_return")),
    _ranked("ranked_open_gap_low", c("open_gap_low")),
    _ranked("ranked_volatility_2_5", c("volatility_2_5")),
    _ranked("ranked_close_change_1", c("log_return")),
    _ranked("ranked_close_deviation_20", c("close_deviation_20")),
    _ranked("ranked_high_deviation_10", c("high_deviation_10")),
    Measure("high_volume_rank_correlation_3", "symbol", _together(c("ranked_high"), c("ranked_volume"), 3)),
    _ranked("ranked_high_volume_correlation", c("high_volume_rank_correlation_3")),
)

FACTORS = (
    _alpha(
        2,
        8,
        -_together(c("ranked_volume_change_2"), c("ranked_intraday"), 6),
        "-corr(rank(change of log volume over 2), rank(close over open), 6)",
    ),
    _alpha(
        3,
        29,
        -_together(c("ranked_open"), c("ranked_volume"), 10),
        "-corr(rank(relative open), rank(relative volume), 10)",
    ),
    _alpha(4, 28, -k.rank(c("ranked_low"), 9), "-ts_rank(rank(relative low), 9)"),
    _alpha(
        7,
        67,
        pl.when(c("volume") > c("volume_mean_20"))
        .then(-c("size_of_change_7_rank_60") * c("close_change_7").sign())
        .when(c("size_of_change_7_rank_60").is_not_null() & c("volume_mean_20").is_not_null())
        .then(-1.0),
        "on more than average volume -ts_rank(|change over 7|, 60) * sign, else -1",
        "row",
    ),
    _alpha(
        9,
        6,
        pl.when((c("lowest_change_5") > 0) | (c("highest_change_5") < 0))
        .then(c("log_return"))
        .when(c("lowest_change_5").is_not_null())
        .then(-c("log_return")),
        "the change, reversed unless all 5 have one sign",
        "row",
    ),
    _alpha(
        13,
        24,
        -k.covariance(c("ranked_close"), c("ranked_volume"), 5),
        "-cov(rank(relative close), rank(relative volume), 5)",
    ),
    _alpha(
        14,
        10,
        -c("ranked_return_change_3") * k.correlation(c("log_open"), c("log_volume"), 10),
        "-rank(change of return over 3) * corr(open, volume, 10)",
    ),
    _alpha(
        15,
        24,
        -k.total(c("ranked_high_volume_correlation"), 3),
        "-sum(rank(corr(rank(relative high), rank(relative volume), 3)), 3)",
    ),
    _alpha(
        16,
        24,
        -k.covariance(c("ranked_high"), c("ranked_volume"), 5),
        "-cov(rank(relative high), rank(relative volume), 5)",
    ),
    _alpha(
        17,
        24,
        -c("ranked_close_rank_10") * c("ranked_acceleration") * c("ranked_relative_volume_rank_5"),
        "-rank(ts_rank(close, 10)) * rank(second change) * rank(ts_rank(relative volume, 5))",
        "row",
    ),
    _alpha(
        20,
        2,
        -c("ranked_open_gap_high") * c("ranked_open_gap_close") * c("ranked_open_gap_low"),
        "-product of the ranks of the open less the high, close, low before",
        "row",
    ),
    _alpha(
        22,
        20,
        -k.change(c("high_volume_correlation_5"), 5) * c("ranked_close_deviation_20"),
        "-change(corr(high, volume, 5), 5) * rank(deviation(close, 20))",
    ),
    _alpha(
        26,
        11,
        -k.highest(c("rank_correlation_5"), 3),
        "-max(corr(ts_rank(volume, 5), ts_rank(high, 5), 5), 3)",
    ),
    _alpha(
        34,
        6,
        2 - c("ranked_volatility_2_5") - c("ranked_close_change_1"),
        "1 - rank(deviation 2 over 5) + 1 - rank(change)",
        "row",
    ),
    _alpha(
        35,
        33,
        k.rank(c("volume"), 32)
        * (1 - k.rank(c("log_close") + c("log_range"), 16))
        * (1 - k.rank(c("log_return"), 32)),
        "ts_rank(volume, 32) * (1 - ts_rank(close + high - low, 16)) * (1 - ts_rank(return, 32))",
    ),
    _alpha(
        38,
        10,
        -c("ranked_close_rank_10") * c("ranked_intraday"),
        "-rank(ts_rank(close, 10)) * rank(close over open)",
        "row",
    ),
    _alpha(
        40,
        10,
        -c("ranked_high_deviation_10") * k.correlation(c("log_high"), c("log_volume"), 10),
        "-rank(deviation(high, 10)) * corr(high, volume, 10)",
    ),
    _alpha(41, 1, c("log_middle") - c("vwap").log(), "middle of the range over vwap", "row"),
    _alpha(
        43,
        39,
        k.rank(c("relative_volume"), 20) * k.rank(-c("close_change_7"), 8),
        "ts_rank(relative volume, 20) * ts_rank(-change over 7, 8)",
    ),
    _alpha(44, 24, -_together(c("log_high"), c("ranked_volume"), 5), "-corr(high, rank(relative volume), 5)"),
    _alpha(
        54,
        1,
        -share(c("close") - c("low"), c("high") - c("low")) * (c("open") / c("close")) ** 5,
        "-(low - close) * open^5 / ((low - high) * close^5)",
        "row",
    ),
    _alpha(
        55,
        25,
        -_together(c("ranked_stochastic_12"), c("ranked_volume"), 6),
        "-corr(rank(place in the range of 12), rank(relative volume), 6)",
    ),
)
