"""Memory that is free and still held: handed back to the system between pieces of work, so that a piece holds
as much after a hundred others as alone.
"""

import ctypes


def give_back() -> None:
    """Have the C library give back what was freed. It keeps much of what arrays of NumPy had, in an arena for
    each thread; Polars' own allocator gives back by itself. Nothing is done where there is no such call
    (outside of glibc).
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)
