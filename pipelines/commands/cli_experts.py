"""Commands for single experts: list, train, resume, warm-start, search their settings, and look at what their
parts add.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import DEMO, ConfigOption, SetOption

experts_app = typer.Typer(
    no_args_is_help=True,
    help=(
        "List, train, tune and take apart single experts.\n\nAn expert's leaf, EXPERT/PERIOD/MODALITY, is the"
        " YAML file that says what is trained. A usual way: list the leaves, train one, tune its settings on"
        " the validation window, see what its parts add, and train again with the best leaf.\n\nExample: "
        " alphaloop experts train lightgbm"
    ),
)

ExpertArgument = Annotated[
    str,
    typer.Argument(
        help="An expert of experts.leaves, such as lightgbm, or its leaf, such as lightgbm/1d/base."
    ),
]
TrialsOption = Annotated[
    int,
    typer.Option(min=1, help="Finished tries that the study shall hold, those of earlier calls included."),
]
WorkersOption = Annotated[
    int,
    typer.Option(
        min=1, help="Processes that try at the same time; the leaf's threads are shared among them."
    ),
]
StorageOption = Annotated[
    str,
    typer.Option(
        envvar="ALPHALOOP_SEARCH_STORAGE",
        show_envvar=True,
        help=(
            "Database URL, such as postgresql://user@host/name with the password in PGPASSWORD. Default:"
            " compute.search_storage, or SQLite in the run's folder."
        ),
    ),
]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout-minutes", min=0, help="No try is begun after so long.")
]
StudyOption = Annotated[
    str, typer.Option(help="Name of the study; default: that of the leaf. Another name begins anew.")
]


@experts_app.command("list")
def list_experts(config: ConfigOption = DEMO, overrides: SetOption = None):
    """List the experts' config leaves: Alphaloop's and those of your own in experts.folder.

    A leaf is named EXPERT/PERIOD/MODALITY; put its name into experts.leaves to have it trained.

    Example:  alphaloop experts list --set experts.folder=leaves
    """
    from components.experts.leaves import list_leaves
    from pipelines.config import LEAVES, load_config

    own = load_config(config, overrides or []).experts.folder
    for name in sorted({*list_leaves(LEAVES), *(list_leaves(own) if own else [])}):
        typer.echo(name)


@experts_app.command("train")
def train_expert(expert: ExpertArgument, config: ConfigOption = DEMO, overrides: SetOption = None):
    """Train one expert from scratch on the run's data.

    Example:  alphaloop experts train lightgbm --config pipelines/configs/us_equities.yaml
    """
    _train(expert, config, overrides, mode="train")


@experts_app.command("resume")
def resume_expert(expert: ExpertArgument, config: ConfigOption = DEMO, overrides: SetOption = None):
    """Go on with an expert whose training was stopped: finished folds are kept.

    Example:  alphaloop experts resume patchtst
    """
    _train(expert, config, overrides, mode="resume")


@experts_app.command("warm")
def warm_expert(
    expert: ExpertArgument,
    start: Annotated[
        Path,
        typer.Option("--from", help="Folder of a fitted model of the same expert, such as one in a bundle."),
    ],
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
):
    """Train one expert starting from a fitted model instead of from scratch.

    Example:  alphaloop experts warm patchtst --from runs/demo/experts/patchtst/final/model
    """
    _train(expert, config, overrides, mode="warm", start=start)


@experts_app.command("tune")
def tune_expert(
    expert: ExpertArgument,
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    trials: TrialsOption = 30,
    workers: WorkersOption = 1,
    storage: StorageOption = "",
    timeout_minutes: TimeoutOption = None,
    study: StudyOption = "",
):
    """Search an expert's settings on the validation window; the test window is never touched.

    The first try is the leaf as it stands. What may be tried stands in search.yaml beside the expert's
    leaves, or in your own experts.folder: a line a setting, such as `learning_rate: {low: 0.01, high: 0.1,
    log: true}`. A search that was stopped or killed goes on when it is started again. Started several times
    at once, on machines that share a database, it is one search: together they make --trials tries.

    Example:  alphaloop experts tune lightgbm --trials 50 --workers 2 --config mine.yaml
    """
    from pipelines.commands.printed import printer
    from pipelines.commands.tune import Request, tune
    from pipelines.config import load_config

    request = Request(trials, workers, storage, study, timeout_minutes)
    table, said = tune(expert, load_config(config, overrides or []), request)
    printer().print(table)
    typer.echo(said)


@experts_app.command("ablate")
def ablate_expert(
    expert: ExpertArgument,
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that each variant is trained with.")] = 3,
    window: Annotated[
        str,
        typer.Option(
            help=(
                "validation, or test: only when nothing is decided by it any more; what is scored there"
                " counts as tried when the next model is judged."
            )
        ),
    ] = "validation",
):
    """Train the variants of an expert on the same folds and show what each part adds.

    The variants stand in ablations.yaml beside the expert's leaves, or in your own experts.folder: `full:
    {}`, then a line a variant.

    Example:  alphaloop experts ablate patchtst --seeds 3
    """
    if window not in ("validation", "test"):
        raise typer.BadParameter(f"{window!r} is neither validation nor test", param_hint="--window")
    from pipelines.commands.ablate import run_ablation
    from pipelines.commands.printed import printer
    from pipelines.config import load_config

    table, said = run_ablation(expert, load_config(config, overrides or []), seeds=seeds, window=window)
    printer().print(table)
    typer.echo(said)


@experts_app.command("explain")
def explain_expert(expert: ExpertArgument, config: ConfigOption = DEMO, overrides: SetOption = None):
    """Draw what the newest fit of a neural expert attends to: gates, selection weights, the course of its
    training.

    Example:  alphaloop experts explain patchtst
    """
    from pipelines.commands.ablate import explain_newest
    from pipelines.config import load_config

    typer.echo(f"Page: {explain_newest(expert, load_config(config, overrides or []))}")


def _train(
    expert: str, config: Path, overrides: list[str] | None, *, mode: str, start: Path | None = None
) -> None:
    from pipelines.commands.one_expert import run_expert
    from pipelines.commands.printed import printer
    from pipelines.config import load_config

    printer().print(run_expert(expert, load_config(config, overrides or []), mode=mode, start=start))
