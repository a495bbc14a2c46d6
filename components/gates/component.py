"""KFP doors of the gates stage."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def judge(
    evaluation: Input[Artifact],
    predictions: Input[Dataset],
    labels: Input[Dataset],
    universe: Input[Dataset],
    returns: Input[Dataset],
    champion: Input[Artifact],
    trials: Input[Artifact],
    settings: str,
    code: str,
    verdict: Output[Artifact],
    newest_only: bool = False,
) -> NamedTuple("Outputs", [("approved", bool), ("beats_champion", bool)]):
    """Judge the candidate; a rejection is a normal ending.

    `newest_only`: it meets the champion on bars that are newer than the champion's training data.
    """
    from collections import namedtuple

    from components.gates.run import Inputs, Outputs, run

    tables = (predictions.path, labels.path, universe.path, returns.path)
    inputs = Inputs(evaluation.path, *tables, champion.path, trials.path)
    made = run(inputs, Outputs(verdict.path), settings=settings, code=code, newest_only=newest_only)
    return namedtuple("Outputs", ["approved", "beats_champion"])(made.approved, made.beats_champion)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def judge_ticks(
    found: Input[Artifact],
    curve: Input[Dataset],
    predictions: Input[Dataset],
    labels: Input[Dataset],
    settings: str,
    code: str,
    verdict: Output[Artifact],
) -> bool:
    """Judge a model of ticks by what a replay found; a rejection is a normal ending."""
    from components.gates.judge_ticks import Inputs, run

    inputs = Inputs(found.path, curve.path, predictions.path, labels.path)
    return run(inputs, verdict.path, settings=settings, code=code).approved
