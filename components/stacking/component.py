"""KFP doors of the stacking stage."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_oof(
    labels: Input[Dataset],
    training_set: Input[Dataset],
    target: str,
    horizon: int,
    settings: str,
    code: str,
    experts: Input[Artifact],
    oof: Output[Dataset],
    predictions: Output[Dataset],
    audit: Output[Artifact],
):
    """Gather the experts' predictions into one audited table."""
    from components.stacking.run import OofInputs, OofOutputs, run_build_oof

    run_build_oof(
        OofInputs(labels.path, training_set.path, experts.path, target, horizon),
        OofOutputs(oof.path, predictions.path, audit.path),
        settings=settings,
        code=code,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def stack(
    oof: Input[Dataset],
    predictions: Input[Dataset],
    training_set: Input[Dataset],
    target: str,
    horizon: int,
    settings: str,
    timeline: str,
    seed: int,
    code: str,
    all_predictions: Output[Dataset],
    model: Output[Artifact],
    comparison: Output[Artifact],
):
    """Compare combiners on the validation window and apply the chosen one through the test window."""
    from components.stacking.run import StackInputs, StackOutputs, run_stack

    run_stack(
        StackInputs(oof.path, predictions.path, training_set.path, target, horizon),
        StackOutputs(all_predictions.path, model.path, comparison.path),
        settings=settings,
        timeline=timeline,
        seed=seed,
        code=code,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def stack_splits(
    labels: Input[Dataset],
    training_set: Input[Dataset],
    experts: Input[Artifact],
    target: str,
    horizon: int,
    settings: str,
    timeline: str,
    seed: int,
    code: str,
    predictions: Output[Dataset],
):
    """Combine what the experts predicted in the splits of a cross-validation: for the report alone."""
    from components.stacking.run import OofInputs, run_stack_splits

    run_stack_splits(
        OofInputs(labels.path, training_set.path, experts.path, target, horizon),
        predictions.path,
        settings=settings,
        timeline=timeline,
        seed=seed,
        code=code,
    )
