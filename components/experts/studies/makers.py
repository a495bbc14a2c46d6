"""Who makes a try: a process of this machine or another one, which may die at it. Its try is then made again
by whoever comes first, so that a study ends with exactly the tries that were asked for.

Optuna's own heartbeat calls a try dead by the server's clock alone: after the server was away, all that were
at work would be. Here a process takes a try for dead once it has itself seen no beat for long, or, on its own
machine, that the process is gone.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from components.experts.studies.database import database_errors

BEAT_S = 15
# Eight beats: what holds a process up for so long, such as compiling, is rarer than a machine that died.
SILENT_S = 120
# A try that its process died at so often counts as failed: it would end every other process too.
MOST_DEATHS = 3


def this_process() -> dict[str, Any]:
    """This process, so that another can tell whether it is still there."""
    import psutil

    return {"machine": machine(), "pid": os.getpid(), "began": _began(psutil.Process())}


def machine() -> str:
    """What only processes that can see each other have in common: containers may share all but the last.

    Elsewhere than on Linux name and network card's address: where that can't be told each process is taken
    for a machine of its own, whose silence is waited for.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode()}"


def _began(process: Any) -> float:
    """When a process began, the same for whoever asks: in ticks since the machine's start where it tells, for
    the time of day moves when the clock is set.
    """
    try:
        # Behind the name, which may hold anything; the 22nd field of all.
        return float(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return process.create_time()


class Watch:
    """Which tries of other machines are silent, as far as one process has seen it."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[Any, float]] = {}

    def forget(self) -> None:
        """Begin anew, where no beat could be seen for a while."""
        self._heard = {}

    def at_work(self, trial: Any) -> bool:
        """Whether a try that nobody has ended is being made, for all one can see from here."""
        maker, now = trial.user_attrs.get("maker"), time.monotonic()
        if maker is None:
            # Named last when a try is drawn, under the lock that whoever asks holds too.
            return False
        if maker["machine"] == machine():
            return _lives(maker)
        beat = trial.user_attrs.get("beat")
        heard, since = self._heard.get(trial.number, (None, now))
        if heard != beat or trial.number not in self._heard:
            self._heard[trial.number] = (beat, now)
            return True
        return now - since < SILENT_S


def _lives(maker: dict[str, Any]) -> bool:
    import psutil

    try:
        process = psutil.Process(maker["pid"])
        # Asked between two tries: what this process has not ended, it left.
        return (
            maker["pid"] != os.getpid()
            and _began(process) == maker["began"]
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


def take_over(study: Any, watch: Watch) -> None:
    """Fail the tries whose processes died, and enqueue again what was stopped. Under the study's lock."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.RUNNING and not watch.at_work(trial):
            with suppress(UpdateFinishedTrialError):
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get("again_for") for trial in trials}
    for trial in trials:
        if _was_stopped(trial) and trial.number not in again:
            study.enqueue_trial(_settings(trial), user_attrs=_handed_on(trial))


def failure(trial: Any) -> str:
    """Why a try failed for good; empty where it did not, or was only stopped."""
    told = trial.user_attrs.get("reason", "")
    if not told and trial.state.name == "FAIL" and _deaths(trial) >= MOST_DEATHS:
        return f"its process died at it {MOST_DEATHS} times, for want of memory perhaps"
    return told


def _was_stopped(trial: Any) -> bool:
    """Whether a try is to be made again: one that was only half drawn will be drawn anew, unless it had its
    settings from elsewhere.
    """
    begun = "maker" in trial.user_attrs or "fixed_params" in trial.system_attrs
    return trial.state.name == "FAIL" and begun and not failure(trial)


def _deaths(trial: Any) -> int:
    about = trial.user_attrs
    return about.get("deaths", 0) + ("maker" in about and "interrupted" not in about)


def _settings(trial: Any) -> dict[str, Any]:
    """All settings of a try, those too that it was to have and did not get before it was stopped."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _handed_on(trial: Any) -> dict[str, Any]:
    kept = {name: value for name, value in trial.user_attrs.items() if name in ("own", "work")}
    if trial.user_attrs.get("maker", {}).get("machine") != machine():
        # Should it live after all, it still writes there, where machines share the folder.
        kept.pop("work", None)
    return {**kept, "again_for": trial.number, "deaths": _deaths(trial)}


@contextmanager
def beating(trial: Any, watch: Watch) -> Iterator[None]:
    """Show other machines that the try is being made."""
    ended = threading.Event()

    def beat() -> None:
        from optuna.exceptions import UpdateFinishedTrialError

        number = 0
        while not ended.wait(BEAT_S):
            number += 1
            try:
                trial.set_user_attr("beat", number)
            except UpdateFinishedTrialError:
                # Another took it over, which is told when this one ends.
                return
            except database_errors():
                watch.forget()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
