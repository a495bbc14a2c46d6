"""KFP door of the labels of ticks."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_tick_labels(
    ticks: Input[Artifact],
    features: Input[Dataset],
    delays: Input[Dataset],
    settings: str,
    work_folder: str,
    code: str,
    labels: Output[Dataset],
):
    """What a round trip earns from each sample, over each horizon, after fees and the walk of the book."""
    from components.tick_labels.run import Inputs, Outputs, run

    outputs = Outputs(labels.path, work_folder)
    run(Inputs(ticks.path, features.path, delays.path), outputs, settings=settings, code=code)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_tick_training_set(features: Input[Dataset], code: str, training_set: Output[Dataset]):
    """The features of every sample as experts learn from them."""
    from components.tick_labels.training_set import run_make_training_set

    run_make_training_set(features.path, training_set.path, code=code)
