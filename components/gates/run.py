"""The gates stage: from evaluation, predictions and champion to the verdict."""

from dataclasses import dataclass
from pathlib import Path

from components.contracts import LABELS, UNIVERSE, map_table, tradable_rows
from components.contracts.documents.trials import Trials
from components.contracts.documents.verdict import Verdict
from components.gates.config import Settings
from components.gates.judge import judge
from components.gates.promotion import Contest, newest_bars_only
from components.gates.read import read_candidate, read_champion_predictions, read_evaluation
from components.memory.need import MIB, Need
from components.progress import report, stage

# Told by the predictions of all models; simulated, 148,066 and 621,735 rows: 280 and 441 MiB.
NEED = Need("gates", base=250 * MIB, row=200, cell=0)


@dataclass(frozen=True)
class Inputs:
    """Evaluation and returns of one backtest, ALL_PREDICTIONS, LABELS and UNIVERSE tables, the champion's
    folder, and the Trials of the test window.
    """

    evaluation: str
    predictions: str
    labels: str
    universe: str
    returns: str
    champion: str
    trials: str


@dataclass(frozen=True)
class Outputs:
    """`verdict`: a Verdict."""

    verdict: str


def run(inputs: Inputs, outputs: Outputs, *, settings: str, code: str, newest_only: bool = False) -> Verdict:
    """Judge the candidate; a rejection is a normal ending.

    `settings` is JSON of the section. `newest_only`: the candidate meets the champion on bars that are newer
    than the champion's training data.

    Raises
    ------
    ContractError
        If an input can't be read, or evaluation and returns come from different runs.
    """
    with stage("gates"):
        NEED.require(inputs.predictions)
        parsed = Settings.model_validate_json(settings)
        evaluation = read_evaluation(Path(inputs.evaluation), Path(inputs.returns))
        candidate = read_candidate(
            Path(inputs.predictions),
            expert=parsed.candidate,
            target=evaluation.target,
            horizon=evaluation.horizon,
        )
        candidate = tradable_rows(candidate, map_table(inputs.universe, UNIVERSE))
        champion = read_champion_predictions(Path(inputs.champion))
        labels = map_table(inputs.labels, LABELS)
        after = newest_bars_only(champion) if newest_only else None
        contest = Contest(evaluation, candidate, labels, champion, after)
        verdict = judge(contest, Trials.read(inputs.trials), parsed, code=code)
        verdict.write(outputs.verdict)
        report("gates", f"{'approved' if verdict.approved else 'rejected'}: {verdict.reason}")
    return verdict
