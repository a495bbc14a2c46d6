"""The retraining pipeline: what was served is held against the champion's reference; where that calls for it,
the training tasks follow, and their model has to beat the champion on bars that are newer than the champion's
training data.
"""

from collections.abc import Callable
from pathlib import Path

from kfp import dsl

from components.contracts import AlphaloopError
from components.drift.component import detect_drift
from components.experts.leaves import Leaf
from components.registry.component import read_champion
from components.report.component import close_run
from components.retraining.component import collect_served, conclude, decide
from components.retraining.trail import read_trail
from pipelines.code_version import code_version
from pipelines.config import Config, section_json
from pipelines.graphs.stages import arranger, source_to_factors, to_judged_model, to_labels, to_training_set


class RetrainingError(AlphaloopError):
    """The configuration does not allow a retraining, or one that was decided did not take place."""


def retraining_config(config: Config) -> Config:
    """The configuration that a retraining trains with: windows that grow with the data, folds of
    `retraining.fold_bars`.

    Raises
    ------
    RetrainingError
        If the test window or the backtest ends on a fixed day: new bars would never be learned from nor
        judged.
    """
    ends = {
        "timeline.test.end": config.timeline.test.end,
        "timeline.backtest.end": config.timeline.backtest.end,
    }
    for name, end in ends.items():
        if end is not None:
            raise RetrainingError(
                f"{name}={end} ends on a fixed day, so a retraining would see no bar after it. Leave {name}"
                " out: the window then grows with the data."
            )
    if config.retraining.fold_bars is None:
        return config
    return config.model_copy(
        update={"timeline": config.timeline.model_copy(update={"fold_bars": config.retraining.fold_bars})}
    )


def retraining_pipeline(
    config: Config, *, source: str, leaves: list[Leaf], folder: str, retries: int = 0
) -> Callable:
    """The `retraining` pipeline of one configuration; parameters as in `training_pipeline`.

    Raises
    ------
    RetrainingError
        If a window of the configuration ends on a fixed day.
    """
    config = retraining_config(config)
    arrange = arranger(config, retries)

    @dsl.pipeline(
        name=f"alphaloop-retraining-{config.run.name}",
        description="Drift of what was served, the decision on it, and the retraining that follows.",
    )
    def retraining():
        closing = arrange(close_run(folder=folder), "close", cached=False)
        with dsl.ExitHandler(closing, name="retraining"):
            data = source_to_factors(config, arrange, source, folder)
            to_labels(config, arrange, data)
            decided = _to_decision(config, arrange, data, source, folder)
            # On a bool: a condition on text that can't be evaluated would skip the branch and still count as
            # success.
            with dsl.If(decided.outputs["Output"] == True, name="retrain"):  # noqa: E712
                to_training_set(config, arrange, data, folder)
                registered = to_judged_model(config, arrange, data, leaves, folder, newest_only=True)
                arrange(
                    conclude(
                        decision=decided.outputs["decision"],
                        registration=registered.outputs["registration"],
                        folder=folder,
                    ),
                    "conclude",
                    cached=False,
                )

    return retraining


def _to_decision(config: Config, arrange: Callable, data, source: str, folder: str) -> dsl.PipelineTask:
    champion = arrange(
        read_champion(
            settings=section_json(config.registry), name=config.run.name, folder=f"{folder}/registry"
        ),
        "champion in service",
        cached=False,
    )
    served = arrange(
        collect_served(
            champion=champion.outputs["champion"],
            window_bars=config.drift.window_bars,
            folder=folder,
            code=code_version("retraining"),
        ),
        "served",
        cached=False,
    )
    drift = arrange(
        detect_drift(
            current=served.outputs["current"],
            labels=data.labels,
            champion=champion.outputs["champion"],
            settings=section_json(config.drift),
            code=code_version("drift"),
        ),
        "drift",
        cached=False,
    )
    return arrange(
        decide(
            drift=drift.outputs["drift"],
            current=served.outputs["current"],
            panel=data.panel,
            champion=champion.outputs["champion"],
            settings=section_json(config.retraining),
            source=source,
            folder=folder,
        ),
        "decide",
        cached=False,
    )


def run_retraining(config: Config, **options) -> dict:
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
    from pipelines.runners.local_run import run_locally

    retraining_config(config)
    review = Path(config.run.folder).absolute() / "review"
    known = {one["id"] for one in read_trail(review).decisions}
    run_locally("retraining", config, **options)
    trail = read_trail(review)
    made = next((one for one in reversed(trail.decisions) if one["id"] not in known), None)
    if made is None:
        raise RetrainingError(
            f"The check ended without a decision in {review}. Look into {config.run.folder}/kfp.log."
        )
    if made["action"] in ("retrain", "resume") and made["outcome"] is None:
        raise RetrainingError(
            f"Decision {made['id']} was to {made['action']}, but the training tasks did not run. Look into"
            f" {config.run.folder}/kfp.log; the next check resumes it."
        )
    return made
