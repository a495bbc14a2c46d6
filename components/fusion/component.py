"""KFP doors of the fusion stage."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def find_slow_source(settings: str) -> str:
    """The content hash of the slow tables where they lie: an argument of `fuse`, so that changed tables are
    never answered from a cache.
    """
    from components.fusion.run import run_source

    return run_source(settings=settings)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fuse(
    panel: Input[Dataset],
    settings: str,
    source: str,
    code: str,
    fused: Output[Dataset],
    report: Output[Artifact],
):
    """Join the slow tables to the panel as known at each bar; a sample is joined again row by row before
    anything is written.
    """
    from components.fusion.run import FuseInputs, FuseOutputs, run_fuse

    outputs = FuseOutputs(fused.path, report.path)
    run_fuse(FuseInputs(panel.path, source), outputs, settings=settings, code=code)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def draw_fusion(
    report: Input[Artifact],
    code: str,
    page: Output[HTML],
):
    """The page of a fusion, from its report."""
    from components.fusion.run import run_draw_fusion

    run_draw_fusion(report.path, page.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_learnable(
    training_set: Input[Dataset],
    catalog: Input[Artifact],
    settings: str,
    modality: str,
    code: str,
    learnable: Output[Dataset],
    report: Output[Artifact],
):
    """The rows that experts of a modality may learn from."""
    from components.fusion.run import LearnableInputs, LearnableOutputs, run_learnable

    inputs = LearnableInputs(training_set.path, catalog.path)
    outputs = LearnableOutputs(learnable.path, report.path)
    run_learnable(inputs, outputs, settings=settings, modality=modality, code=code)
