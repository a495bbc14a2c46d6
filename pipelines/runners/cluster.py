"""Hands pipelines to a Kubeflow Pipelines cluster: runs, and runs on a schedule."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.config import Config
from pipelines.runners.ir import ClusterError, compile_pipeline

TOKEN_VARIABLE = "ALPHALOOP_KFP_TOKEN"
# Fields of a schedule as Kubeflow Pipelines reads it: name, lowest and highest value, names for the values.
CRON_FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")),
    ("day of week", 0, 6, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
)


def submit_pipeline(
    name: str, config: Config, *, host: str | None = None, image: str | None = None, cron: str | None = None
) -> str:
    """Compile `name` and start a run of it, or with `cron` set up a recurring run; returns what to tell the
    user: its id and address.

    A recurring run never overlaps with itself, and runs that were missed are not made up for.

    Parameters
    ----------
    cron : minute, hour, day of month, month, day of week; or six fields with the second in front, as Kubeflow
        Pipelines writes them

    Raises
    ------
    ClusterError
        If the schedule is no such expression, no host is known, or the server refuses or does not answer.
    """
    schedule = cron_schedule(cron) if cron is not None else None
    if schedule and not config.cluster.volume_claim:
        raise ClusterError(
            "A recurring run needs cluster.volume_claim: without a volume each run would see the market data"
            " as of now, and registry and audit trail would not last."
        )
    address = host or config.cluster.host
    if not address:
        raise ClusterError("No cluster is known. Give --host http://..., or set cluster.host in the config.")
    with tempfile.TemporaryDirectory() as scratch:
        package = compile_pipeline(name, config, Path(scratch) / f"{name}.yaml", image=image)
        with _explained(address, name):
            if schedule:
                return _recur(name, config, address, package, schedule)
            return _start(name, config, address, package)


def _start(name: str, config: Config, address: str, package: Path) -> str:
    """Start one run of a compiled pipeline."""
    client, experiment = _experiment(config, address)
    run = client.create_run_from_pipeline_package(
        str(package), run_name=f"{config.run.name} {name}", experiment_id=experiment, enable_caching=None
    )
    return f"Started {name} as run {run.run_id}: {address}/#/runs/details/{run.run_id}"


def _recur(name: str, config: Config, address: str, package: Path, schedule: str) -> str:
    """Have the cluster run a compiled pipeline again and again."""
    client, experiment = _experiment(config, address)
    run = client.create_recurring_run(
        experiment,
        f"{config.run.name} {name}",
        cron_expression=schedule,
        max_concurrency=1,
        no_catchup=True,
        pipeline_package_path=str(package),
        enable_caching=None,
    )
    return (
        f"{name} recurs at {schedule!r} (second, minute, hour, day of month, month, day of week; UTC unless"
        f" the cluster says otherwise) as {run.recurring_run_id}:"
        f" {address}/#/recurringrun/details/{run.recurring_run_id}"
    )


def _experiment(config: Config, address: str) -> tuple[Any, str]:
    """kfp's client at an address, and the id of the experiment under which runs are listed there."""
    from kfp import Client

    client = Client(host=address, existing_token=os.environ.get(TOKEN_VARIABLE))
    return client, client.create_experiment(config.cluster.experiment).experiment_id


@contextmanager
def _explained(address: str, name: str) -> Iterator[None]:
    """Turn what a server, or a silent address, makes kfp's client raise into words for the user."""
    import urllib3
    from kfp_server_api import ApiException

    try:
        yield
    except ApiException as error:
        raise ClusterError(
            f"{address} refused the {name} pipeline: {error.status} {error.reason}. {_short(error.body)}"
            f" A token is read from {TOKEN_VARIABLE}."
        ) from error
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise ClusterError(
            f"{address} does not answer as a Kubeflow Pipelines API: {_short(str(error))} Check the address,"
            " or forward the port."
        ) from error


def cron_schedule(text: str) -> str:
    """A schedule in the six fields of Kubeflow Pipelines: five are taken to begin with the minute, so second
    0 is put in front.

    Raises
    ------
    ClusterError
        If the number of fields is another, or a field is out of its range; the message names the field.
    """
    fields = text.split()
    fields = ["0", *fields] if len(fields) == 5 else fields
    example = (
        "Write minute, hour, day of month, month and day of week, for example '0 6 * * 1-5' for six o'clock"
        " UTC on weekdays."
    )
    if len(fields) != len(CRON_FIELDS):
        raise ClusterError(f"--cron {text!r} has {len(text.split())} fields, 5 are wanted. {example}")
    for field, (name, low, high, names) in zip(fields, CRON_FIELDS, strict=True):
        if not all(_cron_part_fits(part, low, high, names) for part in field.split(",")):
            raise ClusterError(
                f"--cron {text!r}: {field!r} is no {name} ({low} to {high}, *, a range such as {low}-{high},"
                f" steps such as */5, or a list). {example}"
            )
    return " ".join(fields)


def _cron_part_fits(part: str, low: int, high: int, names: tuple[str, ...]) -> bool:
    """Whether one part of a list is *, ?, a value or a range within the limits, with or without a step."""
    span, _, step = part.partition("/")
    if "/" in part and not (step.isascii() and step.isdigit() and int(step) > 0):
        return False
    if span in ("*", "?"):
        return span == "*" or (low, high) in ((1, 31), (0, 6))
    numbers = [
        str(names.index(end.upper()) + low) if end.upper() in names else end for end in span.split("-")
    ]
    if not 1 <= len(numbers) <= 2 or not all(end.isascii() and end.isdigit() for end in numbers):
        return False
    first, last = int(numbers[0]), int(numbers[-1])
    return low <= first <= last <= high


def _short(text: str | None, limit: int = 300) -> str:
    text = " ".join((text or "").split())
    return f"{text[:limit]}…" if len(text) > limit else text
