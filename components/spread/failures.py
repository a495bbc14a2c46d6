"""What went wrong with a piece elsewhere, raised here: by the same type where a person can mend it."""

import importlib
from collections.abc import Mapping

from components.contracts.errors import AlphaloopError
from components.spread.piece import Piece


class LostPiece(AlphaloopError):
    """Whatever worked on a piece died each time."""

    exit_code = 1


def raise_failure(failure: Mapping[str, str], piece: Piece) -> None:
    """Raise what `components.spread.attempt.attempt` returned; the trace is its cause."""
    cause = RuntimeError(f"in the attempt at {piece.folder.name}:\n{failure['trace']}")
    module, _, name = failure["kind"].partition(":")
    if module.startswith("components."):
        kind = getattr(importlib.import_module(module), name, None)
        if isinstance(kind, type) and issubclass(kind, AlphaloopError):
            raise kind(failure["message"]) from cause
    raise RuntimeError(f"{name}: {failure['message']} (at {piece.folder.name})") from cause


def lost(piece: Piece, attempts: int, how: str) -> LostPiece:
    """The error of a piece that no attempt could make."""
    return LostPiece(
        f"{piece.folder}: {attempts} attempts died without a word, the last one {how}; often memory ran out."
        " Lower compute.memory_share, give the machine or container more memory, or use fewer symbols,"
        " inputs or bars."
    )
