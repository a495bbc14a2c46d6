"""Factors of trading: volume and liquidity, microstructure estimators, style."""

import math

import polars as pl

from components.features import kernels as k
from components.features.estimators import roll_spread
from components.features.library.declare import Factor, c

FACTORS = (
    # volume_liquidity
    Factor(
        "dollar_volume_20",
        "volume_liquidity",
        20,
        c("dollar_volume_mean_20").log(),
        "Brennan, Chordia and Subrahmanyam 1998",
        "row",
    ),
    Factor(
        "volume_surprise_20",
        "volume_liquidity",
        20,
        c("volume_surprise"),
        "Gervais, Kaniel and Mingelgrin 2001",
        "row",
    ),
    Factor(
        "turnover_surprise_5_60",
        "volume_liquidity",
        60,
        (k.mean(c("dollar_volume"), 5) / k.mean(c("dollar_volume"), 60)).log(),
        "Lee and Swaminathan 2000",
    ),
    Factor(
        "volume_trend_20_120",
        "volume_liquidity",
        120,
        (c("volume_mean_20") / k.mean(c("volume"), 120)).log(),
        "Lee and Swaminathan 2000",
    ),
    Factor(
        "volume_volatility_20",
        "volume_liquidity",
        20,
        k.deviation(c("log_volume"), 20, at_least=15),
        "Chordia, Subrahmanyam and Anshuman 2001; 15 bars with volume or more",
    ),
    Factor(
        "obv_slope_20",
        "volume_liquidity",
        20,
        k.slope_of_sum(c("signed_volume"), 20) / pl.when(c("volume_mean_20") > 0).then(c("volume_mean_20")),
        "Granville 1963, slope a bar over mean volume",
    ),
    Factor(
        "mfi_14",
        "volume_liquidity",
        15,
        100 * k.ratio(k.mean(c("money_flow").clip(lower_bound=0.0), 14), k.mean(c("money_flow").abs(), 14)),
        "Quong and Soudack 1989",
    ),
    Factor(
        "cmf_20",
        "volume_liquidity",
        20,
        k.ratio(k.mean(c("volume_at_close"), 20), c("volume_mean_20")),
        "Chaikin",
    ),
    Factor(
        "amihud_20",
        "volume_liquidity",
        21,
        c("illiquidity_mean_20").log(),
        "Amihud 2002; log of 1e6 |r| / dollars, 15 bars with volume or more",
        "row",
    ),
    Factor(
        "amihud_change_20",
        "volume_liquidity",
        41,
        (c("illiquidity_mean_20") / k.lag(c("illiquidity_mean_20"), 20)).log(),
        "Amihud 2002, change against 20 bars ago",
    ),
    Factor(
        "price_volume_correlation_20",
        "volume_liquidity",
        21,
        k.correlation(c("log_return"), c("log_volume"), 20),
        "Llorente, Michaely, Saar and Wang 2002",
    ),
    Factor(
        "alpha_006",
        "volume_liquidity",
        10,
        -k.correlation(c("log_open"), c("log_volume"), 10),
        "Kakushadze 2016, 6, on logs",
    ),
    Factor(
        "alpha_012",
        "volume_liquidity",
        2,
        -k.change(c("volume"), 1).sign() * c("log_return"),
        "Kakushadze 2016, 12, on log prices",
    ),
    # microstructure
    Factor("roll_spread_20", "microstructure", 22, roll_spread(c("log_return"), 20), "Roll 1984"),
    Factor(
        "corwin_schultz_20", "microstructure", 21, k.mean(c("corwin_schultz"), 20), "Corwin and Schultz 2012"
    ),
    Factor(
        "abdi_ranaldo_20",
        "microstructure",
        21,
        k.root(k.mean(c("abdi_ranaldo"), 20)),
        "Abdi and Ranaldo 2017",
    ),
    Factor(
        "price_impact_20",
        "microstructure",
        21,
        k.covariance(c("log_return"), c("signed_root_dollars"), 20)
        / k.mean(c("signed_root_dollars") ** 2, 20),
        "Hasbrouck 2009, slope on signed root dollars",
    ),
    Factor(
        "return_autocorrelation_20",
        "microstructure",
        22,
        k.correlation(c("log_return"), k.lag(c("log_return"), 1), 20),
        "Lo and MacKinlay 1988",
    ),
    Factor(
        "variance_ratio_5_60",
        "microstructure",
        65,
        k.ratio(k.deviation(c("momentum_5"), 60), math.sqrt(5) * c("deviation_60")),
        "Lo and MacKinlay 1988, root of the variance ratio",
    ),
    Factor(
        "zero_return_share_20",
        "microstructure",
        21,
        k.mean((c("log_return") == 0).cast(pl.Float64), 20),
        "Lesmond, Ogden and Trzcinka 1999",
    ),
    Factor(
        "close_location_5",
        "microstructure",
        5,
        k.mean(c("close_place"), 5),
        "where in its range a bar closes",
    ),
    Factor(
        "overnight_share_20",
        "microstructure",
        21,
        k.ratio(
            k.mean(c("overnight_return").abs(), 20),
            k.mean(c("overnight_return").abs() + c("intraday_return").abs(), 20),
        ),
        "share of the movement between bars",
    ),
    # style
    Factor(
        "size_120",
        "style",
        120,
        k.mean(c("dollar_volume"), 120).log(),
        "size proxy: log mean dollar volume of half a year",
    ),
    Factor("beta_60", "style", 61, c("beta"), "Sharpe 1964, against the equal-weighted market", "row"),
    Factor("skewness_60", "style", 61, k.skewness(c("log_return"), 60), "Harvey and Siddique 2000"),
    Factor("kurtosis_60", "style", 61, k.kurtosis(c("log_return"), 60), "Dittmar 2002"),
    Factor(
        "largest_return_20", "style", 21, k.highest(c("log_return"), 20), "Bali, Cakici and Whitelaw 2011"
    ),
    Factor(
        "smallest_return_20", "style", 21, k.lowest(c("log_return"), 20), "Bali, Cakici and Whitelaw 2011"
    ),
    Factor("drawdown_60", "style", 60, c("drawdown"), "distance to the highest close", "row"),
    Factor(
        "worst_drawdown_60",
        "style",
        119,
        k.lowest(c("drawdown"), 60),
        "deepest distance to the highest close",
    ),
    Factor(
        "high_252_distance",
        "style",
        252,
        c("log_close") - k.highest(c("log_high"), 252),
        "George and Hwang 2004",
    ),
    Factor(
        "low_252_distance",
        "style",
        252,
        c("log_close") - k.lowest(c("log_low"), 252),
        "George and Hwang 2004, for lows",
    ),
)
