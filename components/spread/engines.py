"""The map over pieces: what is finished stays, the rest is worked on by the engine of the run, and at the end
all folders are there.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from components.contracts.errors import ContractError
from components.spread import local, on_ray
from components.spread.attempts import all_events
from components.spread.choice import engine
from components.spread.needs import Needs
from components.spread.piece import SEAL, Piece, is_finished, make, sweep

# Called with a piece and an event of its attempt, see `components.progress`.
Hear = Callable[[Piece, dict[str, Any]], None]
RETRIES = 2


def map(
    function: str,
    pieces: Sequence[Piece],
    *,
    cpus: int = 1,
    gpus: int = 0,
    memory_gib: float = 0.0,
    retries: int = RETRIES,
    hear: Hear | None = None,
) -> None:
    """Make the folder of each piece that is not finished, each at least once: where process or node died,
    another attempt is made, up to `retries` times, perhaps while the first one still runs.

    Parameters
    ----------
    function : "module:name", called with a piece's arguments and an empty folder to fill; equal arguments
        must give equal files
    cpus, gpus, memory_gib : what one piece needs; 0 GiB: not known
    hear : told what attempts in other processes say of themselves; what is said in this one goes its own way

    Raises
    ------
    LostPiece, RayError
        See `local` and `on_ray`. What the function raises is raised on, by its own type where that is an
        AlphaloopError of ours.
    """
    needs = Needs(cpus, gpus, memory_gib)
    open_pieces = [piece for piece in pieces if not is_finished(piece)]
    heard: dict[Path, int] = {}
    for piece in open_pieces:
        sweep(piece)
    try:
        for finished in _results(function, open_pieces, needs, retries) if open_pieces else ():
            _tell(open_pieces, heard, hear)
            if finished is not None:
                _require_here(finished)
    finally:
        _tell(open_pieces, heard, hear)
        for piece in pieces:
            sweep(piece)


def _results(function: str, pieces: Sequence[Piece], needs: Needs, retries: int) -> Iterator[Piece | None]:
    if engine() == "ray":
        return on_ray.results(function, pieces, needs, retries)
    side_by_side = min(local.slots(needs), len(pieces))
    if side_by_side > 1:
        return local.results(function, pieces, needs, retries, side_by_side)
    return _one_by_one(function, pieces)


def _one_by_one(function: str, pieces: Sequence[Piece]) -> Iterator[Piece]:
    """In this process."""
    for piece in pieces:
        make(function, piece)
        yield piece


def _require_here(piece: Piece) -> None:
    """What was made on another machine must be seen from here."""
    if not (piece.folder / SEAL).exists():
        raise ContractError(
            f"{piece.folder} was made on another machine and is not here. Each node of Ray must have the"
            " run's folder at the same path, on a volume that all of them share."
        )


def _tell(pieces: Sequence[Piece], heard: dict[Path, int], hear: Hear | None) -> None:
    """Hand on what attempts wrote of themselves since the last time."""
    for piece in pieces if hear else ():
        for path in all_events(piece.folder):
            with path.open("rb") as handle:
                handle.seek(heard.get(path, 0))
                for line in handle:
                    if line.endswith(b"\n"):
                        heard[path] = heard.get(path, 0) + len(line)
                        hear(piece, json.loads(line))
