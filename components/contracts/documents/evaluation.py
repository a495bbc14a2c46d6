"""What the backtest stage measured of every expert and of the stack: forecasts, bands and money, window by
window. Figures that can't be computed are None.
"""

from typing import Literal

from pydantic import Field

from components.contracts.documents import Document, Part
from components.contracts.documents.class_figures import ClassFigures
from components.contracts.documents.cross_validated import CrossValidated
from components.contracts.documents.fields import Figure
from components.contracts.documents.market_sketch import UNKNOWN_MARKET, MarketSketch

__all__ = [
    "AllNames",
    "BandShares",
    "CapacityRow",
    "Daily",
    "Evaluation",
    "EvaluationStamp",
    "FurtherModel",
    "FurtherTask",
    "LagRow",
    "Liquidity",
    "Measurement",
    "ModelEvaluation",
    "Portfolio",
    "PortfolioEvents",
    "Portfolios",
    "Quantiles",
    "Ranking",
    "ReliabilityBin",
    "ScoreShift",
    "SliceName",
    "SliceRow",
    "SliceTable",
    "Spread",
    "WindowSpan",
    "WindowSpans",
]

SliceName = Literal[
    "whole", "regime", "year", "month", "weekday", "hour", "sector", "traded_value", "size", "symbol"
]


class Ranking(Part):
    """A series of information coefficients, one a bar, in short."""

    mean: Figure  # in [-1, 1]
    std: Figure
    icir: Figure  # mean over standard deviation, of bars, not a year
    t_hac: Figure  # of the mean, as a normal deviate; None where the bars are too few for one
    hit_share: Figure  # share of the bars above 0
    bars: int  # bars with a coefficient


class Daily(Part):
    """The coefficients themselves, one entry a bar in each list."""

    timestamp: list[str]  # UTC, YYYY-MM-DDTHH:MM:SSZ
    ic: list[Figure]
    rank_ic: list[Figure]


class SliceRow(Part):
    """One part of the bars or names. Money is what the part brought into the long_short book, as shares of
    the whole book's capital, on the `traded_bars` on which it had names; ratios are annual.
    """

    part: str
    rows: int  # scores that have a label
    bars: int  # with a RankIC
    ic: Figure
    ic_interval: tuple[Figure, Figure]
    rank_ic: Figure
    rank_ic_interval: tuple[Figure, Figure]
    rank_ic_t: Figure  # as a normal deviate; None where the bars are too few for one
    icir: Figure  # of the RankIC, of bars
    inside_p10_p90: Figure
    traded_bars: int
    profit: Figure  # before costs, sum
    average_return_bps: Figure  # a bar, net
    sharpe_net: Figure
    sharpe_net_interval: tuple[Figure, Figure]
    information_ratio: Figure  # before costs
    hit_share: Figure  # of the bars that moved, net
    max_drawdown: Figure  # net, of the capital
    turnover: Figure  # traded weight a bar
    cost_share: Figure  # of the profit
    ratio_per_turnover: Figure  # information_ratio by the weight traded in a year


class SliceTable(Part):
    """All parts of one kind, in order."""

    by: SliceName
    rows: list[SliceRow]


class Liquidity(Part):
    """Figures by fifths of each bar's names, by traded value."""

    names: int  # a bar, median
    least_traded_profit_share: Figure  # of long_short's profit before costs; None where there is no profit
    sharpe_net_outside: Figure  # of long_short without the least traded fifth
    rank_ic_outside: Ranking  # without the least traded fifth
    rank_ic_most_traded: Ranking  # of the names that make four fifths of the money traded, at least 20


class LagRow(Part):
    """Coefficients of a signal that is used `lag` bars late."""

    lag: int
    ic: Figure
    rank_ic: Figure
    bars: int


class Quantiles(Part):
    """One figure for each predicted quantile."""

    p10: Figure
    p50: Figure
    p90: Figure


class ReliabilityBin(Part):
    """One of equally filled bins of the score, lowest first."""

    bin: int
    predicted: Figure
    realised: Figure
    realised_error: Figure
    rows: int


class BandShares(Part):
    """Whether the bands hold what they promise: shares of labels, wanted 0.1, 0.5, 0.9 and 0.8."""

    below_p10: Figure
    below_p50: Figure
    below_p90: Figure
    inside_p10_p90: Figure
    rows: int
    slope: Figure  # of label on score; 1 where sizes are right
    pinball: Quantiles  # pinball loss
    reliability: list[ReliabilityBin]


class ScoreShift(Part):
    """PSI of the newer against the older half of the window."""

    raw: Figure
    cross_section: Figure  # scores standardised in their cross-section


class Spread(Part):
    """Top less bottom quantile over the horizon, without costs; the values of neighbouring bars overlap."""

    mean_bps: Figure
    sharpe_horizon_adjusted: Figure
    sharpe_overlap_corrected: Figure
    hit_share: Figure


class PortfolioEvents(Part):
    """How often something out of the ordinary was done."""

    stopped: int  # single names
    delisted: int
    pauses: int


