"""Commands around order books. Part of `pipelines.commands.cli`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import ConfigOption, SetOption

ticks_app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Record order books as they are traded, and ask a registered model about recorded ones.\n\nExample: "
        " alphaloop ticks collect recorded --symbol BTCUSDT --symbol ETHUSDT"
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


@ticks_app.command()
def collect(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the recording; one that is there is gone on with.")
    ],
    symbols: Annotated[
        list[str], typer.Option("--symbol", help="Symbol as the exchange names it; once for each.")
    ],
    streams: Annotated[
        str, typer.Option(help="Address of the streams, without a path.")
    ] = "wss://fstream.binance.com",
    answers: Annotated[
        str | None,
        typer.Option(
            help="Address of whole books and steps of prices; that of the streams with http, where left out."
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="End after so many; Ctrl-C ends it in order, too.")
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0.1, help="Seconds of silence after which it gives up.")
    ] = 60.0,
):
    """Record depth, best bid and ask, and trades of an exchange, as they arrive.

    Nothing that arrived is dropped: a slow disk is waited for, a lost connection made again, a lost change of
    depth answered by a whole book. Learn from what was recorded with ticks.source=recorded.

    Example:  alphaloop ticks collect data/recorded --symbol BTCUSDT --seconds 3600
    """
    from pipelines.commands.tick_live import record

    typer.echo(record(folder, symbols, streams, answers, seconds, patience))


@ticks_app.command()
def exchange(
    ticks: Annotated[
        Path, typer.Argument(help="Folder of ticks, a file SYMBOL/SESSION.parquet each.", exists=False)
    ],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0: any that is free.")] = 0,
    speed: Annotated[
        float,
        typer.Option(min=0, help="How many times as fast as recorded; 0: as fast as listeners take it."),
    ] = 1.0,
    lose_every: Annotated[
        int, typer.Option("--lose-every", min=0, help="Lose each so many-th change of depth; 0: none.")
    ] = 0,
):
    """Play ticks as an exchange would, on this machine, to try out what listens to one.

    It begins with the first listener and ends when all was sent and they have left.

    Example:  alphaloop ticks exchange runs/ticks_demo/ticks --port 9443 --speed 10
    """
    from pipelines.commands.tick_live import play

    play(ticks, port, speed, lose_every, say=typer.echo)
