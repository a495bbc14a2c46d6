"""Feast, imported without what makes its import slow."""

import sys
from typing import Any


def import_feast() -> None:
    """Import Feast, once a process, as it is written.

    Hundreds of its functions are marked for typeguard, which reads and compiles each anew at import: three
    seconds of a process that only wants to read. Feast's own checks of what it is called with are left out
    then. And it imports torch, for answers as tensors, which nobody asks for here: it does without, as where
    torch is not installed.
    """
    if "feast" in sys.modules:
        return
    import typeguard

    marked = typeguard.typechecked
    typeguard.typechecked = _unmarked
    without_torch = "torch" not in sys.modules
    if without_torch:
        sys.modules["torch"] = None
    try:
        import feast  # noqa: F401
    finally:
        typeguard.typechecked = marked
        if without_torch:
            del sys.modules["torch"]


def _unmarked(target: Any = None, **_: Any) -> Any:
    """`typeguard.typechecked`, with or without options, that leaves its function as it is."""
    return _unmarked if target is None else target
