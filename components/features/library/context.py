"""What all symbols share, and the raw bar: calendar, the market's regime, bars; and the codes of a row's
sector and industry.
"""

import zlib

import polars as pl

from components.contracts import (
    BETA_COLUMN,
    INDUSTRY_COLUMN,
    REGIME_COLUMN,
    RETURN_COLUMN,
    SECTOR_COLUMN,
    VOLATILITY_COLUMN,
)
from components.features import kernels as k
from components.features import regime
from components.features.library.declare import Factor, c
from components.timeline.periods import INTRADAY

# Columns that reach experts, bands, regime tables and books whatever groups are chosen, and are no inputs.
CONTEXT = (
    REGIME_COLUMN,
    VOLATILITY_COLUMN,
    SECTOR_COLUMN,
    INDUSTRY_COLUMN,
    BETA_COLUMN,
    RETURN_COLUMN,
)
# Names that factors see as codes.
NAMED = ("sector", "industry")
CODES = 2**20
CODE_SOURCE = f"CRC-32 of the name in UTF-8, modulo {CODES:,}"


def name_codes(names: pl.Series) -> pl.Series:
    """Codes of names, Float32, null for null: a function of the name alone, so that it is the same in every
    panel, and exact in Float32.
    """
    distinct = names.unique().drop_nulls()
    codes = [float(zlib.crc32(name.encode()) % CODES) for name in distinct]
    return names.replace_strict(distinct, codes, default=None, return_dtype=pl.Float32)


FACTORS = (
    # calendar: of the bar's opening moment, in UTC; known before the bar begins.
    Factor(
        "weekday_sin",
        "calendar",
        1,
        k.cyclic(c("event_time").dt.weekday() - 1, 7, "sin"),
        "French 1980",
        "row",
        "none",
    ),
    Factor(
        "weekday_cos",
        "calendar",
        1,
        k.cyclic(c("event_time").dt.weekday() - 1, 7, "cos"),
        "French 1980",
        "row",
        "none",
    ),
    Factor(
        "month_position_sin",
        "calendar",
        1,
        k.cyclic(c("event_time").dt.day() - 1, 31, "sin"),
        "Ariel 1987",
        "row",
        "none",
    ),
    Factor(
        "month_position_cos",
        "calendar",
        1,
        k.cyclic(c("event_time").dt.day() - 1, 31, "cos"),
        "Ariel 1987",
        "row",
        "none",
    ),
    Factor(
        "month_end",
        "calendar",
        1,
        (
            (c("event_time").dt.day().cast(pl.Float64) - c("event_time").dt.days_in_month().cast(pl.Float64))
            / 3
        ).exp(),
        "Lakonishok and Smidt 1988; exp(-calendar days to the month's end / 3)",
        "row",
        "none",
    ),
    Factor(
        "year_position_sin",
        "calendar",
        1,
        k.cyclic(c("event_time").dt.ordinal_day() - 1, 366, "sin"),
        "Rozeff and Kinney 1976",
        "row",
        "none",
    ),
    Factor(
        "year_position_cos",
        "calendar",
        1,
        k.cyclic(c("event_time").dt.ordinal_day() - 1, 366, "cos"),
        "Rozeff and Kinney 1976",
        "row",
        "none",
    ),
    Factor(
        "hour_sin",
        "calendar",
        1,
        k.cyclic(c("event_time").dt.hour(), 24, "sin"),
        "Andersen and Bollerslev 1997",
        "row",
        "none",
        INTRADAY,
    ),
    Factor(
        "hour_cos",
        "calendar",
        1,
        k.cyclic(c("event_time").dt.hour(), 24, "cos"),
        "Andersen and Bollerslev 1997",
        "row",
        "none",
        INTRADAY,
    ),
    # regime: the equal-weighted market, equal for all symbols of a timestamp.
    Factor(
        REGIME_COLUMN,
        "regime",
        regime.REGIME_WARM_UP_BARS,
        regime.persistent_regime(c("bar_regime")),
        "thresholds of regime.py; codes of contracts.REGIMES",
        "market",
        "none",
    ),
    Factor(
        "market_trend",
        "regime",
        41,
        c("market_trend_40"),
        "log return of the market over 40 bars",
        "market",
        "zscore",
    ),
    Factor(
        "market_volatility",
        "regime",
        21,
        c("market_deviation_20"),
        "standard deviation of the market's log returns",
        "market",
        "zscore",
    ),
    Factor(
        "market_breadth_20",
        "regime",
        21,
        c("market_breadth"),
        "share of symbols that rose over 20 bars, Zaremba et al. 2021",
        "market",
        "zscore",
    ),
    Factor(
        "market_dispersion_20",
        "regime",
        21,
        k.mean(c("market_dispersion"), 20),
        "Stivers and Sun 2010, cross-sectional standard deviation",
        "market",
        "zscore",
    ),
    Factor(
        "market_volume_trend",
        "regime",
        39,
        k.mean(c("market_volume_surprise"), 20),
        "mean volume surprise of all symbols",
        "market",
        "zscore",
    ),
    Factor(
        "structural_gap_20",
        "regime",
        21,
        k.ratio(k.mean(c("market_gap"), 20), k.mean(c("market_range"), 20)),
        "size of opening gaps against the range inside bars",
        "market",
        "zscore",
    ),
    Factor(
        "crowding_60",
        "regime",
        61,
        k.ratio(k.deviation(c("market_return"), 60) ** 2, c("market_variance")),
        "Pollet and Wilson 2010, market variance over mean variance",
        "market",
        "zscore",
    ),
    # style: which peers a symbol has, for experts that know them; the numbers order nothing.
    Factor(SECTOR_COLUMN, "style", 1, c("sector"), CODE_SOURCE, "row", "none"),
    Factor(INDUSTRY_COLUMN, "style", 1, c("industry"), CODE_SOURCE, "row", "none"),
    # For books alone, beside the inputs that are made of the same numbers and can be left out.
    Factor(
        BETA_COLUMN, "style", 61, c("beta"), "Sharpe 1964, against the equal-weighted market", "row", "none"
    ),
    Factor(RETURN_COLUMN, "style", 2, c("log_return"), "log ratio to the previous close", "row", "none"),
    # bars: the raw bar, for the convolution branch.
    Factor(
        "bar_open",
        "bars",
        2,
        c("log_open") - c("previous_close"),
        "log ratio to the previous close",
        "row",
        "none",
    ),
    Factor(
        "bar_high",
        "bars",
        2,
        c("log_high") - c("previous_close"),
        "log ratio to the previous close",
        "row",
        "none",
    ),
    Factor(
        "bar_low",
        "bars",
        2,
        c("log_low") - c("previous_close"),
        "log ratio to the previous close",
        "row",
        "none",
    ),
    Factor("bar_close", "bars", 2, c("log_return"), "log ratio to the previous close", "row", "none"),
    Factor("bar_volume", "bars", 20, c("volume_surprise"), "log ratio to the mean of 20 bars", "row", "none"),
)
