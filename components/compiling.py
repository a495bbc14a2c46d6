"""How loops are compiled by Numba: kept on disk between processes, where there is a folder for that."""

import os
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.dispatcher import Dispatcher

# By the file of a loop: that of each loop which it may call, and theirs.
_REACHED: dict[str, set[str]] = {}


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """Numba's `njit` with these options, compiled once a machine, or once a process where no folder for
    compiled code can be written: a task may run as a user without a home, from a package that is not its own.

    It is compiled anew where its file changed, one with a loop that it calls, or a constant of another file.
    """

    def kept(function: Callable) -> Callable:
        try:
            loop = njit(cache=True, **options)(function)
        except RuntimeError:
            return njit(**options)(function)
        index = loop._cache._cache_file
        index._source_stamp = (index._source_stamp, *_depends_on(function))
        return loop

    return kept


def _depends_on(function: Callable) -> tuple[tuple, tuple]:
    """What a loop was made of beside its own file, of which alone Numba takes notice: time and size of the
    files with loops that it may call, and the constants that it may use.
    """
    own = function.__code__.co_filename
    reached = _REACHED.setdefault(own, set())
    for value in function.__globals__.values():
        if isinstance(value, Dispatcher):
            file = value.py_func.__code__.co_filename
            reached |= {file, *_REACHED.get(file, ())}
    found = [os.stat(file) for file in reached - {own} if os.path.exists(file)]
    constants = [
        (name, value)
        for name, value in function.__globals__.items()
        if name.isupper() and isinstance(value, int | float | str | tuple)
    ]
    return tuple(sorted((one.st_mtime_ns, one.st_size) for one in found)), tuple(sorted(constants, key=repr))
