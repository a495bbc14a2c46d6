"""KFP doors of retraining: what was served, the decision on it, and how a retraining ended."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def collect_served(
    champion: Input[Artifact], window_bars: int, folder: str, code: str, current: Output[Dataset]
):
    """Gather what the champion answered on bars that it has not learned from."""
    from pathlib import Path

    from components.retraining.run import run_collect_served

    answered, rows = Path(champion.path), Path(current.path)
    run_collect_served(answered, rows, window_bars=window_bars, folder=folder, code=code)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def decide(
    drift: Input[Artifact],
    current: Input[Dataset],
    panel: Input[Dataset],
    champion: Input[Artifact],
    settings: str,
    source: str,
    folder: str,
    decision: Output[Artifact],
    trains: bool = True,
) -> bool:
    """Decide whether to retrain, write the decision into the audit trail and publish the drift report.

    `trains`: whether a retraining follows here. The answer is the only returned value: a condition on one of
    several named ones is never true in `kfp.local`.
    """
    from pathlib import Path

    from components.retraining.run import Checked, run_decide

    inputs = Checked(*(Path(artifact.path) for artifact in (drift, current, panel, champion)))
    made = Path(decision.path)
    return run_decide(inputs, made, settings=settings, source=source, folder=folder, trains=trains).retrains


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def conclude(decision: Input[Artifact], registration: Input[Artifact], folder: str):
    """Write the outcome of a retraining into the audit trail and renew the review page."""
    from pathlib import Path

    from components.retraining.run import Retrained, run_conclude

    run_conclude(Retrained(Path(decision.path), Path(registration.path)), folder=folder)
