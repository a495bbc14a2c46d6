"""The backtest stage: from the experts' predictions to their evaluation and the portfolios' returns."""

from dataclasses import dataclass
from pathlib import Path

from components.backtest.config import Settings
from components.backtest.evaluate import MarketFacts, evaluate
from components.backtest.further import evaluate_further
from components.backtest.predictions import Task, read_crossed, read_predictions
from components.backtest.sized_by import SIZED_BY
from components.backtest.terms import Terms
from components.contracts import LABELS, PANEL, REGIME_COLUMN, TRAINING_SET, UNIVERSE, atomic_path, read_table
from components.contracts.documents.evaluation import Evaluation
from components.progress import report, stage
from components.timeline import Settings as TimelineSettings
from components.timeline import resolve_windows


@dataclass(frozen=True)
class Inputs:
    """Stamped tables: PANEL, its UNIVERSE, LABELS, TRAINING_SET, and ALL_PREDICTIONS that were made from
    these labels; and CROSS_VALIDATED, made from them too, or empty.
    """

    panel: str
    universe: str
    labels: str
    training_set: str
    predictions: str
    crossed: str = ""


@dataclass(frozen=True)
class Outputs:
    """`returns`: Parquet, RETURNS_SCHEMA. `evaluation`: an Evaluation."""

    returns: str
    evaluation: str


def run(
    inputs: Inputs,
    outputs: Outputs,
    *,
    settings: str,
    timeline: str,
    target: str,
    horizon: int,
    code: str,
) -> Evaluation:
    """Trade and measure every expert and the stack, and what is predicted beside the judged task.

    Windows are counted on the training set's calendar, as experts and stack do. `settings` and `timeline` are
    JSON of the two sections; `target` and `horizon`, in bars, are the judged task.

    Raises
    ------
    ContractError
        If a table is not what it should be, or the predictions were made from other labels.
    """
    with stage("backtest"):
        parsed = Settings.model_validate_json(settings)
        training_set = read_table(inputs.training_set, TRAINING_SET)
        regimes = training_set.select("timestamp", "symbol", REGIME_COLUMN)
        calendar = regimes["timestamp"].unique().sort()
        windows = resolve_windows(calendar, TimelineSettings.model_validate_json(timeline))
        predicted = read_predictions(Path(inputs.predictions), Path(inputs.labels), Task(target, horizon))
        experts = predicted.judged
        market = MarketFacts(
            labels=read_table(inputs.labels, LABELS),
            panel=read_table(inputs.panel, PANEL),
            universe=read_table(inputs.universe, UNIVERSE),
            regimes=regimes,
            windows=windows,
            calendar=calendar,
            context=training_set.select(
                "timestamp", "symbol", *(name for name in SIZED_BY if name in training_set.columns)
            ),
        )
        crossed = read_crossed(Path(inputs.crossed), Path(inputs.labels)) if inputs.crossed else None
        evaluation, table = evaluate(experts, market, parsed, horizon=horizon, code=code, crossed=crossed)
        entered = parsed.model_copy(update={"entry": evaluation.entry})
        terms = Terms(entered, horizon, evaluation.bars_per_year)
        further = evaluate_further(predicted.further, market, terms)
        evaluation = evaluation.model_copy(update={"further_tasks": further})
        with atomic_path(outputs.returns) as temporary:
            table.write_parquet(temporary, compression="zstd")
        evaluation.write(outputs.evaluation)
        bars = evaluation.windows.test.bars
        beside = f", {len(further)} further tasks" if further else ""
        report(
            "backtest",
            f"{len(experts)} experts over {bars} test bars, {len(table):,} rows of returns{beside}",
        )
    return evaluation
