"""One check for drift here, with the retraining that it decides on: what `alphaloop watch` repeats."""

from pathlib import Path

from components.contracts.documents.retraining import Decision
from components.retraining.trail import read_trail
from pipelines.config import Config
from pipelines.graphs.retraining import RetrainingError, retraining_config
from pipelines.runners.local_run import run_locally


def run_retraining(config: Config, **options) -> Decision:
    """One check on this machine through `run_locally`, with the retraining that it decides on; returns the
    decision, closed where it retrained.

    Raises
    ------
    RetrainingError
        If a window ends on a fixed day, or the pipeline called itself successful without the retraining that
        it had decided on.
    RunFailed, OutputError
        As `run_locally` raises them. A retraining that failed or was killed stays open and is resumed by the
        next run.
    """
    retraining_config(config)
    review = Path(config.run.folder).absolute() / "review"
    known = {one.id for one in read_trail(review).decisions}
    run_locally("retraining", config, **options)
    trail = read_trail(review)
    made = next((one for one in reversed(trail.decisions) if one.id not in known), None)
    if made is None:
        raise RetrainingError(
            f"The check ended without a decision in {review}. Look into {config.run.folder}/kfp.log."
        )
    if made.retrains and made.outcome is None:
        raise RetrainingError(
            f"Decision {made.id} was to {made.action}, but the training tasks did not run. Look into"
            f" {config.run.folder}/kfp.log; the next check resumes it."
        )
    return made
