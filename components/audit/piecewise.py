"""Compares a table that was handed over with one that is built anew in pieces, each a block of bars, with the
findings of `compare` on the whole.

Piece after piece is held against the rows of its bars. What is the same there is told from the table that was
handed over; only what is not is kept, on disk. Then columns in which any piece differs are judged as a whole,
one at a time: what is rounding, and how large a column usually is, shows in all its rows.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from components.audit.columns import Table, in_blocks
from components.audit.compare import (
    ROW,
    TRUNCATION_TOLERANCE,
    Place,
    compare,
    is_same,
    match,
    rows_leak,
)
from components.audit.result import Leak
from components.memory.given_back import give_back

PREFIX = "alphaloop-audit-"


@dataclass(frozen=True)
class HandedOver:
    """The `table`, sorted by time first, of which the first `rows` are compared, in `columns`.

    `told` are columns besides the `key` by which `chosen` gives the rows, by number, that count in two
    stretches of both tables. `look` is shown each block of columns of each stretch.
    """

    table: Table
    rows: int
    key: Sequence[str]
    columns: Sequence[str]
    told: Sequence[str] = ()
    chosen: Callable[[pl.DataFrame, pl.DataFrame], tuple[pl.Series, pl.Series]] | None = None
    look: Callable[[pl.DataFrame], None] = lambda block: None

    def stretch(self, first: int, end: int, names: Sequence[str]) -> pl.DataFrame:
        """Columns of the rows from `first` to before `end`."""
        return self.table.lazy().slice(first, end - first).select(names).collect()


@dataclass
class _Found:
    """What the pass over all pieces leaves.

    `chosen` are the numbers of the compared rows of each piece, in the table that was handed over; `differ`
    the pieces in which a column is not the same, `built` all columns of pieces; `surplus` the first of
    `surplus_rows` rows that only one of both has.
    """

    folder: Path
    chosen: list[pl.Series] = field(default_factory=list)
    differ: dict[str, set[int]] = field(default_factory=dict)
    built: list[str] = field(default_factory=list)
    surplus: pl.DataFrame | None = None
    surplus_rows: int = 0

    def file(self, number: int) -> Path:
        return self.folder / f"{number:05d}"


def compare_pieces(handed_over: HandedOver, pieces: Iterable[pl.DataFrame], place: Place) -> list[Leak]:
    """The leaks that `compare` finds between the rows handed over and all pieces one after another, which are
    sorted by time; rows of theirs after the cut are left out.
    """
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        found = _Found(Path(folder))
        for start, end, piece in _stretches(handed_over, pieces, place):
            _look_at(found, handed_over, start, end, piece)
            # Or it would stand beside the next one.
            del piece
            give_back()
        leaks = []
        if found.surplus is not None:
            leaks.append(rows_leak(found.surplus, found.surplus_rows, place))
        return [*leaks, *_judged(found, handed_over, place)]


def _stretches(
    handed_over: HandedOver, pieces: Iterable[pl.DataFrame], place: Place
) -> Iterator[tuple[int, int, pl.DataFrame]]:
    """Each piece with the rows of its bars: those since the piece before. The last one is empty."""
    times = handed_over.stretch(0, handed_over.rows, ["timestamp"]).to_series()
    start, empty = 0, handed_over.table.lazy().head(0).collect()
    for built in pieces:
        piece = built.filter(pl.col("timestamp") <= place.cut)
        empty = piece.clear()
        del built
        if len(piece):
            end = int(times.search_sorted(piece["timestamp"][-1], side="right"))
            yield start, end, piece
            start = end
        del piece
    yield start, handed_over.rows, empty


def _look_at(found: _Found, handed_over: HandedOver, start: int, end: int, piece: pl.DataFrame) -> None:
    """Hold a piece against the rows of its bars."""
    keys = handed_over.stretch(start, end, [*handed_over.key, *handed_over.told])
    rows, anew = _all(keys), _all(piece)
    if handed_over.chosen is not None:
        rows, anew = handed_over.chosen(keys, piece)
    matched = match(keys[rows], piece[anew], handed_over.key)
    if matched is not None:
        rows, anew = rows[matched.before], anew[matched.after]
        if len(matched.surplus):
            found.surplus = matched.surplus.head(1) if found.surplus is None else found.surplus
            found.surplus_rows += len(matched.surplus)
    number, differs = len(found.chosen), []
    for names in in_blocks(handed_over.columns):
        block = handed_over.stretch(start, end, names)
        handed_over.look(block)
        built = piece.select(name for name in names if name in piece.columns)[anew]
        differs += [series for series in built if not is_same(block[series.name].gather(rows), series)]
    known = {*handed_over.key, *handed_over.table.collect_schema().names()}
    differs += [piece[name].gather(anew) for name in piece.columns if name not in known]
    for series in differs:
        found.differ.setdefault(series.name, set()).add(number)
    if differs:
        pl.DataFrame(differs).write_ipc(found.file(number), compression="lz4")
    found.chosen.append(rows + start)
    found.built = piece.columns


def _all(table: pl.DataFrame) -> pl.Series:
    return pl.Series(ROW, np.arange(len(table), dtype=np.uint32))


def _judged(found: _Found, handed_over: HandedOver, place: Place) -> Iterator[Leak]:
    """What `compare` says of each column that differs in any piece, or that only one of both has."""
    vanished = [name for name in handed_over.columns if name not in found.built]
    doubtful = [name for name in handed_over.columns if name in found.differ or name in vanished]
    appeared = [name for name in found.differ if name not in handed_over.columns]
    if not doubtful and not appeared:
        return
    rows = pl.concat(found.chosen)
    keys = handed_over.stretch(0, handed_over.rows, handed_over.key)[rows]
    for name in doubtful:
        column = handed_over.stretch(0, handed_over.rows, [name]).to_series().gather(rows)
        after = keys if name in vanished else keys.with_columns(_as_built(found, name, column))
        before = keys.with_columns(column)
        yield from compare(before, after, handed_over.key, [name], place, TRUNCATION_TOLERANCE)
        give_back()
    for name in appeared:
        after = keys.with_columns(_as_built(found, name, None))
        yield from compare(keys, after, handed_over.key, [], place, TRUNCATION_TOLERANCE)


def _as_built(found: _Found, name: str, handed_over: pl.Series | None) -> pl.Series:
    """A column as the pieces have it: from disk, and where it is the same from what was handed over."""
    parts, first = [], 0
    for number, rows in enumerate(found.chosen):
        if number in found.differ[name]:
            parts.append(pl.scan_ipc(found.file(number)).select(name).collect().to_series())
        else:
            parts.append(handed_over.slice(first, len(rows)))
        first += len(rows)
    return pl.concat(parts)
