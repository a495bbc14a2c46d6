"""KFP door of the labels stage."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_labels(panel: Input[Dataset], settings: str, code: str, labels: Output[Dataset]):
    """Labels of every bar, symbol and horizon, entered one bar after the signal."""
    from components.labels.run import Inputs, Outputs, run

    run(Inputs(panel.path), Outputs(labels.path), settings=settings, code=code)
