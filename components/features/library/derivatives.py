"""Funding and open interest of perpetual futures, and how long after its close a bar was known.

For panels that have these columns.
"""

import polars as pl

from components.features import kernels as k
from components.features.library.declare import Factor, Measure, c, share

FALL_DEVIATIONS = 2.0

MEASURES = (
    Measure("log_open_interest", "row", k.logarithm(c("open_interest"))),
    Measure("open_interest_change", "symbol", k.change(c("log_open_interest"), 1)),
    Measure("open_interest_change_5", "symbol", k.change(c("log_open_interest"), 5)),
    Measure("funding_deviation_60", "symbol", k.deviation(c("funding_rate"), 60)),
    # Open interest that vanishes in a large move is mostly liquidated, not closed at leisure.
    Measure(
        "liquidation",
        "row",
        pl.when(c("log_return").abs() > FALL_DEVIATIONS * c("deviation_20"))
        .then((-c("open_interest_change")).clip(lower_bound=0.0))
        .otherwise(0.0),
    ),
    Measure("open_interest_slope", "symbol", k.slope(c("log_open_interest"), 20)),
    Measure("market_funding", "market_mean", c("funding_rate").mean()),
    Measure("market_open_interest", "market_mean", c("open_interest_slope").mean()),
    Measure(
        "known_liquidation",
        "row",
        pl.when(c("open_interest_change").is_not_null() & c("deviation_20").is_not_null()).then(
            c("liquidation")
        ),
    ),
)

FACTORS = (
    Factor(
        "funding", "derivatives", 1, c("funding_rate"), "funding rate of the bar, in the panel's unit", "row"
    ),
    Factor("funding_change_5", "derivatives", 6, k.change(c("funding_rate"), 5), "change over 5 bars"),
    Factor("funding_sum_20", "derivatives", 20, k.total(c("funding_rate"), 20), "carry of 20 bars"),
    Factor(
        "funding_slope_20", "derivatives", 20, k.slope(c("funding_rate"), 20), "least-squares slope a bar"
    ),
    Factor(
        "funding_zscore_60",
        "derivatives",
        60,
        share(c("funding_rate") - k.mean(c("funding_rate"), 60), c("funding_deviation_60")),
        "against its own 60 bars",
    ),
    Factor("open_interest_change_1", "derivatives", 2, c("open_interest_change"), "log change", "row"),
    Factor(
        "open_interest_change_5",
        "derivatives",
        6,
        c("open_interest_change_5"),
        "log change over 5 bars",
        "row",
    ),
    Factor(
        "open_interest_slope_20",
        "derivatives",
        20,
        c("open_interest_slope"),
        "least-squares slope of the log, a bar",
        "row",
    ),
    Factor(
        "open_interest_price_5",
        "derivatives",
        6,
        c("open_interest_change_5") * c("momentum_5"),
        "Hong and Yogo 2012; open interest with or against the move",
        "row",
    ),
    Factor(
        "open_interest_turnover_20",
        "derivatives",
        20,
        share(k.mean(c("open_interest"), 20), c("volume_mean_20")).log(),
        "log of open interest over volume, in the panel's units",
    ),
    Factor(
        "liquidation_20",
        "derivatives",
        40,
        k.mean(c("known_liquidation"), 20),
        "proxy of liquidations: fall of log open interest in bars beyond 2 deviations",
    ),
    Factor(
        "market_funding_rate",
        "derivatives",
        1,
        c("market_funding"),
        "mean funding rate of all symbols",
        "market",
        "zscore",
    ),
    Factor(
        "market_open_interest_slope",
        "derivatives",
        20,
        c("market_open_interest"),
        "mean slope of log open interest of all symbols",
        "market",
        "zscore",
    ),
    Factor(
        "delay_s",
        "delay",
        1,
        (c("known_time") - c("timestamp")).dt.total_microseconds().cast(pl.Float64) / 1e6,
        "seconds from the bar's end until it was known",
        "row",
    ),
)
