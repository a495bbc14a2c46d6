"""KFP door of the backtest stage."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def backtest(
    panel: Input[Dataset],
    universe: Input[Dataset],
    labels: Input[Dataset],
    training_set: Input[Dataset],
    predictions: Input[Dataset],
    settings: str,
    timeline: str,
    target: str,
    horizon: int,
    code: str,
    returns: Output[Dataset],
    evaluation: Output[Artifact],
    crossed: Input[Dataset] = None,
):
    """Trade and measure every expert and the stack, further tasks, and all models of a cross-validation."""
    from components.backtest.run import Inputs, Outputs, run

    tables = (panel.path, universe.path, labels.path, training_set.path, predictions.path)
    inputs = Inputs(*tables, crossed.path if crossed else "")
    outputs = Outputs(returns=returns.path, evaluation=evaluation.path)
    judged = {"target": target, "horizon": horizon}
    run(inputs, outputs, settings=settings, timeline=timeline, **judged, code=code)
