"""The factor table: every factor, and every intermediate that several share, as one declared expression.

What an expression sees depends on its scope: `row` the bar alone, `symbol` one symbol's bars in order, `market_mean` and
`sector_mean` all bars of one timestamp (and sector), `market` the series of market means, one value a timestamp.
Windows count bars, so the same table serves every period. `warm_up_bars` is the number of bars, the present one
included, that a value depends on; before a symbol (for `market`: the panel) has as many, the value is null.
"""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import polars as pl

from components.contracts import REGIME_COLUMN, VOLATILITY_COLUMN
from components.features import kernels as k
from components.features import regime

Scope = Literal["row", "symbol", "market_mean", "sector_mean", "market"]
Normalisation = Literal["none", "rank", "zscore", "minmax", "robust"]
GROUPS = ("trend", "mean_reversion", "volatility", "volume_liquidity", "microstructure", "style", "calendar", "regime", "bars")
INTRADAY = ("4h", "1h")
EVERY_PERIOD = ("1d", *INTRADAY)


@dataclass(frozen=True)
class Measure:
    """An intermediate column that factors share; computed once, and only when a wanted factor needs it."""

    name: str
    scope: Scope
    expression: pl.Expr

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the expression reads."""
        return _columns(self.expression)


@dataclass(frozen=True)
class Factor:
    """One factor. `normalisation` says what the models' input is made of it: `none` hands over the value itself."""

    name: str
    group: str
    warm_up_bars: int
    expression: pl.Expr
    source: str
    scope: Scope = "symbol"
    normalisation: Normalisation = "rank"
    periods: tuple[str, ...] = EVERY_PERIOD

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the expression reads."""
        return _columns(self.expression)


def _columns(expression: pl.Expr) -> tuple[str, ...]:
    return tuple(dict.fromkeys(expression.meta.root_names()))


# Short, because the table is read line by line.
c = pl.col

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
    Measure("close_location", "row", k.ratio(2 * c("log_close") - c("log_high") - c("log_low"), c("log_range"))),
    Measure("garman_klass", "row", 0.5 * c("log_range") ** 2 - (2 * math.log(2) - 1) * c("intraday_return") ** 2),
    Measure(
        "rogers_satchell",
        "row",
        (c("log_high") - c("log_close")) * (c("log_high") - c("log_open")) + (c("log_low") - c("log_close")) * (c("log_low") - c("log_open")),
    ),
    Measure("log_middle", "row", (c("log_high") + c("log_low")) / 2),
    Measure("volume_at_close", "row", c("close_location").fill_null(0.0) * c("volume")),
    # Against the bar before.
    Measure("previous_close", "symbol", k.lag(c("log_close"), 1)),
    Measure("log_return", "symbol", k.change(c("log_close"), 1)),
    Measure("overnight_return", "symbol", c("log_open") - k.lag(c("log_close"), 1)),
    Measure("typical_change", "symbol", k.change(c("typical_price"), 1)),
    Measure("high_change", "symbol", k.change(c("log_high"), 1)),
    Measure("low_change", "symbol", k.change(c("log_low"), 1)),
    Measure("true_range", "row", pl.max_horizontal("log_high", "previous_close") - pl.min_horizontal("log_low", "previous_close")),
    Measure("upward", "row", pl.when((c("high_change") > -c("low_change")) & (c("high_change") > 0)).then(c("high_change")).otherwise(0.0)),
    Measure("downward", "row", pl.when((-c("low_change") > c("high_change")) & (c("low_change") < 0)).then(-c("low_change")).otherwise(0.0)),
    Measure("return_squared", "row", c("log_return") ** 2),
    Measure("illiquidity", "row", 1e6 * c("log_return").abs() / pl.when(c("dollar_volume") > 0).then(c("dollar_volume"))),
    Measure("signed_volume", "row", c("log_return").sign() * c("volume")),
    Measure("signed_root_dollars", "row", c("log_return").sign() * c("dollar_volume").sqrt()),
    Measure("money_flow", "row", c("typical_change").sign() * c("typical_volume")),
    # Two neighbouring bars, the later one moved by the gap between them (in logs, which leaves its range as it is).
    Measure("gap", "row", (c("log_low") - c("previous_close")).clip(lower_bound=0.0) - (c("previous_close") - c("log_high")).clip(lower_bound=0.0)),
    Measure("two_bar_sum", "symbol", c("log_range") ** 2 + k.lag(c("log_range"), 1) ** 2),
    Measure("previous_high", "symbol", k.lag(c("log_high"), 1)),
    Measure("previous_low", "symbol", k.lag(c("log_low"), 1)),
    Measure("two_bar_range", "row", pl.max_horizontal(c("log_high") - c("gap"), "previous_high") - pl.min_horizontal(c("log_low") - c("gap"), "previous_low")),
    Measure("corwin_schultz", "row", k.corwin_schultz(c("two_bar_sum"), c("two_bar_range"))),
    Measure("abdi_ranaldo", "symbol", 4 * k.lag(c("log_close") - c("log_middle"), 1) * (k.lag(c("log_close"), 1) - c("log_middle"))),
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
    Measure("macd_line", "symbol", k.exponential_mean(c("log_close"), 12) - k.exponential_mean(c("log_close"), 26)),
    Measure("directional", "symbol", k.ratio(k.mean(c("upward"), 14) - k.mean(c("downward"), 14), k.mean(c("upward"), 14) + k.mean(c("downward"), 14))),
    Measure("drawdown", "symbol", c("log_close") - k.highest(c("log_close"), 60)),
    # The equal-weighted market and the sectors, at each timestamp.
    Measure("market_return", "market_mean", c("log_return").mean()),
    Measure("sector_momentum_mean", "sector_mean", pl.when(c("momentum_20").count() >= 3).then(c("momentum_20").mean())),
    Measure("sector_reversal_mean", "sector_mean", pl.when(c("momentum_5").count() >= 3).then(c("momentum_5").mean())),
    Measure("market_dispersion", "market_mean", c("log_return").std()),
    Measure("market_breadth", "market_mean", (c("momentum_20") > 0).cast(pl.Float64).mean()),
    Measure("market_gap", "market_mean", c("overnight_return").abs().mean()),
    Measure("market_range", "market_mean", c("log_range").mean()),
    Measure("market_variance", "market_mean", (c("deviation_60") ** 2).mean()),
    Measure("market_volume_surprise", "market_mean", c("volume_surprise").mean()),
    # Each symbol against the market.
    Measure("market_deviation_60", "symbol", k.deviation(c("market_return"), 60)),
    Measure("beta", "symbol", k.ratio(k.covariance(c("log_return"), c("market_return"), 60), k.covariance(c("market_return"), c("market_return"), 60))),
    Measure("residual_return", "row", c("log_return") - c("beta") * c("market_return")),
    # The market's own series.
    Measure("market_trend_40", "market", k.total(c("market_return"), regime.TREND_BARS)),
    Measure("market_deviation_20", "market", k.deviation(c("market_return"), regime.VOLATILITY_BARS)),
    Measure("bar_regime", "market", regime.raw_regime(c("market_trend_40"), c("market_deviation_20"))),
)

FACTORS = (
    # trend: what has moved goes on moving.
    Factor("momentum_20", "trend", 21, c("momentum_20"), "Jegadeesh and Titman 1993", "row"),
    Factor("momentum_60", "trend", 61, c("momentum_60"), "Jegadeesh and Titman 1993", "row"),
    Factor("momentum_120", "trend", 121, k.change(c("log_close"), 120), "Jegadeesh and Titman 1993"),
    Factor("momentum_20_60", "trend", 61, c("momentum_60") - c("momentum_20"), "Jegadeesh and Titman 1993; return from 60 to 20 bars ago", "row"),
    Factor("momentum_12_1", "trend", 252, k.lag(c("log_close"), 21) - k.lag(c("log_close"), 251), "Fama and French 1996; a year without its last month"),
    Factor("momentum_change_60", "trend", 121, c("momentum_60") - k.lag(c("momentum_60"), 60), "Gettleman and Marks 2006, acceleration"),
    Factor("trend_strength_60", "trend", 61, k.ratio(c("momentum_60"), c("deviation_60")) / math.sqrt(60), "t statistic of the mean return", "row"),
    Factor("macd", "trend", 105, c("macd_line"), "Appel 1979; 12 and 26 bars, on log prices", "row"),
    Factor("macd_histogram", "trend", 141, c("macd_line") - k.exponential_mean(c("macd_line"), 9), "Appel 1979; signal line of 9 bars"),
    Factor("average_cross_20_100", "trend", 100, k.mean(c("log_close"), 20) - k.mean(c("log_close"), 100), "Brock, Lakonishok and LeBaron 1992"),
    Factor("average_gap_200", "trend", 200, c("log_close") - k.mean(c("log_close"), 200), "Faber 2007"),
    Factor("efficiency_20", "trend", 21, k.ratio(c("momentum_20"), k.total(c("log_return").abs(), 20)), "Kaufman 1995, signed efficiency ratio"),
    Factor("directional_14", "trend", 15, c("directional"), "Wilder 1978, (DI+ - DI-) / (DI+ + DI-) with plain means", "row"),
    Factor("adx_14", "trend", 28, k.mean(c("directional").abs(), 14), "Wilder 1978, ADX with plain means"),
    Factor("residual_momentum_60", "trend", 120, k.ratio(k.total(c("residual_return"), 60), k.deviation(c("residual_return"), 60)), "Blitz, Huij and Martens 2011"),
    Factor("sector_relative_momentum_20", "trend", 21, c("momentum_20") - c("sector_momentum_mean"), "Moskowitz and Grinblatt 1999; sectors of 3 or more", "row"),
    # mean_reversion: what went too far comes back.
    Factor("reversal_1", "mean_reversion", 2, -c("log_return"), "Jegadeesh 1990", "row"),
    Factor("reversal_5", "mean_reversion", 6, -c("momentum_5"), "Lehmann 1990", "row"),
    Factor("reversal_scaled_5", "mean_reversion", 61, -k.ratio(c("momentum_5"), c("deviation_60")), "Lehmann 1990, in units of volatility", "row"),
    Factor("sector_relative_reversal_5", "mean_reversion", 6, c("sector_reversal_mean") - c("momentum_5"), "Da, Liu and Schaumburg 2014; sectors of 3 or more", "row"),
    Factor(
        "rsi_14", "mean_reversion", 15, 100 * k.ratio(k.mean(c("log_return").clip(lower_bound=0.0), 14), k.mean(c("log_return").abs(), 14)), "Wilder 1978, plain means (Cutler)"
    ),
    Factor("bollinger_20", "mean_reversion", 20, k.ratio(c("log_close") - k.mean(c("log_close"), 20), 2 * k.deviation(c("log_close"), 20)), "Bollinger 2001, position in the band"),
    Factor("stochastic_20", "mean_reversion", 20, k.ratio(c("log_close") - c("low_20"), c("high_20") - c("low_20")), "Lane 1984", "row"),
    Factor(
        "average_price_gap_20",
        "mean_reversion",
        20,
        c("log_close") - k.logarithm(k.mean(c("typical_volume"), 20) / pl.when(c("volume_mean_20") > 0).then(c("volume_mean_20"))),
        "gap to the volume-weighted typical price",
    ),
    Factor("overnight_reversal_5", "mean_reversion", 6, -k.total(c("overnight_return"), 5), "Lou, Polk and Skouras 2019"),
    Factor("intraday_reversal_5", "mean_reversion", 5, -k.total(c("intraday_return"), 5), "Lou, Polk and Skouras 2019"),
    Factor(
        "alpha_023",
        "mean_reversion",
        20,
        pl.when(c("log_high") > k.mean(c("log_high"), 20)).then(-k.change(c("log_high"), 2)).when(c("log_high").is_not_null()).then(0.0),
        "Kakushadze 2016, 101 Formulaic Alphas, 23, on log prices",
    ),
    Factor(
        "alpha_053",
        "mean_reversion",
        10,
        -k.change(k.ratio(2 * c("log_close") - c("log_low") - c("log_high"), c("log_close") - c("log_low")).clip(-50.0, 50.0), 9),
        "Kakushadze 2016, 53, on log prices, cut off at 50",
    ),
    Factor("alpha_101", "mean_reversion", 1, k.ratio(c("intraday_return"), c("log_range")), "Kakushadze 2016, 101, on log prices", "row"),
    # volatility: all for one bar, not annualised.
    Factor(VOLATILITY_COLUMN, "volatility", 21, c("deviation_20"), "standard deviation of log returns", "row"),
    Factor("volatility_5", "volatility", 6, k.deviation(c("log_return"), 5), "standard deviation of log returns"),
    Factor("realised_volatility_60", "volatility", 61, k.root(k.mean(c("return_squared"), 60)), "Andersen and Bollerslev 1998"),
    Factor("parkinson_20", "volatility", 20, k.root(k.mean(c("log_range") ** 2, 20) / (4 * math.log(2))), "Parkinson 1980"),
    Factor("garman_klass_20", "volatility", 20, k.root(k.mean(c("garman_klass"), 20)), "Garman and Klass 1980"),
    Factor("rogers_satchell_20", "volatility", 20, k.root(k.mean(c("rogers_satchell"), 20)), "Rogers and Satchell 1991"),
    Factor("yang_zhang_20", "volatility", 21, k.yang_zhang(c("overnight_return"), c("intraday_return"), c("rogers_satchell"), 20), "Yang and Zhang 2000"),
    Factor("atr_14", "volatility", 15, c("true_range_mean_14"), "Wilder 1978, on log prices, plain mean", "row"),
    Factor("atr_slope_14", "volatility", 29, (c("true_range_mean_14") / k.lag(c("true_range_mean_14"), 14)).log(), "log change of the average true range"),
    Factor("volatility_ratio_5_60", "volatility", 61, k.ratio(k.deviation(c("log_return"), 5), c("deviation_60")), "short against long volatility"),
    Factor(
        "downside_share_60",
        "volatility",
        61,
        k.ratio(k.mean(c("log_return").clip(upper_bound=0.0) ** 2, 60), k.mean(c("return_squared"), 60)),
        "Barndorff-Nielsen, Kinnebrock and Shephard 2010",
    ),
    Factor(
        "volatility_of_volatility_60", "volatility", 80, k.ratio(k.deviation(c("deviation_20"), 60), k.mean(c("deviation_20"), 60)), "Baltussen, van Bekkum and van der Grient 2018"
    ),
    Factor(
        "idiosyncratic_volatility_60",
        "volatility",
        61,
        k.root(c("deviation_60") ** 2 - c("beta") ** 2 * c("market_deviation_60") ** 2),
        "Ang, Hodrick, Xing and Zhang 2006, one factor",
        "row",
    ),
    # volume_liquidity
    Factor("dollar_volume_20", "volume_liquidity", 20, c("dollar_volume_mean_20").log(), "Brennan, Chordia and Subrahmanyam 1998", "row"),
    Factor("volume_surprise_20", "volume_liquidity", 20, c("volume_surprise"), "Gervais, Kaniel and Mingelgrin 2001", "row"),
    Factor("turnover_surprise_5_60", "volume_liquidity", 60, (k.mean(c("dollar_volume"), 5) / k.mean(c("dollar_volume"), 60)).log(), "Lee and Swaminathan 2000"),
    Factor("volume_trend_20_120", "volume_liquidity", 120, (c("volume_mean_20") / k.mean(c("volume"), 120)).log(), "Lee and Swaminathan 2000"),
    Factor("volume_volatility_20", "volume_liquidity", 20, c("log_volume").rolling_std(20, min_samples=15), "Chordia, Subrahmanyam and Anshuman 2001; 15 bars with volume or more"),
    Factor(
        "obv_slope_20",
        "volume_liquidity",
        20,
        k.slope_of_sum(c("signed_volume"), 20) / pl.when(c("volume_mean_20") > 0).then(c("volume_mean_20")),
        "Granville 1963, slope a bar over mean volume",
    ),
    Factor("mfi_14", "volume_liquidity", 15, 100 * k.ratio(k.mean(c("money_flow").clip(lower_bound=0.0), 14), k.mean(c("money_flow").abs(), 14)), "Quong and Soudack 1989"),
    Factor("cmf_20", "volume_liquidity", 20, k.ratio(k.mean(c("volume_at_close"), 20), c("volume_mean_20")), "Chaikin"),
    Factor("amihud_20", "volume_liquidity", 21, c("illiquidity_mean_20").log(), "Amihud 2002; log of 1e6 |r| / dollars, 15 bars with volume or more", "row"),
    Factor("amihud_change_20", "volume_liquidity", 41, (c("illiquidity_mean_20") / k.lag(c("illiquidity_mean_20"), 20)).log(), "Amihud 2002, change against 20 bars ago"),
    Factor("price_volume_correlation_20", "volume_liquidity", 21, k.correlation(c("log_return"), c("log_volume"), 20), "Llorente, Michaely, Saar and Wang 2002"),
    Factor("alpha_006", "volume_liquidity", 10, -k.correlation(c("log_open"), c("log_volume"), 10), "Kakushadze 2016, 6, on logs"),
    Factor("alpha_012", "volume_liquidity", 2, -k.change(c("volume"), 1).sign() * c("log_return"), "Kakushadze 2016, 12, on log prices"),
    # microstructure
    Factor("roll_spread_20", "microstructure", 22, k.roll_spread(c("log_return"), 20), "Roll 1984"),
    Factor("corwin_schultz_20", "microstructure", 21, k.mean(c("corwin_schultz"), 20), "Corwin and Schultz 2012"),
    Factor("abdi_ranaldo_20", "microstructure", 21, k.root(k.mean(c("abdi_ranaldo"), 20)), "Abdi and Ranaldo 2017"),
    Factor(
        "price_impact_20",
        "microstructure",
        21,
        k.covariance(c("log_return"), c("signed_root_dollars"), 20) / k.mean(c("signed_root_dollars") ** 2, 20),
        "Hasbrouck 2009, slope on signed root dollars",
    ),
    Factor("return_autocorrelation_20", "microstructure", 22, k.correlation(c("log_return"), k.lag(c("log_return"), 1), 20), "Lo and MacKinlay 1988"),
    Factor(
        "variance_ratio_5_60",
        "microstructure",
        65,
        k.ratio(k.deviation(c("momentum_5"), 60), math.sqrt(5) * c("deviation_60")),
        "Lo and MacKinlay 1988, root of the variance ratio",
    ),
    Factor("zero_return_share_20", "microstructure", 21, k.mean((c("log_return") == 0).cast(pl.Float64), 20), "Lesmond, Ogden and Trzcinka 1999"),
    Factor("close_location_5", "microstructure", 5, k.mean(c("close_location").fill_null(0.0), 5), "where in its range a bar closes"),
    Factor(
        "overnight_share_20",
        "microstructure",
        21,
        k.ratio(k.mean(c("overnight_return").abs(), 20), k.mean(c("overnight_return").abs() + c("intraday_return").abs(), 20)),
        "share of the movement between bars",
    ),
    # style
    Factor("size_120", "style", 120, k.mean(c("dollar_volume"), 120).log(), "size proxy: log mean dollar volume of half a year"),
    Factor("beta_60", "style", 61, c("beta"), "Sharpe 1964, against the equal-weighted market", "row"),
    Factor("skewness_60", "style", 61, c("log_return").rolling_skew(60), "Harvey and Siddique 2000"),
    Factor("kurtosis_60", "style", 61, c("log_return").rolling_kurtosis(60), "Dittmar 2002"),
    Factor("largest_return_20", "style", 21, k.highest(c("log_return"), 20), "Bali, Cakici and Whitelaw 2011"),
    Factor("smallest_return_20", "style", 21, k.lowest(c("log_return"), 20), "Bali, Cakici and Whitelaw 2011"),
    Factor("drawdown_60", "style", 60, c("drawdown"), "distance to the highest close", "row"),
    Factor("worst_drawdown_60", "style", 119, k.lowest(c("drawdown"), 60), "deepest distance to the highest close"),
    Factor("high_252_distance", "style", 252, c("log_close") - k.highest(c("log_high"), 252), "George and Hwang 2004"),
    Factor("low_252_distance", "style", 252, c("log_close") - k.lowest(c("log_low"), 252), "George and Hwang 2004, for lows"),
    # calendar: of the bar's opening moment, in UTC; known before the bar begins.
    Factor("weekday_sin", "calendar", 1, k.cyclic(c("event_time").dt.weekday() - 1, 7, "sin"), "French 1980", "row", "none"),
    Factor("weekday_cos", "calendar", 1, k.cyclic(c("event_time").dt.weekday() - 1, 7, "cos"), "French 1980", "row", "none"),
    Factor("month_position_sin", "calendar", 1, k.cyclic(c("event_time").dt.day() - 1, 31, "sin"), "Ariel 1987", "row", "none"),
    Factor("month_position_cos", "calendar", 1, k.cyclic(c("event_time").dt.day() - 1, 31, "cos"), "Ariel 1987", "row", "none"),
    Factor(
        "month_end",
        "calendar",
        1,
        ((c("event_time").dt.day().cast(pl.Float64) - c("event_time").dt.days_in_month().cast(pl.Float64)) / 3).exp(),
        "Lakonishok and Smidt 1988; exp(-calendar days to the month's end / 3)",
        "row",
        "none",
    ),
    Factor("year_position_sin", "calendar", 1, k.cyclic(c("event_time").dt.ordinal_day() - 1, 366, "sin"), "Rozeff and Kinney 1976", "row", "none"),
    Factor("year_position_cos", "calendar", 1, k.cyclic(c("event_time").dt.ordinal_day() - 1, 366, "cos"), "Rozeff and Kinney 1976", "row", "none"),
    Factor("hour_sin", "calendar", 1, k.cyclic(c("event_time").dt.hour(), 24, "sin"), "Andersen and Bollerslev 1997", "row", "none", INTRADAY),
    Factor("hour_cos", "calendar", 1, k.cyclic(c("event_time").dt.hour(), 24, "cos"), "Andersen and Bollerslev 1997", "row", "none", INTRADAY),
    # regime: the equal-weighted market, equal for all symbols of a timestamp.
    Factor(REGIME_COLUMN, "regime", regime.REGIME_WARM_UP_BARS, regime.persistent_regime(c("bar_regime")), "thresholds of regime.py; codes of contracts.REGIMES", "market", "none"),
    Factor("market_trend", "regime", 41, c("market_trend_40"), "log return of the market over 40 bars", "market", "zscore"),
    Factor("market_volatility", "regime", 21, c("market_deviation_20"), "standard deviation of the market's log returns", "market", "zscore"),
    Factor("market_breadth_20", "regime", 21, c("market_breadth"), "share of symbols that rose over 20 bars, Zaremba et al. 2021", "market", "zscore"),
    Factor("market_dispersion_20", "regime", 21, k.mean(c("market_dispersion"), 20), "Stivers and Sun 2010, cross-sectional standard deviation", "market", "zscore"),
    Factor("market_volume_trend", "regime", 39, k.mean(c("market_volume_surprise"), 20), "mean volume surprise of all symbols", "market", "zscore"),
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
    # bars: the raw bar, for the convolution branch.
    Factor("bar_open", "bars", 2, c("log_open") - c("previous_close"), "log ratio to the previous close", "row", "none"),
    Factor("bar_high", "bars", 2, c("log_high") - c("previous_close"), "log ratio to the previous close", "row", "none"),
    Factor("bar_low", "bars", 2, c("log_low") - c("previous_close"), "log ratio to the previous close", "row", "none"),
    Factor("bar_close", "bars", 2, c("log_return"), "log ratio to the previous close", "row", "none"),
    Factor("bar_volume", "bars", 20, c("volume_surprise"), "log ratio to the mean of 20 bars", "row", "none"),
)


def wanted_factors(period: str, groups: Iterable[str] = GROUPS, exclude: Iterable[str] = ()) -> tuple[Factor, ...]:
    """The factors of `period` in `groups` without `exclude`, in the table's order; the two context factors always stay."""
    kept, left_out = set(groups), set(exclude)
    return tuple(f for f in FACTORS if period in f.periods and (f.name in (REGIME_COLUMN, VOLATILITY_COLUMN) or (f.group in kept and f.name not in left_out)))


def needed_measures(factors: Iterable[Factor]) -> tuple[Measure, ...]:
    """The measures that `factors` read, directly or through others, in the table's order."""
    by_name = {measure.name: measure for measure in MEASURES}
    needed: set[str] = set()
    to_visit = [name for factor in factors for name in factor.columns]
    while to_visit:
        name = to_visit.pop()
        if name in by_name and name not in needed:
            needed.add(name)
            to_visit.extend(by_name[name].columns)
    return tuple(measure for measure in MEASURES if measure.name in needed)


def did_you_mean(name: str) -> str:
    """A hint for a factor name that does not exist."""
    close = difflib.get_close_matches(name, [factor.name for factor in FACTORS], n=3)
    return f"did you mean {' or '.join(close)}?" if close else "the catalog artifact of a run lists all names"
