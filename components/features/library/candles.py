"""Candles: shares of body and shadows, and the patterns of TA-Lib that are not rare on stocks."""

import polars as pl

from components.features import kernels as k
from components.features.library.declare import Factor, Measure, c, flag, share
from components.features.talib_indicators import candle_pattern, candle_prices

GROUP = "candles"
# TA-Lib's name of each pattern, and how many bars before the present one it reads.
PATTERNS = {
    "SPINNINGTOP": 10,
    "LONGLINE": 10,
    "SHORTLINE": 10,
    "BELTHOLD": 10,
    "DOJI": 10,
    "LONGLEGGEDDOJI": 10,
    "DRAGONFLYDOJI": 10,
    "GRAVESTONEDOJI": 10,
    "HIGHWAVE": 10,
    "MARUBOZU": 10,
    "CLOSINGMARUBOZU": 10,
    "HIKKAKE": 5,
    "ENGULFING": 2,
    "HARAMI": 11,
    "HARAMICROSS": 11,
    "DOJISTAR": 11,
    "HAMMER": 11,
    "INVERTEDHAMMER": 11,
    "HANGINGMAN": 11,
    "SHOOTINGSTAR": 11,
    "HOMINGPIGEON": 11,
    "MATCHINGLOW": 6,
    "THRUSTING": 11,
    "TASUKIGAP": 7,
    "XSIDEGAP3METHODS": 2,
    "3INSIDE": 12,
    "3OUTSIDE": 3,
    "ADVANCEBLOCK": 12,
    "MORNINGSTAR": 12,
    "EVENINGSTAR": 12,
}

MEASURES = (
    Measure("candle_body", "row", share(c("close") - c("open"), c("bar_span"))),
    Measure("candle_prices", "symbol", candle_prices()),
)

FACTORS = (
    Factor("candle_body", GROUP, 1, c("candle_body"), "Nison 1991; body over range, signed", "row"),
    Factor(
        "candle_upper_shadow",
        GROUP,
        1,
        share(c("high") - c("body_top"), c("bar_span")),
        "Nison 1991; upper shadow over range",
        "row",
    ),
    Factor(
        "candle_lower_shadow",
        GROUP,
        1,
        share(c("body_bottom") - c("low"), c("bar_span")),
        "Nison 1991; lower shadow over range",
        "row",
    ),
    Factor(
        "candle_body_10",
        GROUP,
        10,
        k.mean(
            pl.when((c("bar_span") + c("open") + c("close")).is_not_null()).then(
                c("candle_body").fill_null(0.0)
            ),
            10,
        ),
        "mean signed body of 10 bars",
    ),
    Factor(
        "candle_inside",
        GROUP,
        2,
        flag((c("high") <= c("high_before")) & (c("low") >= c("low_before"))),
        "Crabel 1990; inside bar: within the range of the bar before",
        "row",
        "none",
    ),
    Factor(
        "candle_outside",
        GROUP,
        2,
        flag((c("high") > c("high_before")) & (c("low") < c("low_before"))),
        "Crabel 1990; outside bar: beyond both ends of the bar before",
        "row",
        "none",
    ),
    *(
        Factor(
            f"candle_{name.lower()}",
            GROUP,
            look_back + 1,
            candle_pattern(c("candle_prices"), name, look_back),
            f"Nison 1991; TA-Lib CDL{name}, over 100",
            "symbol",
            "none",
        )
        for name, look_back in PATTERNS.items()
    ),
)
