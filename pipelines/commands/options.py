"""Options that most commands of the command line share."""

from pathlib import Path
from typing import Annotated

import typer

CONFIGS = Path(__file__).parent.parent / "configs"
DEMO = CONFIGS / "demo.yaml"

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="YAML of the run; see pipelines/configs.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override one setting: section.key=value. May be repeated.")
]
PipelineOption = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        help=(
            "training, materialisation, retraining, drift, replay, selection or mining; ticks of a config on"
            " order books."
        ),
    ),
]
HostOption = Annotated[
    str | None,
    typer.Option(
        help="Kubeflow Pipelines API; default cluster.host. A token is read from ALPHALOOP_KFP_TOKEN, cookies"
        " from ALPHALOOP_KFP_COOKIES."
    ),
]
ImageOption = Annotated[str | None, typer.Option(help="Container image of all tasks.")]
UrlOption = Annotated[
    str,
    typer.Option(help="Address of the service. The key, where it wants one, is read from ALPHALOOP_API_KEY."),
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept with who and when.")]
WhoOption = Annotated[
    str | None, typer.Option(help="Who decides; default: ALPHALOOP_USER, then the login name.")
]
RUNNERS = ("subprocess", "docker", "pods")
RunnerOption = Annotated[
    str,
    typer.Option(
        "--runner",
        help=(
            "subprocess; docker to run each task in the cluster's image; or pods, where each task sees its"
            " inputs and what its IR declares, as on a cluster."
        ),
    ),
]
SERVICE = "http://127.0.0.1:3000"


def checked_runner(runner: str) -> str:
    """The runner, if there is one of that name."""
    if runner not in RUNNERS:
        known = f"{', '.join(RUNNERS[:-1])} or {RUNNERS[-1]}"
        raise typer.BadParameter(f"{runner!r} is none of {known}", param_hint="--runner")
    return runner