class CapacityRow(Part):
    """What a strategy earns at one capital, when orders move prices."""

    capital: float  # in the panel's currency
    sharpe_net: Figure
    return_net: Figure  # annual
    cost_share: Figure  # of the gross profit


class BookLimits(Part):
    """New books and their limits: in which share of the bars with a book each limit took something away, None
    where it is not set.
    """

    sector: Figure
    beta: Figure
    volatility: Figure
    gross: Figure  # mean gross exposure that was asked for, after sizes and limits


class Portfolio(Part):
    """One strategy, traded with costs; returns and ratios are annual unless their name says otherwise."""

    bars: int
    sharpe_gross: Figure
    sharpe_net: Figure
    sharpe_net_overlap_corrected: Figure
    annual_return_gross: Figure
    annual_return_net: Figure
    annual_volatility: Figure
    max_drawdown: Figure  # share of the peak, net
    hit_rate: Figure
    average_return_bps: Figure  # a bar, net
    turnover: Figure  # traded weight a bar, buys and sells
    annual_turnover: Figure
    cost_share: Figure  # of the gross profit
    average_exposure: Figure
    sharpe_gross_interval: tuple[Figure, Figure]
    sharpe_net_interval: tuple[Figure, Figure]
    interval_level: float
    information_ratio_net: Figure
    events: PortfolioEvents
    # By capital, smallest first; empty where no traded value is known.
    capacity: list[CapacityRow] = Field(default_factory=list)
    limits: BookLimits | None = None  # None where names are sized equally and without limits


class Portfolios(Part):
    """The portfolios that are formed from one expert's scores."""

    long_short: Portfolio
    long_only: Portfolio


class AllNames(Part):
    """The main figures over all names that were scored, whether they can be traded or not."""

    rows: int
    symbols: int
    ic: Ranking
    rank_ic: Ranking
    portfolio: Portfolios


class Measurement(Part):
    """One expert in one window, in the universe that can be traded."""

    rows: int
    labelled_rows: int
    symbols: int
    ic: Ranking  # against the target
    rank_ic: Ranking
    ic_log_return: Ranking  # against the plain log return
    rank_ic_log_return: Ranking
    daily: Daily
    slices: list[SliceTable]  # without the hour for daily bars, without traded_value where it is unknown
    decay: list[LagRow]
    calibration: BandShares
    classes: ClassFigures | None = None  # where the target is a class and the model gave probabilities
    psi: ScoreShift
    spread: Spread
    portfolio: Portfolios
    liquidity: Liquidity | None  # None where no traded value is known, and in the validation window
    all_names: AllNames | None  # None where every name can be traded

    def sliced(self, by: SliceName) -> list[SliceRow]:
        """The parts of one kind; empty where there is no such table."""
        return next((table.rows for table in self.slices if table.by == by), [])


class FurtherModel(Part):
    """One model of a further task in the test window, in the universe that can be traded."""

    model: str
    rows: int
    labelled_rows: int
    ic: Ranking
    rank_ic: Ranking
    rank_ic_interval: tuple[Figure, Figure]  # of the mean
    calibration: BandShares
    classes: ClassFigures | None  # where the target is a class and the model gave probabilities
    # Held for the task's own horizon; None where its target says nothing of which symbols earn more.
    long_short: Portfolio | None


class FurtherTask(Part):
    """A target over a horizon that is predicted beside the one that the run is judged by.

    No gate reads it, and none of its models counts as a trial.
    """

    target: str
    horizon: int
    models: list[FurtherModel]  # the stack first, where it has one, then by name


class ModelEvaluation(Part):
    """One expert; None for a window in which it predicted nothing."""

    validation: Measurement | None
    test: Measurement | None


class WindowSpan(Part):
    """A window by its first and last bar."""

    start: str  # UTC, YYYY-MM-DDTHH:MM:SSZ
    end: str
    bars: int


class WindowSpans(Part):
    """The windows that are measured: forecasts in `test`, portfolios in `backtest`."""

    validation: WindowSpan
    test: WindowSpan
    backtest: WindowSpan


class EvaluationStamp(Part):
    """What the evaluation was made by, and the returns that were made with it."""

    code_version: str
    config_hash: str
    returns_sha256: str


class Evaluation(Document):
    """Every expert and the stack, measured."""

    format: Literal[2] = 2
    horizon: int
    period: str
    target: str
    bars_per_year: float
    cost_bps_per_side: float
    entry: str
    strategies: list[str]
    windows: WindowSpans
    experts: dict[str, ModelEvaluation]
    stamp: EvaluationStamp
    cross_validated: CrossValidated | None = None  # before the test window; none where there was none
    further_tasks: list[FurtherTask] = Field(default_factory=list)  # empty where nothing else is predicted
    market: MarketSketch = UNKNOWN_MARKET  # what prices did in the test window; empty where nobody kept it

    def tested(self, name: str) -> Measurement | None:
        """The expert's test window; None where there is no such expert, or it predicted nothing there."""
        model = self.experts.get(name)
        return None if model is None else model.test
