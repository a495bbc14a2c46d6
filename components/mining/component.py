"""KFP door of residual mining."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def mine(
    training_set: Input[Dataset],
    labels: Input[Dataset],
    catalog: Input[Artifact],
    predictions: Input[Dataset],
    settings: str,
    timeline: str,
    horizon: int,
    target: str,
    seed: int,
    code: str,
    formulas: Output[Artifact],
    page: Output[HTML],
):
    """Formulas that predict what the experts leave unexplained, judged out of sample."""
    from components.mining.run import Inputs, Outputs, run

    inputs = Inputs(training_set.path, labels.path, catalog.path, predictions.path)
    outputs = Outputs(formulas.path, page.path)
    learned = {"horizon": horizon, "target": target, "seed": seed}
    mined = run(inputs, outputs, **learned, settings=settings, timeline=timeline)
    formulas.metadata.update(accepted=len(mined.accepted), tried=mined.tries, code=code)
