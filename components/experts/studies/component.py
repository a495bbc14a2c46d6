"""KFP door that hands a run's tables to work outside of the pipeline: searches and ablations."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def point_to_inputs(
    training_set: Input[Dataset],
    labels: Input[Dataset],
    catalog: Input[Artifact],
    panel: Input[Dataset],
    target: str,
    selection: Input[Artifact] = None,
    learnable: Input[Dataset] = None,
):
    """Write the paths of an expert's inputs as JSON to the path `target`."""
    from components.experts.studies.run import Inputs, run

    chosen, rows = selection and selection.path, learnable and learnable.path
    run(Inputs(training_set.path, labels.path, catalog.path, chosen, rows), panel.path, target)
