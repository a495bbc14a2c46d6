"""Reads slow tables from their files, each as one feed or several."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from components.contracts import file_sha256
from components.contracts.source_files import require_file
from components.fusion.at_hand import at_hand
from components.fusion.config import Settings, TableSettings
from components.fusion.errors import FusionError
from components.fusion.feed import ENDS, KEY, KNOWN, REASONS, REFUSED, ROW, Feed, make_feed
from components.fusion.identity import open_slow, read_identity
from components.fusion.used_columns import used_columns, value_columns
from components.reading.joins import NothingMatches, join_note
from components.reading.table import SourceTable, collect


@dataclass(frozen=True)
class SlowTable:
    """One slow table as read.

    `raw` holds the used columns as the file has them, after `where`, with _row; `rows_in_file` counts before
    it. `hashes`: SHA-256 of its file, and of that of identities, by their paths in the config.
    """

    settings: TableSettings
    raw: pl.DataFrame
    rows_in_file: int
    feeds: tuple[Feed, ...]
    identity: pl.DataFrame | None
    hashes: Mapping[str, str]

    def refusals(self) -> dict[str, int]:
        """How many rows were refused, by reason."""
        found = pl.concat([feed.refused.select(REFUSED) for feed in self.feeds])
        return {reason: int((found[REFUSED] == reason).sum()) for reason in REASONS}


def read_slow_tables(settings: Settings, data_folder: Path) -> tuple[SlowTable, ...]:
    """All slow tables of the config; FusionError where one cannot be read or has too many rows that can't be
    right.
    """
    with at_hand(settings) as (local, shown):
        read = [read_slow_table(table, data_folder) for table in local.tables]
    return tuple(
        replace(slow, settings=table, hashes={shown(path): sha256 for path, sha256 in slow.hashes.items()})
        for slow, table in zip(read, settings.tables, strict=True)
    )


def read_slow_table(table: TableSettings, data_folder: Path) -> SlowTable:
    """One slow table from its file on this disk."""
    path = require_file(Path(data_folder) / table.path, f"fusion table {table.name!r}", FusionError)
    times = [table.observed, *([table.known] if table.known else [])]
    wanted = [*times, *([table.symbol] if table.key == "symbol" else []), *value_columns(table)]
    source = open_slow(path, table, f"fusion table {table.name!r}", wanted)
    frame = collect(source, source.rows)
    slow = from_frame(table, frame, data_folder=data_folder, source=source)
    # Hashed after they were read: so a hash is never that of an older content.
    paths = [table.path, *([table.identity.path] if table.identity else [])]
    return replace(slow, hashes={path: file_sha256(Path(data_folder) / path) for path in paths})


def from_frame(
    table: TableSettings,
    frame: pl.DataFrame,
    *,
    data_folder: Path | None = None,
    source: SourceTable | None = None,
) -> SlowTable:
    """One slow table from a frame with the file's columns; `source` is the open file, where there is one.

    Raises
    ------
    FusionError
        For missing or wrongly typed columns, an unknown series, or more refused rows than
        `max_refused_share`.
    """
    raw = used_columns(frame, table, source)
    identity = read_identity(table, data_folder) if table.identity else None
    groups = [(column,) for column in table.columns] if table.layout == "long" else [table.columns]
    feeds = tuple(make_feed(raw, table, columns) for columns in groups)
    slow = SlowTable(table, raw, len(frame), feeds, identity, {})
    _require_few_refused(slow)
    return slow


def _require_few_refused(slow: SlowTable) -> None:
    table, refused = slow.settings, slow.refusals()
    total = sum(len(feed.rows) + len(feed.refused) for feed in slow.feeds)
    if not total or sum(refused.values()) <= table.max_refused_share * total:
        return
    worst = max(refused, key=refused.get)
    because = pl.col(REFUSED) == worst
    of_worst = [feed.refused.filter(because) for feed in slow.feeds]
    first = next(rows for rows in of_worst if len(rows)).row(0, named=True)
    raise FusionError(
        f"{table.path}: {sum(refused.values()):,} of {total:,} rows can't be used, {refused[worst]:,} of"
        f" them because {REASONS[worst]} (row {first[ROW]:,}: complete {first[ENDS]}, known"
        f" {first[KNOWN]}). Check observed, frequency, observed_clock, known and known_clock of table"
        f" {table.name!r}, or raise max_refused_share."
    )


def join_notes(tables: tuple[SlowTable, ...], symbols: list[str]) -> list[str]:
    """Sentences on slow tables that hold few of the panel's symbols.

    Raises
    ------
    FusionError
        If a table holds none of them; the message gives examples of both sides.
    """
    notes = []
    for table in tables:
        settings = table.settings
        if settings.key == "market":
            continue
        keys = pl.concat([feed.rows[KEY] for feed in table.feeds]).unique()
        try:
            notes.append(join_note(symbols, keys, f"fusion table {settings.name!r} ({settings.path})"))
        except NothingMatches as error:
            raise FusionError(
                f"{settings.path}: {error}. Check symbol, symbols and upper_case of fusion table"
                f" {settings.name!r}, or write the symbols alike on both sides."
            ) from None
    return [note for note in notes if note]
