"""Commands around a registered model: serve it, ask it, change it, look for drift, watch and review.

Part of `pipelines.commands.cli`.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import (
    DEMO,
    SERVICE,
    ConfigOption,
    ReasonOption,
    RunnerOption,
    SetOption,
    UrlOption,
    WhoOption,
    checked_runner,
)

app = typer.Typer()
review_app = typer.Typer(
    invoke_without_command=True,
    help=(
        "Show the decisions on retraining, or overrule them: hold, force, approve.\n\nExample:  alphaloop"
        " review hold --reason 'earnings week'"
    ),
)
app.add_typer(review_app, name="review")

DRIFTED = 3


@app.command()
def serve(
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; default serving.host. Anything but loopback needs ALPHALOOP_API_KEY."
        ),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default serving.port.")] = None,
    keyless: Annotated[
        bool,
        typer.Option(
            "--keyless", help="Answer programs on this machine without an API key, as serving.keyless does."
        ),
    ] = False,
):
    """Serve the run's champion over HTTP until Ctrl-C; a new champion is taken over without a restart.

    Example:  alphaloop serve --config pipelines/configs/us_equities.yaml --port 3000
    """
    from pipelines.commands.serve import serving_plan
    from pipelines.config import load_config
    from serving.processes.launch import serve as launch

    given = [
        f"serving.{name}={value}"
        for name, value in (("host", host), ("port", port), ("keyless", keyless or None))
        if value is not None
    ]
    launch(serving_plan(load_config(config, [*(overrides or []), *given])), say=typer.echo)


@app.command()
def predict(
    symbols: Annotated[list[str], typer.Argument(help="Symbols, such as AAPL MSFT.")],
    url: UrlOption = SERVICE,
    prices: Annotated[
        bool, typer.Option("--prices", help="Also what a log return means as a plain return and a price.")
    ] = False,
):
    """Ask a running service for the signals of some symbols.

    Example:  alphaloop predict AAPL MSFT --url http://127.0.0.1:3000
    """
    from pipelines.commands.predict import predict_tables
    from pipelines.commands.printed import printer

    for table in predict_tables(symbols, url, prices=prices):
        printer().print(table)


@app.command()
def replay(
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    first: Annotated[
        str | None, typer.Option("--from", help="First day, such as 2025-01-02; default: the store's first.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day; default: the store's newest.")] = None,
    url: UrlOption = SERVICE,
):
    """Send the feature store's history through a running service, bar by bar: fills the answer log, or loads
    the service.

    Example:  alphaloop replay --from 2025-01-02 --to 2025-03-31
    """
    from pipelines.commands.serve import replay_store
    from pipelines.config import load_config

    typer.echo(replay_store(load_config(config, overrides or []), url, first, last))


@app.command()
def promote(
    version: Annotated[int, typer.Argument(help="Version of the registered model.")],
    reason: ReasonOption,
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    who: WhoOption = None,
):
    """Make a registered version champion, whatever the gates' comparison said.

    Example:  alphaloop promote 3 --reason "checked by hand against the desk's numbers"
    """
    from pipelines.commands.champions import promote_version
    from pipelines.config import load_config

    typer.echo(promote_version(load_config(config, overrides or []), version, reason, who))


@app.command()
def rollback(
    reason: ReasonOption, config: ConfigOption = DEMO, overrides: SetOption = None, who: WhoOption = None
):
    """Put the champion before the present one back in its place.

    Example:  alphaloop rollback --reason "positions jump since the swap"
    """
    from pipelines.commands.champions import rollback_version
    from pipelines.config import load_config

    typer.echo(rollback_version(load_config(config, overrides or []), reason, who))


@app.command()
def champions(config: ConfigOption = DEMO, overrides: SetOption = None):
    """Show which version was champion when, and who made it so and why.

    Example:  alphaloop champions --config pipelines/configs/us_equities.yaml
    """
    from pipelines.commands.champions import champions_table
    from pipelines.commands.printed import printer
    from pipelines.config import load_config

    printer().print(champions_table(load_config(config, overrides or [])))


@app.command()
def trials(config: ConfigOption = DEMO, overrides: SetOption = None):
    """Show every model that was tried on the newest test window, and which of them are better than luck.

    Example:  alphaloop trials --config pipelines/configs/us_equities.yaml
    """
    from pipelines.commands.printed import printer
    from pipelines.commands.trials import trials_table
    from pipelines.config import load_config

    printer().print(trials_table(load_config(config, overrides or [])))


@app.command()
def drift(
    current: Annotated[
        Path | None,
        typer.Option(
            "--current",
            help="Table of what is to be compared, Parquet or CSV; default: what the service answered.",
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Reference folder of a model bundle; default: the champion's.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for drift.json and the report's pages.")
    ] = Path("drift"),
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
):
    """Compare a table with what the champion learned from, and write a report. Exits with 3 if it drifted.

    Example:  alphaloop drift --current newest.parquet --output drift
    """
    from pipelines.commands.drift import check_drift
    from pipelines.commands.printed import printer
    from pipelines.config import load_config

    shown, drifted = check_drift(
        load_config(config, overrides or []), current, reference=reference, output=output
    )
    printer().print(shown)
    if drifted:
        raise typer.Exit(DRIFTED)


@app.command()
def watch(
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    every: Annotated[
        str | None, typer.Option(help="Time between checks, such as 30m or 1d; default retraining.every.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Check once and end.")] = False,
    runner: RunnerOption = "subprocess",
):
    """Look for drift on a schedule and retrain where the rules say so, until Ctrl-C.

    Example:  alphaloop watch --config pipelines/configs/us_equities.yaml --every 1d
    """
    from pipelines.commands.watch import watch as keep_watch
    from pipelines.config import load_config

    keep_watch(load_config(config, overrides or []), once=once, every=every, runner=checked_runner(runner))


@review_app.callback()
def review(
    context: typer.Context,
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    browse: Annotated[bool, typer.Option("--open", help="Open the review page in the web browser.")] = False,
):
    """Show the newest decisions and write the review page anew."""
    if context.invoked_subcommand:
        return
    from pipelines.commands.printed import printer
    from pipelines.commands.review import show_review
    from pipelines.config import load_config
    from pipelines.lasting import page_at_hand

    loaded = load_config(config, overrides or [])
    shown, page = show_review(loaded)
    printer().print(shown)
    typer.echo(f"Review page: {page}")
    if browse:
        typer.launch(page_at_hand(loaded, "review/index.html").as_uri())


@review_app.command()
def hold(
    reason: ReasonOption, config: ConfigOption = DEMO, overrides: SetOption = None, who: WhoOption = None
):
    """Let no retraining start until someone says approve or force.

    Example:  alphaloop review hold --reason "data vendor is being changed"
    """
    _say("hold", reason, config, overrides, who)


@review_app.command()
def force(
    reason: ReasonOption, config: ConfigOption = DEMO, overrides: SetOption = None, who: WhoOption = None
):
    """Let the next check retrain, whatever the drift says.

    Example:  alphaloop review force --reason "new factor group"
    """
    _say("force", reason, config, overrides, who)


@review_app.command()
def approve(
    reason: ReasonOption, config: ConfigOption = DEMO, overrides: SetOption = None, who: WhoOption = None
):
    """Lift a hold, and let a retraining that waits for approval go ahead.

    Example:  alphaloop review approve --reason "drift is real, see report"
    """
    _say("approve", reason, config, overrides, who)


def _say(word: str, reason: str, config: Path, overrides: list[str] | None, who: str | None) -> None:
    from pipelines.commands.review import say_word
    from pipelines.config import load_config

    typer.echo(say_word(load_config(config, overrides or []), word, reason, who=who))
