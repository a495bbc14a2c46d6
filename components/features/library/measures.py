"""Intermediate columns that factors of several groups share."""

import math

import polars as pl

from components.features import kernels as k
from components.features import regime
from components.features.estimators import corwin_schultz
from components.features.library.declare import Measure, c

MEASURES = (
    # The bar alone. Prices that are not positive and volumes that are negative have become null before.
    Measure("log_open", "row", c("open").log()),
    Measure("log_high", "row", c("high").log()),
    Measure("log_low", "row", c("low").log()),
    Measure("log_close", "row", c("close").log()),
    Measure("log_volume", "row", k.logarithm(c("volume"))),
    Measure("dollar_volume", "row", c("close") * c("volume")),
    Measure("typical_price", "row", (c("high") + c("low") + c("close")) / 3),
    Measure("typical_volume", "row", c("typical_price") * c("volume")),
    Measure("log_range", "row", c("log_high") - c("log_low")),
    Measure("intraday_return", "row", c("log_close") - c("log_open")),
    Measure(
        "close_location", "row", k.ratio(2 * c("log_close") - c("log_high") - c("log_low"), c("log_range"))
    ),
    Measure(
        "garman_klass", "row", 0.5 * c("log_range") ** 2 - (2 * math.log(2) - 1) * c("intraday_return") ** 2
    ),
    Measure(
        "rogers_satchell",
        "row",
        (c("log_high") - c("log_close")) * (c("log_high") - c("log_open"))
        + (c("log_low") - c("log_close")) * (c("log_low") - c("log_open")),
    ),
    Measure("log_middle", "row", (c("log_high") + c("log_low")) / 2),
    # A bar without any range closes in its middle; one whose range is unknown closes nowhere.
    Measure(
        "close_place",
        "row",
        pl.when((c("log_range") + c("log_close")).is_not_null()).then(c("close_location").fill_null(0.0)),
    ),
    Measure("volume_at_close", "row", c("close_place") * c("volume")),
    Measure("bar_span", "row", c("high") - c("low")),
    Measure("body_top", "row", c("open").clip(lower_bound=c("close"))),
    Measure("body_bottom", "row", c("open").clip(upper_bound=c("close"))),
    # Against the bar before.
    Measure("close_before", "symbol", k.lag(c("close"), 1)),
    Measure("high_before", "symbol", k.lag(c("high"), 1)),
    Measure("low_before", "symbol", k.lag(c("low"), 1)),
    Measure("previous_close", "symbol", k.lag(c("log_close"), 1)),
    Measure("log_return", "symbol", k.change(c("log_close"), 1)),
    Measure("overnight_return", "symbol", c("log_open") - k.lag(c("log_close"), 1)),
    Measure("typical_change", "symbol", k.change(c("typical_price"), 1)),
    Measure("high_change", "symbol", k.change(c("log_high"), 1)),
    Measure("low_change", "symbol", k.change(c("log_low"), 1)),
    Measure(
        "true_range",
        "row",
        pl.when(c("log_range").is_not_null()).then(
            pl.max_horizontal("log_high", "previous_close") - pl.min_horizontal("log_low", "previous_close")
        ),
    ),
    Measure(
        "upward",
        "row",
        pl.when((c("high_change") > -c("low_change")) & (c("high_change") > 0))
        .then(c("high_change"))
        .otherwise(0.0),
    ),
    Measure(
        "downward",
        "row",
        pl.when((-c("low_change") > c("high_change")) & (c("low_change") < 0))
        .then(-c("low_change"))
        .otherwise(0.0),
    ),
    Measure("return_squared", "row", c("log_return") ** 2),
    Measure(
        "illiquidity",
        "row",
        1e6 * c("log_return").abs() / pl.when(c("dollar_volume") > 0).then(c("dollar_volume")),
    ),
    Measure("signed_volume", "row", c("log_return").sign() * c("volume")),
    Measure("signed_root_dollars", "row", c("log_return").sign() * c("dollar_volume").sqrt()),
    Measure("money_flow", "row", c("typical_change").sign() * c("typical_volume")),
    # Two neighbouring bars, the later one moved by the gap between them (in logs, which leaves its range as
    # it is).
    Measure(
        "gap",
        "row",
        (c("log_low") - c("previous_close")).clip(lower_bound=0.0)
        - (c("previous_close") - c("log_high")).clip(lower_bound=0.0),
    ),
    Measure("two_bar_sum", "symbol", c("log_range") ** 2 + k.lag(c("log_range"), 1) ** 2),
    Measure("previous_high", "symbol", k.lag(c("log_high"), 1)),
    Measure("previous_low", "symbol", k.lag(c("log_low"), 1)),
    Measure(
        "two_bar_range",
        "row",
        pl.max_horizontal(c("log_high") - c("gap"), "previous_high")
        - pl.min_horizontal(c("log_low") - c("gap"), "previous_low"),
    ),
    Measure("corwin_schultz", "row", corwin_schultz(c("two_bar_sum"), c("two_bar_range"))),
    Measure(
        "abdi_ranaldo",
        "symbol",
        4 * k.lag(c("log_close") - c("log_middle"), 1) * (k.lag(c("log_close"), 1) - c("log_middle")),
    ),
    # Windows that several factors share.
    Measure("momentum_5", "symbol", k.change(c("log_close"), 5)),
    Measure("momentum_20", "symbol", k.change(c("log_close"), 20)),
    Measure("momentum_60", "symbol", k.change(c("log_close"), 60)),
    Measure("deviation_20", "symbol", k.deviation(c("log_return"), 20)),
    Measure("deviation_60", "symbol", k.deviation(c("log_return"), 60)),
    Measure("high_20", "symbol", k.highest(c("log_high"), 20)),
    Measure("low_20", "symbol", k.lowest(c("log_low"), 20)),
    Measure("volume_mean_20", "symbol", k.mean(c("volume"), 20)),
    Measure("volume_surprise", "row", c("log_volume") - k.logarithm(c("volume_mean_20"))),
    Measure("dollar_volume_mean_20", "symbol", k.mean(c("dollar_volume"), 20)),
    Measure("illiquidity_mean_20", "symbol", k.mean(c("illiquidity"), 20, at_least=15)),
    Measure("true_range_mean_14", "symbol", k.mean(c("true_range"), 14)),
    Measure(
        "macd_line", "symbol", k.exponential_mean(c("log_close"), 12) - k.exponential_mean(c("log_close"), 26)
    ),
    Measure(
        "directional",
        "symbol",
        k.ratio(
            k.mean(c("upward"), 14) - k.mean(c("downward"), 14),
            k.mean(c("upward"), 14) + k.mean(c("downward"), 14),
        ),
    ),
    Measure("drawdown", "symbol", c("log_close") - k.highest(c("log_close"), 60)),
    # The equal-weighted market and the sectors, at each timestamp.
    Measure("market_return", "market_mean", c("log_return").mean()),
    Measure(
        "sector_momentum_mean",
        "sector_mean",
        pl.when(c("momentum_20").count() >= 3).then(c("momentum_20").mean()),
    ),
    Measure(
        "sector_reversal_mean",
        "sector_mean",
        pl.when(c("momentum_5").count() >= 3).then(c("momentum_5").mean()),
    ),
    Measure("market_dispersion", "market_mean", c("log_return").std()),
    Measure("market_breadth", "market_mean", (c("momentum_20") > 0).cast(pl.Float64).mean()),
    Measure("market_gap", "market_mean", c("overnight_return").abs().mean()),
    Measure("market_range", "market_mean", c("log_range").mean()),
    Measure("market_variance", "market_mean", (c("deviation_60") ** 2).mean()),
    Measure("market_volume_surprise", "market_mean", c("volume_surprise").mean()),
    # Each symbol against the market.
    Measure("market_deviation_60", "symbol", k.deviation(c("market_return"), 60)),
    Measure(
        "beta",
        "symbol",
        k.ratio(
            k.covariance(c("log_return"), c("market_return"), 60),
            k.covariance(c("market_return"), c("market_return"), 60),
        ),
    ),
    Measure("residual_return", "row", c("log_return") - c("beta") * c("market_return")),
    # The market's own series.
    Measure("market_trend_40", "market", k.total(c("market_return"), regime.TREND_BARS)),
    Measure("market_deviation_20", "market", k.deviation(c("market_return"), regime.VOLATILITY_BARS)),
    Measure("bar_regime", "market", regime.raw_regime(c("market_trend_40"), c("market_deviation_20"))),
)
