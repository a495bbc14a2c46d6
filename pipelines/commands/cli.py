"""The command line `alphaloop`.

Every command imports what it needs only when it runs, so help answers at once.
"""

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from components.processes.endings import ending_signals
from pipelines.commands import cli_experts, cli_factors, cli_models, cli_schedules, cli_ticks
from pipelines.commands.options import (
    DEMO,
    ConfigOption,
    HostOption,
    ImageOption,
    PipelineOption,
    RunnerOption,
    SetOption,
    checked_runner,
)

# Exit codes of a command that was stopped: from the keyboard, by SIGTERM, or by a closed terminal.
STOPPED = (130, 143, 129)

app = typer.Typer(
    name="alphaloop",
    help=(
        "From market data to a judged, served and watched model.\n\nStart with:  alphaloop run, then"
        " alphaloop serve"
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Make a simulated market, fetch one, or check your own data.\n\nExample:  alphaloop data check"
        " prices.parquet"
    ),
)
app.add_typer(cli_experts.experts_app, name="experts")
app.add_typer(data_app, name="data")
app.add_typer(cli_schedules.schedules_app, name="schedules")
app.add_typer(cli_ticks.ticks_app, name="ticks")


@app.command()
def run(
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    pipeline: Annotated[
        str | None,
        typer.Option(
            "--pipeline",
            help=(
                "training, or ticks where the config is of order books, each the default; drift to measure"
                " what was served without training; replay to send the newest bars through the live path"
                " again."
            ),
        ),
    ] = None,
    runner: RunnerOption = "subprocess",
    require_approved: Annotated[
        bool, typer.Option("--require-approved", help="Exit with 3 if the gates reject the model.")
    ] = False,
):
    """Run a config's pipeline on this machine, data to judged model and report, or that of --pipeline.

    Finished stages come from the cache, so a killed run goes on where it was.

    Example:  alphaloop run --config pipelines/configs/us_equities.yaml --set run.seed=11
    """
    from pipelines.commands.pipelines_here import default_pipeline, require_here, run_drift, run_replay
    from pipelines.commands.report import read_summary, show_summary
    from pipelines.commands.tick_runs import run_ticks
    from pipelines.config import load_config
    from pipelines.lasting import lasting_here
    from pipelines.runners.local_run import run_locally

    loaded = load_config(config, overrides or [])
    pipeline = pipeline or default_pipeline(loaded)
    require_here(pipeline)
    if pipeline == "ticks":
        approved = run_ticks(loaded, checked_runner(runner))
        if require_approved and not approved:
            raise typer.Exit(3)
        return
    if pipeline != "training":
        typer.echo({"drift": run_drift, "replay": run_replay}[pipeline](loaded, checked_runner(runner)))
        return
    run_locally("training", loaded, runner=checked_runner(runner))
    summary = read_summary(lasting_here(loaded))
    show_summary(summary, lasting_here(loaded))
    if require_approved and not summary.approved:
        raise typer.Exit(3)


@app.command("compile")
def compile_(
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    pipeline: PipelineOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the IR goes; default PIPELINE.yaml.")
    ] = None,
    image: ImageOption = None,
):
    """Compile a pipeline to KFP's IR, for a cluster.

    Example:  alphaloop compile --pipeline training --image registry.example/alphaloop-python:0.8.0 -o my.yaml
    """
    from components.progress import warn
    from pipelines.commands.pipelines_here import default_pipeline
    from pipelines.commands.printed import told_image
    from pipelines.config import load_config
    from pipelines.lasting import lost_by_pods
    from pipelines.runners.ir import compile_pipeline

    settings, named = load_config(config, overrides or []), told_image(image)
    pipeline = pipeline or default_pipeline(settings)
    target = compile_pipeline(pipeline, settings, output or Path(f"{pipeline}.yaml"), image=named)
    for lost in lost_by_pods(settings):
        warn("compile", f"a run would lose, or not find, {lost} `alphaloop submit` refuses this config.")
    typer.echo(f"Compiled {pipeline} to {target}")


@app.command()
def submit(
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    pipeline: PipelineOption = None,
    host: HostOption = None,
    image: ImageOption = None,
    cron: Annotated[str | None, typer.Option(hidden=True)] = None,
):
    """Compile a pipeline, upload it as a version and start it on a Kubeflow Pipelines cluster.

    Again and again by the clock: alphaloop schedules set.

    Example:  alphaloop submit --pipeline retraining --host http://localhost:8888
    """
    from pipelines.commands.pipelines_here import default_pipeline
    from pipelines.commands.printed import told_image
    from pipelines.config import load_config
    from pipelines.runners.cluster import submit_pipeline

    if cron is not None:
        raise typer.BadParameter(
            f"schedules have a command of their own: alphaloop schedules set --pipeline {pipeline} --cron"
            f" {shlex.quote(cron)}",
            param_hint="--cron",
        )
    settings, named = load_config(config, overrides or []), told_image(image)
    pipeline = pipeline or default_pipeline(settings)
    typer.echo(submit_pipeline(pipeline, settings, host=host, image=named))


@app.command()
def materialise(
    config: ConfigOption = DEMO, overrides: SetOption = None, runner: RunnerOption = "subprocess"
):
    """Bring the newest bars to the online store, without training.

    Example:  alphaloop materialise --config pipelines/configs/us_equities.yaml
    """
    from components.lasting.folder import below
    from pipelines.config import load_config
    from pipelines.lasting import lasting_here
    from pipelines.runners.local_run import run_locally

    loaded = load_config(config, overrides or [])
    run_locally("materialisation", loaded, runner=checked_runner(runner))
    same = "".join(f" --set {shlex.quote(one)}" for one in overrides or [])
    typer.echo(
        f"Online store: {below(lasting_here(loaded), 'feature_store')}. Look values up with: alphaloop"
        " lookup SYMBOL --config"
        f" {config}{same}"
    )


