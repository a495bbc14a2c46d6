"""How loops are compiled by Numba: kept on disk between processes, where there is a folder for that."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """Numba's `njit` with these options, compiled once a machine, or once a process where no folder for
    compiled code can be written: a task may run as a user without a home, from a package that is not its own.
    """

    def kept(function: Callable) -> Callable:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:
            return njit(**options)(function)

    return kept
