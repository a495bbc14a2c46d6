"""Pipelines beside training that `alphaloop run --pipeline` runs on this machine, and what they say at the
end.
"""

from components.contracts import AlphaloopError
from components.lasting.folder import below, fetched
from pipelines.config import Config
from pipelines.lasting import lasting_here, page_at_hand
from pipelines.runners.local_run import run_locally

HERE = ("training", "ticks", "drift", "replay")
# The other pipelines have commands of their own.
COMMANDS = {
    "materialisation": "alphaloop materialise",
    "retraining": "alphaloop watch --once",
    "selection": "alphaloop select",
    "mining": "alphaloop mine",
}


class PipelineError(AlphaloopError):
    """A pipeline can't be run this way."""


def default_pipeline(config: Config) -> str:
    """The pipeline that a config is run by where none is named."""
    return "training" if config.ticks is None else "ticks"


def require_here(name: str) -> None:
    """Refuse a pipeline that there is not, or that another command runs; PipelineError names it."""
    if name in COMMANDS:
        raise PipelineError(f"The {name} pipeline has a command of its own: {COMMANDS[name]}")
    if name not in HERE:
        raise PipelineError(f"There is no pipeline {name!r} to run. Choose one of: {', '.join(HERE)}.")


def run_drift(config: Config, runner: str) -> str:
    """Measure the drift of what was served and keep the decision on it; returns both in words."""
    from pipelines.commands.retrain import review_trail

    run_locally("drift", config, runner=runner)
    made = review_trail(below(lasting_here(config), "review")).decisions[-1]
    shown = page_at_hand(config, f"review/{made.drift_report}") if made.drift_report else None
    return f"{made.action}: {made.reason}" + (f"\nReport: {shown}" if shown else "")


def run_replay(config: Config, runner: str) -> str:
    """Replay the newest bars; returns what was found in words."""
    from components.contracts.documents.replay import ReplayReport
    from components.replay.run import FOLDER, PAGE, REPORT

    run_locally("replay", config, runner=runner)
    with fetched(below(lasting_here(config), FOLDER), [REPORT]) as kept:
        found = ReplayReport.read(kept / REPORT)
    return f"{found.reason}\nPage: {page_at_hand(config, f'{FOLDER}/{PAGE}')}"
