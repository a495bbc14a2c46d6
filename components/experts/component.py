"""KFP door of the experts: one task an expert."""

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
    warm_from: str = "",
    selection: Input[Artifact] = None,
    learnable: Input[Dataset] = None,
):
    """Train one expert fold by fold into a folder: status.json and, unless it failed, predictions.parquet and
    model/.
    """
    from components.experts.run import Assignment, Inputs, Outputs, run

    chosen, rows = selection and selection.path, learnable and learnable.path
    run(
        Inputs(training_set.path, labels.path, catalog.path, chosen, rows, warm_from),
        Outputs(expert.path, work_folder),
        Assignment.parsed(leaf, timeline, period, horizon, target, seed, code),
    )
