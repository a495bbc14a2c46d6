"""KFP door of the validation stage."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate(
    panel: Input[Dataset],
    settings: str,
    code: str,
    clean: Output[Dataset],
    quarantine: Output[Dataset],
    health: Output[Artifact],
    data_docs: Output[Artifact],
):
    """Part a raw panel into clean rows and quarantine; a critical fault stops the run after its page was
    written.
    """
    from components.validation.run import Inputs, Outputs, run

    outputs = Outputs(clean.path, quarantine.path, health.path, data_docs.path)
    run(Inputs(panel.path), outputs, settings=settings, code=code)
