"""Commands around the schedules of a cluster: list, set and remove them. Part of `pipelines.commands.cli`."""

from typing import Annotated

import typer

from pipelines.commands.options import DEMO, ConfigOption, HostOption, ImageOption, PipelineOption, SetOption

schedules_app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Pipelines that a Kubeflow Pipelines cluster runs again and again.\n\nExample:  alphaloop schedules"
        " set --pipeline retraining --cron '0 6 * * 1-5'"
    ),
)


@schedules_app.command("list")
def list_(config: ConfigOption = DEMO, overrides: SetOption = None, host: HostOption = None):
    """Show the schedules of cluster.experiment, and what their newest runs do.

    Example:  alphaloop schedules list --host http://localhost:8888
    """
    from pipelines.commands.printed import printer
    from pipelines.commands.schedules import schedules_table
    from pipelines.config import load_config

    printer().print(schedules_table(load_config(config, overrides or []), host))


@schedules_app.command("set")
def set_(
    cron: Annotated[
        str, typer.Option(help="Minute, hour, day, month and weekday in UTC, such as '0 6 * * 1-5'.")
    ],
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    pipeline: PipelineOption = "retraining",
    host: HostOption = None,
    image: ImageOption = None,
):
    """Have a cluster run a pipeline again and again, in place of the schedule that it had.

    Example:  alphaloop schedules set --pipeline retraining --cron "0 6 * * 1-5" --host http://localhost:8888
    """
    from pipelines.commands.printed import told_image
    from pipelines.config import load_config
    from pipelines.runners.schedules import set_schedule

    loaded = load_config(config, overrides or [])
    typer.echo(set_schedule(pipeline, loaded, cron, host=host, image=told_image(image)))


@schedules_app.command()
def remove(
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    pipeline: PipelineOption = "retraining",
    host: HostOption = None,
):
    """Have a cluster run a pipeline no more by schedule; a run that has begun goes on.

    Example:  alphaloop schedules remove --pipeline retraining --host http://localhost:8888
    """
    from pipelines.config import load_config
    from pipelines.runners.schedules import remove_schedule

    typer.echo(remove_schedule(pipeline, load_config(config, overrides or []), host=host))
