"""KFP doors of the validation stage."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate(
    panel: Input[Dataset],
    settings: str,
    origin: str,
    code: str,
    clean: Output[Dataset],
    quarantine: Output[Dataset],
    health: Output[Artifact],
    judgements: Output[Artifact],
):
    """Part a raw panel into clean rows and quarantine; a critical fault stops the run after its page was
    written.
    """
    from components.validation.run import Inputs, Outputs, run_validate

    outputs = Outputs(clean.path, quarantine.path, health.path, judgements.path)
    run_validate(Inputs(panel.path), outputs, settings=settings, code=code, origin=origin)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check_plan(panel: Input[Dataset], demands: str, code: str):
    """Stop the run where a clean panel is not enough for what the config asks of it."""
    from components.validation.plan import run_check_plan

    run_check_plan(panel.path, demands=demands)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def draw_validation(
    health: Input[Artifact],
    judgements: Input[Artifact],
    code: str,
    data_docs: Output[HTML],
):
    """The page of a panel that passed, from what its validation found."""
    from components.validation.run import run_draw_validation

    run_draw_validation(health.path, judgements.path, data_docs.path)
