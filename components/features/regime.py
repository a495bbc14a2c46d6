"""The market's regime, from the trailing trend and volatility of the equal-weighted market against their own
trailing quantiles.

A threshold at t is a quantile of the QUANTILE_BARS values that end at t, so the label is known at t and never
revised.
"""

import polars as pl

from components.contracts import REGIMES

VOLATILITY_BARS = 20
TREND_BARS = 40
QUANTILE_BARS = 180
# A state is taken on when it has held for so many bars; without one for HOLD_BARS the market counts as
# neutral.
PERSIST_BARS = 5
HOLD_BARS = 20
HIGH_VOLATILITY_QUANTILE = 0.8
# Returns begin with the second bar; then trend, quantile, persistence and hold follow on each other.
REGIME_WARM_UP_BARS = 1 + TREND_BARS + (QUANTILE_BARS - 1) + (PERSIST_BARS - 1) + HOLD_BARS


def raw_regime(trend: pl.Expr, volatility: pl.Expr) -> pl.Expr:
    """Code of the bar's own state, before smoothing; null while a quantile is not known.

    `trend` is the market's log return over TREND_BARS, `volatility` its standard deviation over
    VOLATILITY_BARS. High volatility comes first; a bull market rises by more than its median trend, a bear
    market falls by more.
    """
    usual = trend.rolling_quantile(0.5, interpolation="linear", window_size=QUANTILE_BARS)
    ceiling = volatility.rolling_quantile(
        HIGH_VOLATILITY_QUANTILE, interpolation="linear", window_size=QUANTILE_BARS
    )
    state = (
        pl.when(volatility > ceiling)
        .then(_code("high_volatility"))
        .when((trend > 0) & (trend > usual))
        .then(_code("bull"))
        .when((trend < 0) & (trend < usual))
        .then(_code("bear"))
        .otherwise(_code("neutral"))
    )
    return pl.when(usual.is_not_null() & ceiling.is_not_null()).then(state)


def persistent_regime(raw: pl.Expr) -> pl.Expr:
    """The newest state that held for PERSIST_BARS bars in a row, at most HOLD_BARS ago; else neutral."""
    lasted = raw.rolling_min(PERSIST_BARS) == raw.rolling_max(PERSIST_BARS)
    held = pl.when(lasted).then(raw).forward_fill(limit=HOLD_BARS)
    return pl.when(raw.is_not_null()).then(held.fill_null(_code("neutral")))


def _code(name: str) -> pl.Expr:
    return pl.lit(float(REGIMES.index(name)))
