"""Opens a file of a user, CSV or Parquet, as rows of named columns; the cells of a CSV stay text."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.reading.config import CsvSettings
from components.reading.encoding import Text, read_text
from components.reading.layout import Layout, find_layout
from components.reading.place import Place

CSV_ENDS = (".csv", ".csv.gz", ".csv.zst", ".txt", ".txt.gz", ".tsv", ".tsv.gz")
PARQUET_ENDS = (".parquet", ".pq")
DAMAGED = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeError)


@dataclass(frozen=True)
class SourceTable:
    """An open file.

    `rows` has a column for each of `names`; those of a CSV are text. `repeated`: names that stand twice in
    the header. `csv`: the layout in full, as set or found; None for Parquet. `text`: the decoded CSV.
    """

    place: Place
    rows: pl.LazyFrame
    names: tuple[str, ...]
    repeated: tuple[str, ...] = ()
    csv: CsvSettings | None = None
    text: Text | None = None


def is_csv(path: Path) -> bool:
    """Whether a file is text by its name."""
    return path.name.lower().endswith(CSV_ENDS)


def stem(path: Path) -> str:
    """The name of a file without what says its kind: BRK.A of BRK.A.csv.gz."""
    lower = path.name.lower()
    end = max((end for end in (*CSV_ENDS, *PARQUET_ENDS) if lower.endswith(end)), key=len, default="")
    return path.name[: len(path.name) - len(end)] if end else path.stem


def open_csv(place: Place, settings: CsvSettings, wanted: Sequence[str]) -> SourceTable:
    """A CSV file in any encoding and layout that can be told, or that `settings` tell.

    Parameters
    ----------
    wanted : names of columns that the header should have, that of the times first

    Raises
    ------
    AlphaloopError (the place's)
        If it can't be read as text, or has no header.
    """
    text = read_text(place, settings.encoding, wanted)
    layout = find_layout(text.content, settings, wanted, place)
    if len(layout.names) != layout.width:
        raise _wrong_width(place, text, layout)
    names, repeated = _own_names(layout.names)
    rows = pl.scan_csv(
        io.BytesIO(text.content),
        has_header=False,
        skip_lines=layout.skip_lines + layout.header_lines,
        schema=dict.fromkeys(names, pl.String),
        separator=layout.separator,
    )
    found = CsvSettings(
        encoding=text.encoding,
        separator=layout.separator,
        skip_lines=layout.skip_lines,
        header_lines=layout.header_lines if not settings.names else None,
        names=settings.names,
        decimal=settings.decimal,
    )
    return SourceTable(place, rows, names, repeated, found, text)


def open_parquet(place: Place) -> SourceTable:
    """A Parquet file; only the columns that are taken are read."""
    try:
        rows = pl.scan_parquet(place.path, glob=False)
        return SourceTable(place, rows, tuple(rows.collect_schema().names()))
    except DAMAGED as error:
        raise unreadable(place, "Parquet", error) from error


def collect(table: SourceTable, rows: pl.LazyFrame) -> pl.DataFrame:
    """The rows that were asked of a table; the place's error where the file does not hold them to its end."""
    try:
        return rows.collect()
    except DAMAGED as error:
        if table.text is None:
            raise unreadable(table.place, "Parquet", error) from error
        raise _ragged(table) or unreadable(table.place, "CSV", error) from error


def unreadable(place: Place, kind: str, error: BaseException) -> Exception:
    """What is said of a file that ends early or is of another kind."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
    return place.error(
        f"{place.path} can't be read as {kind} to its end: {reason}. It may be cut off, damaged or of another"
        f" kind: fetch it again, or mend {place.setting('source')}."
    )


def _own_names(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Each column under a name of its own, and the names that were there more than once."""
    counts, seen, own = Counter(names), Counter(), []
    for name in names:
        seen[name] += 1
        own.append(name if seen[name] == 1 else f"{name} (column {len(own) + 1})")
    return tuple(own), tuple(name for name, count in counts.items() if count > 1)


def _wrong_width(place: Place, text: Text, layout: Layout) -> Exception:
    row = text.content.decode(errors="replace").split("\n")[layout.skip_lines + layout.header_lines :][:1]
    return place.refusal(
        f"can't be read as CSV: its header has {len(layout.names)} columns ({', '.join(layout.names[:8])}),"
        " but its"
        f" rows have {layout.width}, first {row[0][:60]!r}. Export it again, or see"
        f" {place.setting('csv.separator')}, {place.setting('csv.skip_lines')} and"
        f" {place.setting('csv.names')}."
        if row
        else "can't be read as CSV: there is no row below its header."
    )


def _ragged(table: SourceTable) -> Exception | None:
    """What is said of the first row that has more or fewer values than the header; None where all fit."""
    begin = (table.csv.skip_lines or 0) + (table.csv.header_lines or 0)
    lines = io.StringIO(table.text.content.decode(errors="replace"), newline="")
    try:
        for row, cells in enumerate(csv.reader(lines, delimiter=table.csv.separator)):
            if row >= begin and cells and len(cells) != len(table.names):
                return table.place.refusal(
                    f"can't be read as CSV: row {row - begin + 1:,} has {len(cells)} values, the header"
                    f" {len(table.names)} ({table.csv.separator.join(cells)[:60]!r}). Mend that line, or see"
                    f" {table.place.setting('csv.separator')} and {table.place.setting('csv.decimal')}."
                )
    except csv.Error:
        return None
    return None
