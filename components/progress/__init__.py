"""How a stage tells the terminal what it does: events, one JSON line each, that the command line shows as
they come.

Where ALPHALOOP_EVENTS names no file (a notebook, a cluster) the same lines go to standard error as plain
text. On a cluster a task also leaves how its stage began and ended as a note in the run's lasting place
(`components.progress.notes`).
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from components.contracts.errors import AlphaloopError
from components.credentials import find_credential, without_secrets
from components.memory.deaths import out_of_memory, peak_here, ran_out
from components.processes.sources import require_compiled_code
from components.progress.notes import keep_note

EVENTS_VARIABLE = "ALPHALOOP_EVENTS"
Item = TypeVar("Item")
# What each kind of event says beside its time and stage.
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "started": {},
    "said": {"message": str},
    "warned": {"message": str},
    "advanced": {"done": (int, float), "total": (int, float), "what": str},
    "finished": {"seconds": (int, float)},
    "failed": {"message": str, "seconds": (int, float)},
}


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Report the start, the end and the length of a stage; a failure is reported with its message and raised
    on.

    Every task comes through here before it does anything: so here it is refused where its image holds other
    code than its pipeline was compiled with.
    """
    start = time.monotonic()
    _emit({"event": "started", "stage": name})
    try:
        require_compiled_code()
        yield
    except BaseException as error:
        mendable, message = isinstance(error, AlphaloopError), str(error)
        if not mendable and ran_out(error):
            mendable, message = True, out_of_memory(name, peak_here())
        elif not mendable:
            message = f"{type(error).__name__}: {error}"
        _emit(
            {
                "event": "failed",
                "stage": name,
                "message": message,
                "mendable": mendable,
                "seconds": time.monotonic() - start,
            }
        )
        if isinstance(error, Exception) and (readable := _readable(error)):
            raise readable from None
        raise
    _emit({"event": "finished", "stage": name, "seconds": time.monotonic() - start})


def _readable(error: Exception) -> Exception | None:
    """What to raise in the place of an error that quotes a password or key, or whose causes do: one with
    stars, its trace likewise in the log, which more people read than may know such things. None for others.
    """
    trace = "".join(traceback.format_exception(error))
    if find_credential(trace) is None:
        return None
    print(without_secrets(trace), file=sys.stderr, flush=True)
    if isinstance(error, AlphaloopError):
        return AlphaloopError(without_secrets(str(error)))
    return RuntimeError(without_secrets(f"{type(error).__name__}: {error}"))


def is_event(found: object) -> bool:
    """Whether something that was read is an event as a stage says it."""
    if not isinstance(found, dict) or not isinstance(found.get("stage"), str):
        return False
    fields = FIELDS.get(str(found.get("event")))
    return fields is not None and all(isinstance(found.get(name), kind) for name, kind in fields.items())


def report(stage_name: str, message: str) -> None:
    """Say in one line what a stage found or made, for example `1,297,871 rows, 503 symbols`."""
    _emit({"event": "said", "stage": stage_name, "message": message})


def warn(stage_name: str, message: str) -> None:
    """Say loudly what a person should know though the run goes on, such as an expert that was left out."""
    _emit({"event": "warned", "stage": stage_name, "message": message})


def advance(stage_name: str, done: float, total: float, what: str = "") -> None:
    """Report that `done` of `total` steps are behind us; `what` names the present one (a fold, an epoch and
    its loss).
    """
    _emit({"event": "advanced", "stage": stage_name, "done": done, "total": total, "what": what})


def pass_on(event: Mapping[str, Any]) -> None:
    """Say again what a part of this task said in another process."""
    _emit({name: value for name, value in event.items() if name != "time"})


def track(
    stage_name: str, items: Iterable[Item], *, total: int | None = None, what: str = ""
) -> Iterator[Item]:
    """Iterate over `items` and report progress after each."""
    items = items if total is not None else list(items)
    total = total if total is not None else len(items)
    for done, item in enumerate(items, start=1):
        yield item
        advance(stage_name, done, total, what)


def expect(stage_name: str, reached: str) -> None:
    """Say that this run is not whole before it has finished the stage `reached` too."""
    keep_note({"time": time.time(), "event": "expected", "stage": stage_name, "reached": reached})


def _emit(event: dict[str, Any]) -> None:
    if "message" in event:
        event = {**event, "message": without_secrets(event["message"])}
    timed = {"time": time.time(), **event}
    keep_note(timed)
    path = os.environ.get(EVENTS_VARIABLE)
    if path:
        with open(path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(timed) + "\n")
    elif event["event"] != "advanced":
        text = event.get("message") or event["event"]
        print(f"[{event['stage']}] {text}", file=sys.stderr, flush=True)
