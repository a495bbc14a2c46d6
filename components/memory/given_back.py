"""Memory that is free and still held: given back to the system between pieces of work, so that a piece holds
as much after a hundred others as alone.
"""

import ctypes
from functools import cache

# Names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# What each of the C library's arenas, of which threads have one each, keeps at its end for the next array.
# Left alone it is twice the largest array that was ever freed, up to 64 MiB.
KEPT_BYTES = 4 * 2**20
# Larger arrays are pages of their own, which go back as they are freed.
OWN_PAGES_BYTES = 8 * 2**20


def give_back() -> None:
    """Have the C library, from which NumPy has its arrays, give back what was freed, and keep little of what
    is freed from now on. Polars' own allocator gives back by itself. Where the library is none of GNU nothing
    is done.
    """
    library = _gnu_library()
    if library is not None:
        library.malloc_trim(0)


@cache
def _gnu_library() -> ctypes.CDLL | None:
    """The C library, told to keep little; None where it has no such calls."""
    try:
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, OWN_PAGES_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        library.malloc_trim  # noqa: B018
    except (AttributeError, OSError, TypeError):
        return None
    return library
