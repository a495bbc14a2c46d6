"""Locks on files: what only one process may do at a time, released by the kernel however the holder ends.

A lock belongs to an open file. Where a child inherits the descriptor, the lock is held until both have closed
it: that is how a run's folder stays locked as long as any part of the run lives.
"""

import os
from pathlib import Path
from typing import TextIO

from filelock import lock_descriptor

from components.contracts.errors import AlphaloopError

WAIT_STEP_S = 0.02
# Windows would turn line ends into two bytes.
BINARY = getattr(os, "O_BINARY", 0)


class LockHeld(AlphaloopError):
    """Another process holds the lock."""


def take_lock(path: Path, *, wait: bool = False) -> TextIO:
    """The lock file, open and locked until it is closed. With `wait`, until another lets go of it.

    Raises
    ------
    LockHeld
        If another process holds it, unless told to wait.
    OSError
        If the file can't be opened.
    """
    handle = Path(path).open("w")  # noqa: SIM115 (the caller closes it)
    try:
        if not lock_descriptor(handle.fileno(), blocking=wait, poll_interval=WAIT_STEP_S):
            raise LockHeld(f"Another process holds {path}. Wait for it to end.")
    except BaseException:
        handle.close()
        raise
    return handle


def lock_if_free(descriptor: int) -> bool:
    """Lock an open file until the descriptor is closed; False where another holds it."""
    return lock_descriptor(descriptor, blocking=False)
