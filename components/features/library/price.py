"""Factors of prices and returns: trend, mean reversion and volatility."""

import math

import polars as pl

from components.contracts import VOLATILITY_COLUMN
from components.features import kernels as k
from components.features.estimators import yang_zhang
from components.features.library.declare import Factor, c

FACTORS = (
    # trend: what has moved goes on moving.
    Factor("momentum_20", "trend", 21, c("momentum_20"), "Jegadeesh and Titman 1993", "row"),
    Factor("momentum_60", "trend", 61, c("momentum_60"), "Jegadeesh and Titman 1993", "row"),
    Factor("momentum_120", "trend", 121, k.change(c("log_close"), 120), "Jegadeesh and Titman 1993"),
    Factor(
        "momentum_20_60",
        "trend",
        61,
        c("momentum_60") - c("momentum_20"),
        "Jegadeesh and Titman 1993; return from 60 to 20 bars ago",
        "row",
    ),
    Factor(
        "momentum_12_1",
        "trend",
        252,
        k.lag(c("log_close"), 21) - k.lag(c("log_close"), 251),
        "Fama and French 1996; a year without its last month",
    ),
    Factor(
        "momentum_change_60",
        "trend",
        121,
        c("momentum_60") - k.lag(c("momentum_60"), 60),
        "Gettleman and Marks 2006, acceleration",
    ),
    Factor(
        "trend_strength_60",
        "trend",
        61,
        k.ratio(c("momentum_60"), c("deviation_60")) / math.sqrt(60),
        "t statistic of the mean return",
        "row",
    ),
    Factor("macd", "trend", 105, c("macd_line"), "Appel 1979; 12 and 26 bars, on log prices", "row"),
    Factor(
        "macd_histogram",
        "trend",
        141,
        c("macd_line") - k.exponential_mean(c("macd_line"), 9),
        "Appel 1979; signal line of 9 bars",
    ),
    Factor(
        "average_cross_20_100",
        "trend",
        100,
        k.mean(c("log_close"), 20) - k.mean(c("log_close"), 100),
        "Brock, Lakonishok and LeBaron 1992",
    ),
    Factor("average_gap_200", "trend", 200, c("log_close") - k.mean(c("log_close"), 200), "Faber 2007"),
    Factor(
        "efficiency_20",
        "trend",
        21,
        k.ratio(c("momentum_20"), k.total(c("log_return").abs(), 20)),
        "Kaufman 1995, signed efficiency ratio",
    ),
    Factor(
        "directional_14",
        "trend",
        15,
        c("directional"),
        "Wilder 1978, (DI+ - DI-) / (DI+ + DI-) with plain means",
        "row",
    ),
    Factor("adx_14", "trend", 28, k.mean(c("directional").abs(), 14), "Wilder 1978, ADX with plain means"),
    Factor(
        "residual_momentum_60",
        "trend",
        120,
        k.ratio(k.total(c("residual_return"), 60), k.deviation(c("residual_return"), 60)),
        "Blitz, Huij and Martens 2011",
    ),
    Factor(
        "sector_relative_momentum_20",
        "trend",
        21,
        c("momentum_20") - c("sector_momentum_mean"),
        "Moskowitz and Grinblatt 1999; sectors of 3 or more",
        "row",
    ),
    # mean_reversion: what went too far comes back.
    Factor("reversal_1", "mean_reversion", 2, -c("log_return"), "Jegadeesh 1990", "row"),
    Factor("reversal_5", "mean_reversion", 6, -c("momentum_5"), "Lehmann 1990", "row"),
    Factor(
        "reversal_scaled_5",
        "mean_reversion",
        61,
        -k.ratio(c("momentum_5"), c("deviation_60")),
        "Lehmann 1990, in units of volatility",
        "row",
    ),
    Factor(
        "sector_relative_reversal_5",
        "mean_reversion",
        6,
        c("sector_reversal_mean") - c("momentum_5"),
        "Da, Liu and Schaumburg 2014; sectors of 3 or more",
        "row",
    ),
    Factor(
        "rsi_14",
        "mean_reversion",
        15,
        100 * k.ratio(k.mean(c("log_return").clip(lower_bound=0.0), 14), k.mean(c("log_return").abs(), 14)),
        "Wilder 1978, plain means (Cutler)",
    ),
    Factor(
        "bollinger_20",
        "mean_reversion",
        20,
        k.ratio(c("log_close") - k.mean(c("log_close"), 20), 2 * k.deviation(c("log_close"), 20)),
        "Bollinger 2001, position in the band",
    ),
    Factor(
        "stochastic_20",
        "mean_reversion",
        20,
        k.ratio(c("log_close") - c("low_20"), c("high_20") - c("low_20")),
        "Lane 1984",
        "row",
    ),
    Factor(
        "average_price_gap_20",
        "mean_reversion",
        20,
        c("log_close")
        - k.logarithm(
            k.mean(c("typical_volume"), 20) / pl.when(c("volume_mean_20") > 0).then(c("volume_mean_20"))
        ),
        "gap to the volume-weighted typical price",
    ),
    Factor(
        "overnight_reversal_5",
        "mean_reversion",
        6,
        -k.total(c("overnight_return"), 5),
        "Lou, Polk and Skouras 2019",
    ),
    Factor(
        "intraday_reversal_5",
        "mean_reversion",
        5,
        -k.total(c("intraday_return"), 5),
        "Lou, Polk and Skouras 2019",
    ),
    Factor(
        "alpha_023",
        "mean_reversion",
        20,
        pl.when(c("log_high") > k.mean(c("log_high"), 20))
        .then(-k.change(c("log_high"), 2))
        .when(c("log_high").is_not_null())
        .then(0.0),
        "Kakushadze 2016, 101 Formulaic Alphas, 23, on log prices",
    ),
    Factor(
        "alpha_053",
        "mean_reversion",
        10,
        -k.change(
            k.ratio(2 * c("log_close") - c("log_low") - c("log_high"), c("log_close") - c("log_low")).clip(
                -50.0, 50.0
            ),
            9,
        ),
        "Kakushadze 2016, 53, on log prices, cut off at 50",
    ),
    Factor(
        "alpha_101",
        "mean_reversion",
        1,
        k.ratio(c("intraday_return"), c("log_range")),
        "Kakushadze 2016, 101, on log prices",
        "row",
    ),
    # volatility: all for one bar, not annualised.
    Factor(
        VOLATILITY_COLUMN, "volatility", 21, c("deviation_20"), "standard deviation of log returns", "row"
    ),
    Factor(
        "volatility_5", "volatility", 6, k.deviation(c("log_return"), 5), "standard deviation of log returns"
    ),
    Factor(
        "realised_volatility_60",
        "volatility",
        61,
        k.root(k.mean(c("return_squared"), 60)),
        "Andersen and Bollerslev 1998",
    ),
    Factor(
        "parkinson_20",
        "volatility",
        20,
        k.root(k.mean(c("log_range") ** 2, 20) / (4 * math.log(2))),
        "Parkinson 1980",
    ),
    Factor(
        "garman_klass_20", "volatility", 20, k.root(k.mean(c("garman_klass"), 20)), "Garman and Klass 1980"
    ),
    Factor(
        "rogers_satchell_20",
        "volatility",
        20,
        k.root(k.mean(c("rogers_satchell"), 20)),
        "Rogers and Satchell 1991",
    ),
    Factor(
        "yang_zhang_20",
        "volatility",
        21,
        yang_zhang(c("overnight_return"), c("intraday_return"), c("rogers_satchell"), 20),
        "Yang and Zhang 2000",
    ),
    Factor(
        "atr_14", "volatility", 15, c("true_range_mean_14"), "Wilder 1978, on log prices, plain mean", "row"
    ),
    Factor(
        "atr_slope_14",
        "volatility",
        29,
        (c("true_range_mean_14") / k.lag(c("true_range_mean_14"), 14)).log(),
        "log change of the average true range",
    ),
    Factor(
        "volatility_ratio_5_60",
        "volatility",
        61,
        k.ratio(k.deviation(c("log_return"), 5), c("deviation_60")),
        "short against long volatility",
    ),
    Factor(
        "downside_share_60",
        "volatility",
        61,
        k.ratio(k.mean(c("log_return").clip(upper_bound=0.0) ** 2, 60), k.mean(c("return_squared"), 60)),
        "Barndorff-Nielsen, Kinnebrock and Shephard 2010",
    ),
    Factor(
        "volatility_of_volatility_60",
        "volatility",
        80,
        k.ratio(k.deviation(c("deviation_20"), 60), k.mean(c("deviation_20"), 60)),
        "Baltussen, van Bekkum and van der Grient 2018",
    ),
    Factor(
        "idiosyncratic_volatility_60",
        "volatility",
        61,
        k.root(c("deviation_60") ** 2 - c("beta") ** 2 * c("market_deviation_60") ** 2),
        "Ang, Hodrick, Xing and Zhang 2006, one factor",
        "row",
    ),
)
