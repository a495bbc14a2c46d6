"""Channels and oscillators of prices in a channel.

Those that TA-Lib has with a finite memory (Aroon, CCI, Williams %R, ultimate oscillator, linear regression)
agree with it. It computes them by running sums, whose last bits depend on how far back they began; ours are
computed window by window. Keltner's averages are cut off, see `k.exponential_mean`.
"""

import math

from components.features import kernels as k
from components.features import order_windows as o
from components.features.library.declare import Factor, Measure, c, share

GROUP = "channels"

MEASURES = (
    Measure("high_55", "symbol", k.highest(c("log_high"), 55)),
    Measure("low_55", "symbol", k.lowest(c("log_low"), 55)),
    Measure("keltner_middle", "symbol", k.exponential_mean(c("log_close"), 20)),
    Measure("keltner_width", "symbol", 2 * k.mean(c("true_range"), 10)),
    Measure("close_deviation_20", "symbol", k.deviation(c("log_close"), 20)),
    Measure("aroon_up", "symbol", 100 * (25 - o.bars_since_newest_highest(c("high"), 26)) / 25),
    Measure("aroon_down", "symbol", 100 * (25 - o.bars_since_newest_highest(-c("low"), 26)) / 25),
    Measure("true_low", "row", c("low").clip(upper_bound=c("close_before"))),
    Measure("true_span", "row", c("high").clip(lower_bound=c("close_before")) - c("true_low")),
    Measure("buying_pressure", "row", c("close") - c("true_low")),
    *(
        Measure(
            f"pressure_{d}", "symbol", share(k.total(c("buying_pressure"), d), k.total(c("true_span"), d))
        )
        for d in (7, 14, 28)
    ),
    Measure("high_14", "symbol", k.highest(c("high"), 14)),
    Measure("low_14", "symbol", k.lowest(c("low"), 14)),
    Measure("upward_vortex", "row", (c("high") - c("low_before")).abs()),
    Measure("downward_vortex", "row", (c("low") - c("high_before")).abs()),
    Measure("true_span_sum_14", "symbol", k.total(c("true_span"), 14)),
)

FACTORS = (
    Factor(
        "donchian_55",
        GROUP,
        55,
        k.ratio(c("log_close") - c("low_55"), c("high_55") - c("low_55")),
        "Donchian 1960, place in the channel of 55 bars",
        "row",
    ),
    Factor("donchian_width_20", GROUP, 20, c("high_20") - c("low_20"), "Donchian 1960, log width", "row"),
    Factor(
        "donchian_breakout_20",
        GROUP,
        21,
        c("log_close") - k.lag(c("high_20"), 1),
        "Donchian 1960, close over the channel's top before",
    ),
    Factor(
        "donchian_breakdown_20",
        GROUP,
        21,
        c("log_close") - k.lag(c("low_20"), 1),
        "Donchian 1960, close over the channel's bottom before",
    ),
    Factor(
        "keltner_20",
        GROUP,
        81,
        k.ratio(c("log_close") - c("keltner_middle"), c("keltner_width")),
        "Keltner 1960 and Raschke; place in the band of 2 true ranges",
        "row",
    ),
    Factor(
        "bollinger_width_20",
        GROUP,
        20,
        4 * c("close_deviation_20"),
        "Bollinger 2001, log width of the band",
        "row",
    ),
    Factor(
        "squeeze_20",
        GROUP,
        20,
        k.ratio(2 * c("close_deviation_20"), c("keltner_width")),
        "Carter 2005, Bollinger's width over Keltner's",
        "row",
    ),
    Factor("aroon_up_25", GROUP, 26, c("aroon_up"), "Chande 1995; TA-Lib AROON", "row"),
    Factor("aroon_down_25", GROUP, 26, c("aroon_down"), "Chande 1995; TA-Lib AROON", "row"),
    Factor("aroon_25", GROUP, 26, c("aroon_up") - c("aroon_down"), "Chande 1995; TA-Lib AROONOSC", "row"),
    Factor(
        "cci_20",
        GROUP,
        20,
        share(
            c("typical_price") - k.mean(c("typical_price"), 20),
            0.015 * o.mean_absolute_deviation(c("typical_price"), 20),
        ),
        "Lambert 1980; TA-Lib CCI",
    ),
    Factor(
        "williams_r_14",
        GROUP,
        14,
        -100 * share(c("high_14") - c("close"), c("high_14") - c("low_14")),
        "Williams 1979; TA-Lib WILLR",
        "row",
    ),
    Factor(
        "ultimate_oscillator",
        GROUP,
        29,
        100 * (4 * c("pressure_7") + 2 * c("pressure_14") + c("pressure_28")) / 7,
        "Williams 1985; TA-Lib ULTOSC",
        "row",
    ),
    Factor(
        "line_slope_20",
        GROUP,
        20,
        k.slope(c("log_close"), 20),
        "least squares on time, log return a bar; TA-Lib LINEARREG_SLOPE",
        "symbol",
    ),
    Factor(
        "line_fit_60",
        GROUP,
        60,
        k.rsquare(c("log_close"), 60),
        "least squares on time, share of variance explained",
    ),
    Factor(
        "line_gap_60",
        GROUP,
        60,
        share(k.residual(c("log_close"), 60), k.deviation(c("log_close"), 60)),
        "regression channel, gap to the line in deviations",
    ),
    Factor(
        "choppiness_14",
        GROUP,
        15,
        100 * share(c("true_span_sum_14"), c("high_14") - c("low_14")).log() / math.log(14),
        "Dreiss, choppiness index",
        "row",
    ),
    Factor(
        "vortex_14",
        GROUP,
        15,
        share(k.total(c("upward_vortex"), 14) - k.total(c("downward_vortex"), 14), c("true_span_sum_14")),
        "Botes and Siepman 2010, VI+ - VI-",
    ),
)
