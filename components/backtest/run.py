"""The backtest stage: from the experts' predictions to their evaluation and the portfolios' returns."""

from dataclasses import dataclass
from pathlib import Path

from components.backtest.config import Settings
from components.backtest.evaluate import evaluate
from components.backtest.market_facts import MarketFacts
from components.backtest.predictions import Task, read_crossed, read_predictions
from components.backtest.sized_by import SIZED_BY
from components.contracts import LABELS, PANEL, REGIME_COLUMN, TRAINING_SET, UNIVERSE, atomic_path, map_table
from components.contracts.documents.evaluation import Evaluation
from components.memory.need import MIB, Need
from components.progress import report, stage
from components.timeline import Settings as TimelineSettings

# Simulated, 34,794 and 145,518 rows: 333 and 405 MiB.
NEED = Need("backtest", base=315 * MIB, row=550, cell=0)


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

    `settings` and `timeline` are JSON of the two sections; `target` and `horizon`, in bars, are the judged
    task.

    Raises
    ------
    ContractError
        If a table is not what it should be, or the predictions were made from other labels.
    """
    with stage("backtest"):
        NEED.require(inputs.training_set)
        parsed = Settings.model_validate_json(settings)
        predicted = read_predictions(Path(inputs.predictions), Path(inputs.labels), Task(target, horizon))
        market = MarketFacts.of(
            map_table(inputs.panel, PANEL),
            map_table(inputs.universe, UNIVERSE),
            map_table(inputs.labels, LABELS),
            map_table(inputs.training_set, TRAINING_SET, columns=(REGIME_COLUMN, *SIZED_BY)),
            TimelineSettings.model_validate_json(timeline),
        )
        crossed = read_crossed(Path(inputs.crossed), Path(inputs.labels)) if inputs.crossed else None
        evaluation, table = evaluate(
            predicted.judged,
            market,
            parsed,
            horizon=horizon,
            code=code,
            further=predicted.further,
            crossed=crossed,
        )
        with atomic_path(outputs.returns) as temporary:
            table.write_parquet(temporary, compression="zstd")
        evaluation.write(outputs.evaluation)
        bars, tasks = evaluation.windows.test.bars, len(evaluation.further_tasks)
        told = f", {tasks} further tasks" if tasks else ""
        report(
            "backtest",
            f"{len(evaluation.experts)} experts over {bars} test bars, {len(table):,} rows of returns{told}",
        )
    return evaluation
