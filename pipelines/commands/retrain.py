"""One check for drift here, with the retraining that it decides on: what `alphaloop watch` repeats."""

from components.contracts.documents.retraining import Decision
from components.lasting.folder import below, fetched
from components.retraining.trail import DECISIONS, WORDS, Trail, read_trail
from pipelines.config import Config
from pipelines.graphs.retraining import RetrainingError, retraining_config
from pipelines.lasting import lasting_here
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
    review = below(lasting_here(config), "review")
    known = {one.id for one in review_trail(review).decisions}
    run_locally("retraining", config, **options)
    trail = review_trail(review)
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


def review_trail(review: str) -> Trail:
    """The audit trail of a review folder, which is a path or an address."""
    with fetched(review, lambda name: name.startswith((f"{DECISIONS}/", f"{WORDS}/"))) as folder:
        return read_trail(folder)
