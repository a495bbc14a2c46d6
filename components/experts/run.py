"""Trains one expert: from paths of stamped tables to the expert's artifact folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.contracts.documents.experts import ExpertStatus
from components.experts.trained import MOST_EXPERTS, forget_token, give_tokens, keep_token
from components.experts.training.inputs import Assignment, Inputs, StrPath
from components.experts.training.publish import only_training, publish_expert, train_on_tables
from components.memory.need import MIB, Need
from components.progress import report, stage

__all__ = ["Assignment", "Inputs", "Outputs", "run"]
# Tables are mapped: what is held is what an expert makes of them. Simulated, 34,794 and 582,072 rows of 102
# columns: elastic net 257 and 365 MiB.
NEED = Need("train", base=270 * MIB, row=0, cell=2.5)
# Their binned values and gradients: LightGBM 256 and 621 MiB with as many.
TREES = Need("train", base=260 * MIB, row=0, cell=6.5)
# torch, and what a network makes of its batches: PatchTST 627 MiB with 81,465 rows, measured at one size.
NETWORKS = Need("train", base=550 * MIB, row=0, cell=6)
NEEDS = {
    **dict.fromkeys(("lightgbm", "xgboost"), TREES),
    **dict.fromkeys(("patchtst", "tft", "adaptive_tft", "gru", "causal_cnn"), NETWORKS),
}


@dataclass(frozen=True)
class Outputs:
    """The expert's artifact folder, and the work folder in which finished folds stay for the next call.

    A training that ended well keeps its `token` in `trained_folder`, a path or an address, and one that
    failed takes it back; both may be empty.
    """

    expert: StrPath
    work_folder: StrPath
    token: str = ""
    trained_folder: str = ""


def run(inputs: Inputs, outputs: Outputs, assignment: Assignment) -> ExpertStatus:
    """Train an expert fold by fold into a folder:

    `status.json` and, unless it failed, `predictions.parquet` and
    `model/`.

    Raises
    ------
    OutputError
        If another training writes to the same work folder.
    ContractError, ConfigError, TimelineError
        If data, leaf and timeline do not fit together; an expert's own failure is a status.
    """
    name, work_folder = f"train {assignment.leaf.expert}", Path(outputs.work_folder)
    with stage(name), only_training(work_folder):
        NEEDS.get(assignment.leaf.expert, NEED).require(inputs.training_set, stage=name)
        attempt = train_on_tables(inputs, assignment, work_folder)
        publish_expert(Path(outputs.expert), attempt, assignment, work_folder)
        status = attempt.status
        trained = status.status == "trained"
        if outputs.token:
            (keep_token if trained else forget_token)(outputs.token, outputs.trained_folder)
        report(name, f"{status.rows:,} predictions, {len(status.folds)} fits" if trained else "left out")
    return status


def run_find_trained(lineages: Sequence[str], *, sources: tuple[str, ...], folder: str) -> tuple[str, ...]:
    """The token of each training in their order, see `give_tokens`; empty ones up to as many as there may be.

    Raises
    ------
    LastingError
        If the store at the address `folder` does not answer.
    """
    with stage("earlier trainings"):
        given = give_tokens({str(number): one for number, one in enumerate(lineages)}, sources, folder)
        report("earlier trainings", f"{len(given)} experts asked for")
    return (*given.values(), *[""] * (MOST_EXPERTS - len(given)))
