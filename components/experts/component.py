"""KFP doors of the experts: one task an expert, and before them the one that gives each its token."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_expert(
    training_set: Input[Dataset],
    labels: Input[Dataset],
    catalog: Input[Artifact],
    leaf: str,
    timeline: str,
    period: str,
    horizon: int,
    target: str,
    seed: int,
    work_folder: str,
    code: str,
    expert: Output[Artifact],
    token: str = "",
    trained_folder: str = "",
    warm_from: str = "",
    selection: Input[Artifact] = None,
    learnable: Input[Dataset] = None,
):
    """Train one expert fold by fold into a folder: status.json and, unless it failed, predictions.parquet and
    model/. One that did not fail keeps its token in `trained_folder`, see `find_trained`.
    """
    from components.experts.run import Assignment, Inputs, Outputs, run

    chosen, rows = selection and selection.path, learnable and learnable.path
    run(
        Inputs(training_set.path, labels.path, catalog.path, chosen, rows, warm_from),
        Outputs(expert.path, work_folder, token, trained_folder),
        Assignment.parsed(leaf, timeline, period, horizon, target, seed, code),
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def find_trained(lineages: list, source: str, slow: str, trained_folder: str) -> NamedTuple(
    "Tokens", **{f"expert_{number}": str for number in range(1, 9)}
):
    """The token of each training: an argument of it, so that no cache answers with an expert that failed."""
    from components.experts.run import run_find_trained

    return run_find_trained(lineages, sources=(source, slow), folder=trained_folder)
