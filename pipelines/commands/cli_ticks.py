"""Commands around order books. Part of `pipelines.commands.cli`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import ConfigOption, SetOption

ticks_app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Ask a registered model of order books.\n\nExample:  alphaloop ticks predict recorded/ticks"
        " forecasts.parquet --config pipelines/configs/ticks_demo.yaml"
    ),
)


@ticks_app.command()
def predict(
    ticks: Annotated[
        Path, typer.Argument(help="Folder of validated ticks, a file SYMBOL/SESSION.parquet each.")
    ],
    out: Annotated[Path, typer.Argument(help="Parquet file for the forecasts.")],
    config: ConfigOption = Path("pipelines/configs/ticks_demo.yaml"),
    overrides: SetOption = None,
    version: Annotated[
        int | None, typer.Option("--version", help="Version in the registry; the champion where left out.")
    ] = None,
):
    """What a registered model says of each sample of recorded ticks, asked as a live market would ask it.

    Nothing but the model's bundle and the ticks is read. `known_time` is when the newest message in a sample
    had come.

    Example:  alphaloop ticks predict recorded/ticks forecasts.parquet --version 2
    """
    from pipelines.commands.tick_predictions import predict_ticks
    from pipelines.config import load_config

    typer.echo(predict_ticks(load_config(config, overrides or []), ticks, out, version))
