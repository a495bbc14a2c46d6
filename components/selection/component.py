"""KFP doors of factor selection."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def select_factors(
    training_set: Input[Dataset],
    labels: Input[Dataset],
    catalog: Input[Artifact],
    settings: str,
    timeline: str,
    family: str,
    horizon: int,
    target: str,
    seed: int,
    code: str,
    selection: Output[Artifact],
    evidence: Output[Dataset],
    overview: Output[Artifact],
    modality: str = "base",
    transform: str = "zscore",
):
    """Choose the inputs of every fold on its training bars, for one family of experts."""
    from components.selection.run import Inputs, Outputs, Purpose, run_select

    inputs = Inputs(training_set.path, labels.path, catalog.path)
    outputs = Outputs(selection.path, evidence.path, overview.path)
    purpose = Purpose(family, horizon, target, seed, modality, transform)
    run_select(inputs, outputs, purpose, settings=settings, timeline=timeline, code=code)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def draw_selection(
    overview: Input[Artifact],
    evidence: Input[Dataset],
    code: str,
    page: Output[HTML],
):
    """The evidence page of a selection."""
    from components.selection.run import run_draw_selection

    run_draw_selection(overview.path, evidence.path, page.path)
