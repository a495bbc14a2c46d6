"""KFP door of the replay of order books."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def replay_ticks(
    ticks: Input[Artifact],
    predictions: Input[Dataset],
    labels: Input[Dataset],
    features: Input[Dataset],
    delays: Input[Dataset],
    settings: str,
    target: str,
    horizon: int,
    seed: int,
    work_folder: str,
    code: str,
    fills: Output[Dataset],
    curve: Output[Dataset],
    found: Output[Artifact],
):
    """What of each expert's paper profit could be had, by policy and latency, with own orders in queues."""
    from components.tick_replay.run import Inputs, Outputs, run

    inputs = Inputs(ticks.path, predictions.path, labels.path, features.path, delays.path)
    outputs = Outputs(fills.path, curve.path, found.path, work_folder)
    run(inputs, outputs, settings=settings, target=target, horizon=horizon, seed=seed, code=code)
