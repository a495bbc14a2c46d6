"""What each process that `alphaloop serve` starts does first: it ends when its parent does, and ends in order
when it is told to.
"""

import signal
import sys
import threading


def end_with_parent() -> threading.Event:
    """Have SIGTERM and SIGINT, and on Linux the parent's death, set the returned event instead of ending this
    process at once.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    die_with_parent(signal.SIGTERM)
    return stop


def die_with_parent(number: int) -> None:
    """Have the kernel send this process `number` when its parent dies, kill -9 included (Linux only).

    Survives exec.
    """
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, number)
