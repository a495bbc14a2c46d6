"""KFP door of the gates stage."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def judge(
    evaluation: Input[Artifact],
    predictions: Input[Dataset],
    labels: Input[Dataset],
    returns: Input[Dataset],
    champion: Input[Artifact],
    settings: str,
    code: str,
    verdict: Output[Artifact],
    newest_only: bool = False,
) -> NamedTuple("Outputs", [("approved", bool), ("beats_champion", bool)]):
    """Judge the candidate; a rejection is a normal ending.

    `newest_only`: it meets the champion on bars that are newer than the champion's training data.
    """
    import json
    from collections import namedtuple
    from pathlib import Path

    from components.contracts import LABELS, atomic_write_text, read_table
    from components.gates.config import Settings
    from components.gates.judge import judge as judge_candidate
    from components.gates.judge import newest_bars_only, read_candidate, read_champion, read_evaluation
    from components.progress import report, stage
    from components.settings import config_hash

    with stage("gates"):
        parsed = Settings.model_validate_json(settings)
        measured = read_evaluation(Path(evaluation.path), Path(returns.path))
        candidate = read_candidate(
            Path(predictions.path), expert=parsed.candidate, horizon=measured["horizon"]
        )
        present = read_champion(Path(champion.path))
        after = newest_bars_only(present) if newest_only else None
        result = judge_candidate(
            measured, candidate, read_table(labels.path, LABELS), present, parsed, champion_after=after
        )
        stamp = {"code_version": code, "config_hash": config_hash(parsed)}
        atomic_write_text(
            verdict.path, json.dumps({**result.to_dict(), "stamp": stamp}, indent=1, allow_nan=False)
        )
        report("gates", f"{'approved' if result.approved else 'rejected'}: {result.reason}")
    return namedtuple("Outputs", ["approved", "beats_champion"])(result.approved, result.beats_champion)