@app.command()
def lookup(
    symbols: Annotated[list[str], typer.Argument(help="Symbols, such as AAPL MSFT.")],
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
):
    """Show the newest feature values of some symbols from the online store.

    Example:  alphaloop lookup AAPL MSFT --config pipelines/configs/us_equities.yaml
    """
    from components.feature_store.by_address import online_view
    from components.lasting.folder import below
    from pipelines.commands.lookup import lookup_table
    from pipelines.commands.printed import printer
    from pipelines.config import load_config
    from pipelines.lasting import lasting_here

    loaded = load_config(config, overrides or [])
    with online_view(below(lasting_here(loaded), "feature_store")) as folder:
        printer().print(lookup_table(symbols, loaded.feature_store, folder))


@app.command()
def report(
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    browse: Annotated[bool, typer.Option("--open", help="Open the report in the web browser.")] = False,
):
    """Show what the last run of a config found, and where its report is.

    Example:  alphaloop report --config pipelines/configs/us_equities.yaml --open
    """
    from pipelines.commands.report import read_summary, show_summary
    from pipelines.commands.tick_runs import show_ticks
    from pipelines.config import load_config
    from pipelines.lasting import lasting_here, page_at_hand

    loaded = load_config(config, overrides or [])
    folder = lasting_here(loaded)
    if loaded.ticks is None:
        show_summary(read_summary(folder), folder)
    else:
        show_ticks(loaded)
    if browse:
        typer.launch(page_at_hand(loaded, "report.html").as_uri())


@app.command("settings")
def settings_(
    section: Annotated[
        str | None, typer.Argument(help="A section, such as gates, or one key; default: all sections.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/configuration.md.")] = False,
):
    """Show what can be set: unit, default, what it does, and the code in which it acts.

    Example:  alphaloop settings timeline
    """
    from pipelines.commands.settings import configuration_page, show_settings

    if markdown:
        typer.echo(configuration_page(), nl=False)
    else:
        show_settings(section)


@data_app.command()
def simulate(
    folder: Annotated[
        Path, typer.Argument(help="Folder for panel.parquet, truth.parquet and faults.parquet.")
    ],
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
):
    """Write a simulated market with planted, known alpha.

    Example:  alphaloop data simulate market --set market.planted_ic=0.05 --set market.simulator.symbols=200
    """
    from components.market.simulator import simulate_to_files
    from pipelines.config import load_config

    loaded = load_config(config, overrides or [])
    simulate_to_files(loaded.market, loaded.run.seed, folder)
    typer.echo(f"Wrote a simulated market to {folder}")


@data_app.command()
def check(
    path: Annotated[
        str | None,
        typer.Argument(
            help="CSV or Parquet file, folder or glob, here or in S3; default: market.path of the config."
        ),
    ] = None,
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
):
    """Check a panel of prices as the pipeline would, without running it. Exits with 2 if a run would stop.

    Example:  alphaloop data check prices.csv --set market.columns.timestamp=date --set market.timezone=UTC
    """
    from pipelines.commands.data import check_data

    typer.echo(check_data(path, config, overrides or []))


@data_app.command()
def fetch(config: ConfigOption = DEMO, overrides: SetOption = None):
    """Ask Yahoo, an exchange or Wind for the bars of a config anew, and keep them for the runs to come.

    Example:  alphaloop data fetch --config mine.yaml --set market.source=yahoo --set market.start=2020-01-01
    """
    from pipelines.commands.data import fetch_data

    typer.echo(fetch_data(config, overrides or []))


@data_app.command()
def bars(
    ticks: Annotated[Path, typer.Argument(help="Folder of ticks, a file SYMBOL/SESSION.parquet each.")],
    out: Annotated[Path, typer.Argument(help="Parquet file for the bars.")],
    store: Annotated[str, typer.Option(help="Folder or address at which the ticks are kept.")] = "tick_store",
    minutes: Annotated[bool, typer.Option("--minutes", help="Bars of a minute, not of a second.")] = False,
):
    """Keep ticks in a store, and write bars of what was traded. Ticks that are there already count once.

    Example:  alphaloop data bars ticks bars.parquet --minutes
    """
    from pipelines.commands.tick_bars import write_bars

    typer.echo(write_bars(ticks, out, store, minutes=minutes))


app.add_typer(cli_factors.app)
app.add_typer(cli_models.app)


def _end_in_order(number: int, _frame: object) -> None:
    """End as from the keyboard: what was started ends first, and what was only meant for now is removed."""
    sys.exit(128 + number)


def main() -> None:
    """Run the command line; problems that the user can mend are printed without a traceback."""
    for number in ending_signals():
        if number != signal.SIGINT:  # from the keyboard comes KeyboardInterrupt
            signal.signal(number, _end_in_order)
    try:
        app(standalone_mode=True)
    except SystemExit as stop:
        if stop.code in STOPPED:
            typer.echo("Stopped. The next run goes on from the last finished stage.", err=True)
        raise
    except Exception as error:
        # The contracts bring Polars along, for which help would have to wait.
        from components.contracts.errors import AlphaloopError

        if not isinstance(error, AlphaloopError):
            raise
        typer.secho(error.title, fg="red", bold=True, err=True)
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
