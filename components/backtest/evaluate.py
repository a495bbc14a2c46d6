"""Measures every expert and the stack, before and after costs.

The test window is what counts. The validation window, on which the stacker learned, is measured too and kept
apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from components.backtest.config import Settings
from components.backtest.fifths import liquidity
from components.backtest.forecasts import Beside, measure, of_all_names
from components.backtest.further import evaluate_further
from components.backtest.market_facts import MarketFacts, what_happened
from components.backtest.paper_book import paper_book
from components.backtest.paths import evaluate_paths
from components.backtest.portfolios import (
    BENCHMARK,
    PORTFOLIOS,
    RETURNS_SCHEMA,
    tagged,
    trade,
    trade_benchmark,
)
from components.backtest.predictions import Task
from components.backtest.prices import Prices
from components.backtest.slices import slices
from components.backtest.terms import Terms
from components.contracts import content_sha256, tradable_rows
from components.contracts.documents.evaluation import (
    AllNames,
    Evaluation,
    EvaluationStamp,
    Measurement,
    ModelEvaluation,
    WindowSpans,
)
from components.metrics import bars_per_year, market_sketch
from components.progress import warn
from components.settings import config_hash

TRADED = {"validation": "validation", "test": "backtest"}


def evaluate(
    predictions_by_name: Mapping[str, pl.DataFrame],
    market: MarketFacts,
    settings: Settings,
    *,
    horizon: int,
    code: str,
    further: Mapping[Task, Mapping[str, pl.DataFrame]] | None = None,
    crossed: pl.DataFrame | None = None,
) -> tuple[Evaluation, pl.DataFrame]:
    """Evaluate each expert in the validation and the test window, and what is predicted beside the judged
    task in the test window; portfolios are traded in the backtest window instead of the test window.

    Parameters
    ----------
    predictions_by_name : tables with MEASURED_COLUMNS, of one horizon, target and period
    code : code version, for the stamp
    further : the same of tasks beside the judged one, by task and model
    crossed : CROSS_VALIDATED table of a cross-validation before the test window, where there was one

    Returns
    -------
    The evaluation, and the returns of all portfolios, columns RETURNS_SCHEMA.
    """
    first = next(iter(predictions_by_name.values()))
    target, period = first["target"][0], first["period"][0]
    yearly = bars_per_year(period, market.calendar)
    terms = Terms(possible_entry(market.panel, settings), horizon, yearly)
    facts = what_happened(market, target=target, horizon=horizon)
    blocks, returns = {}, []
    for window in TRADED:
        blocks[window], traded = _measure_window(predictions_by_name, market, facts, window, terms)
        returns.extend(traded)
    table = pl.concat(returns).select(RETURNS_SCHEMA)
    own_hash = config_hash(settings)
    stamp = EvaluationStamp(code_version=code, config_hash=own_hash, returns_sha256=content_sha256(table))
    evaluation = Evaluation(
        horizon=horizon,
        period=period,
        target=target,
        bars_per_year=yearly,
        cost_bps_per_side=terms.settings.cost_bps_per_side,
        entry=terms.settings.entry,
        strategies=list(PORTFOLIOS),
        windows=WindowSpans(**{name: market.span(name) for name in WindowSpans.model_fields}),
        experts={
            name: ModelEvaluation(**{window: blocks[window][name] for window in TRADED})
            for name in predictions_by_name
        },
        stamp=stamp,
        market=market_sketch(market.inside(market.panel, "test")),
        further_tasks=evaluate_further(further or {}, market, terms),
        cross_validated=None
        if crossed is None
        else evaluate_paths(crossed, market.universe, facts, market.panel, terms, market.context),
    )
    return evaluation, table


def _measure_window(
    predictions_by_name: Mapping[str, pl.DataFrame],
    market: MarketFacts,
    facts: pl.DataFrame,
    window: str,
    terms: Terms,
) -> tuple[dict[str, Measurement | None], list[pl.DataFrame]]:
    """Every expert in one window, and the returns of the benchmark and of all portfolios."""
    traded = TRADED[window]
    every = {name: market.inside(frame, window) for name, frame in predictions_by_name.items()}
    inside = {name: tradable_rows(frame, market.universe) for name, frame in every.items()}
    scene = Scene(window, market.inside(facts, window), market.prices(traded, terms), terms)
    benchmark = trade_benchmark(inside, scene.prices, terms)
    returns = [tagged(benchmark, BENCHMARK, traded, None)]
    measured: dict[str, Measurement | None] = {}
    for name, predictions in inside.items():
        if predictions.is_empty():
            measured[name] = None
            continue
        portfolios, frames = trade(name, predictions, scene.prices, benchmark, traded, terms)
        returns.extend(frames)
        all_names = None
        if len(predictions) < len(every[name]):
            all_names = _all_names(name, every, scene)
        beside = _beside(predictions, all_names, scene)
        measured[name] = measure(predictions, scene.facts, portfolios, beside, terms)
    return measured, returns


@dataclass(frozen=True)
class Scene:
    """One window: its name, what happened in it, the prices of the window that is traded, and the terms."""

    window: str
    facts: pl.DataFrame
    prices: Prices
    terms: Terms


def _all_names(name: str, every: Mapping[str, pl.DataFrame], scene: Scene) -> AllNames:
    """The figures of one expert over all names that it scored."""
    benchmark = trade_benchmark(every, scene.prices, scene.terms)
    portfolios, _ = trade(name, every[name], scene.prices, benchmark, TRADED[scene.window], scene.terms)
    return of_all_names(every[name], scene.facts, portfolios, scene.terms)


def _beside(predictions: pl.DataFrame, all_names: AllNames | None, scene: Scene) -> Beside:
    """Figures in parts; the test window's alone, for nothing is judged by those of the other."""
    if scene.window != "test":
        return Beside([], None, all_names)
    money = paper_book(predictions, scene.prices, scene.terms)
    return Beside(
        slices=slices(predictions, scene.facts, money, scene.terms),
        liquidity=liquidity(predictions, scene.facts, money, scene.prices, scene.terms),
        all_names=all_names,
    )


def possible_entry(panel: pl.DataFrame, settings: Settings) -> Settings:
    """The settings, entering at the next close where a panel holds no open prices, as the labels do."""
    if settings.entry == "next_open" and len(panel) and not panel["open"].is_not_null().any():
        warn(
            "backtest",
            "The panel holds no open prices: positions are entered at the next close instead of the next"
            " open.",
        )
        return settings.model_copy(update={"entry": "next_close"})
    return settings
