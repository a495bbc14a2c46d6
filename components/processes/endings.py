"""How processes end: with their parent, in order, or at once with all that they started.

The kernel tells a child of its parent's death on Linux only; elsewhere a lock keeps a second one out.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from typing import Any

# Where an operating system has no signal that can't be refused (Windows), ending is at once anyway.
KILL: signal.Signals = getattr(signal, "SIGKILL", signal.SIGTERM)
_LINUX = sys.platform == "linux"
_GROUPS = hasattr(os, "killpg")
_PARENT_DEATH_SIGNAL, _CHILD_SUBREAPER = 1, 36


def end_with_parent() -> threading.Event:
    """Have SIGTERM, SIGINT and SIGHUP, and on Linux the parent's death, set the returned event instead of
    ending this process at once.
    """
    stop = threading.Event()
    for number in ending_signals():
        signal.signal(number, lambda *_: stop.set())
    die_with_parent(signal.SIGTERM)
    return stop


def ending_signals() -> tuple[int, ...]:
    """The signals that ask a process to end in order: SIGTERM, SIGINT, and SIGHUP, which a closed terminal
    sends, unless it is ignored (nohup).
    """
    hangup = getattr(signal, "SIGHUP", None)
    heard = hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGINT, *([hangup] if heard else []))


def die_with_parent(number: int) -> None:
    """Have the kernel send this process `number` when its parent dies, kill -9 included (Linux only).

    Survives exec.
    """
    if _LINUX:
        _prctl(_PARENT_DEATH_SIGNAL, number)


def end_group_with_parent(parent: int) -> None:
    """End this process and all of its group when it is told to end, or when `parent`, the process that
    started it, is killed: at once where that came before this call, of which the kernel does not tell.

    For the leader of a group of its own, whose tasks must not outlive it.
    """
    if _GROUPS:
        signal.signal(signal.SIGTERM, lambda *_: os.killpg(os.getpgrp(), KILL))
    die_with_parent(signal.SIGTERM)
    if _GROUPS and os.getppid() != parent:
        os.killpg(os.getpgrp(), KILL)


def end_with_spawner() -> None:
    """End this process, which `multiprocessing` started, when the one that started it ends, whatever way."""
    threading.Thread(target=_leave_after_spawner, daemon=True).start()


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent, a child of ours, is killed (Linux only)."""
    if _LINUX:
        _prctl(_CHILD_SUBREAPER, 1)


def leader_of_a_group(*, ends_by: int | None = None) -> dict[str, Any]:
    """Arguments of `subprocess.Popen` for a child that leads a group of its own: an interrupt at the terminal
    does not reach it, and `signal_group` reaches all that it starts.

    `ends_by`: the signal that it gets when we die. Only for a parent that has no other threads.
    """
    if not _GROUPS:
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    ending = {} if ends_by is None or not _LINUX else {"preexec_fn": partial(die_with_parent, ends_by)}
    return {"start_new_session": True, **ending}


def keeping_open(descriptor: int) -> dict[str, Any]:
    """Arguments of `subprocess.Popen` for a child that keeps this descriptor open, and with it the lock; on
    Windows a child can't.
    """
    return {"pass_fds": [descriptor]} if os.name == "posix" else {}


def signal_group(process: subprocess.Popen, number: int) -> None:
    """Signal a child and all of its group; just the child where there are no groups."""
    with contextlib.suppress(ProcessLookupError):
        if _GROUPS:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def _leave_after_spawner() -> None:
    spawner = multiprocessing.parent_process()
    if spawner is not None:
        spawner.join()
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value)
