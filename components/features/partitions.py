"""Builds the factors table of a panel that is larger than memory: piece by piece along time, each with the
history that it needs, then joined into one file.

The pieces' borders change nothing: rows, their order, content hash and file bytes are the same for any size
of piece. A build that was killed goes on with the piece after the last finished one.
"""

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts import (
    FACTORS,
    CatalogEntry,
    Stamp,
    atomic_path,
    atomic_write_text,
    check_table,
    content_sha256,
    read_json,
)
from components.contracts.tables import STAMP_KEY
from components.features import build
from components.features.config import Settings
from components.features.errors import FeatureError
from components.features.incremental import SPARE_BARS, TailTooShort, places_of, tail_start
from components.settings import config_hash

# Rows of a row group in the joined file; fixed, so that the bytes don't depend on the pieces.
ROW_GROUP_ROWS = 1 << 17
TABLE, MARKET = "table.parquet", "market.parquet"


def build_in_partitions(
    panel: pl.LazyFrame,
    settings: Settings,
    target: str | os.PathLike,
    *,
    rows: int = 500_000,
    code_version: str,
    inputs: Mapping[str, str],
    on_piece: Callable[[int, int], None] = lambda done, pieces: None,
) -> tuple[Stamp, list[CatalogEntry]]:
    """Write the factors table of `panel` to `target`, a Parquet file with its stamp, as `build_supported`
    gives it.

    Parameters
    ----------
    panel : a PANEL table in its order on disk (`pl.scan_parquet`), with the fused columns that `settings`
        name
    rows : new rows of a piece; its history comes on top, twice the longest warm-up
    inputs : content hashes of the tables that this one comes from; they and the settings tell whether
        finished pieces can be kept
    on_piece : called with (pieces done, pieces) after each

    Returns
    -------
    The stamp of the table, and its catalog.

    Raises
    ------
    FeatureError
        As `build_factors`, and where the panel is not sorted by timestamp.
    """
    period = build.panel_period(panel)
    entries, _ = build.supported_catalog(panel, settings)
    moments = panel.select("timestamp").collect(engine="streaming").to_series()
    if not moments.is_sorted():
        raise FeatureError(
            "The panel is not sorted by timestamp and symbol, so it can't be cut into pieces of time. Sort it"
            " first."
        )
    target = Path(target)
    folder = target.parent / f".{target.name}.pieces"
    borders = _borders(moments, rows)
    _begin(
        folder,
        {
            "config": config_hash(settings),
            "code": code_version,
            "inputs": dict(inputs),
            "rows": len(moments),
            "rows_of_piece": rows,
        },
    )
    history = build.MarketHistory()
    longest = build.longest_warm_up(build.catalog(settings, period))
    pieces = [folder / f"piece_{number:05d}" for number in range(len(borders) - 1)]
    for number, (begin, end) in enumerate(itertools.pairwise(borders)):
        if not pieces[number].exists():
            _write_piece(pieces[number], panel, begin, end, moments, longest, settings, entries, history)
        elif (pieces[number] / MARKET).exists():
            history.series = pl.concat(
                [frame for frame in (history.series, pl.read_parquet(pieces[number] / MARKET)) if frame.width]
            )
        on_piece(number + 1, len(pieces))
    stamp = _join(pieces, target, code_version, config_hash(settings), inputs)
    shutil.rmtree(folder, ignore_errors=True)
    return stamp, entries


class ColumnsOnDisk:
    """The columns of several Parquet files that follow on each other, read one at a time."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths

    def iter_columns(self) -> Iterator[pl.Series]:
        for name in pl.read_parquet_schema(self.paths[0]):
            yield pl.read_parquet(self.paths, columns=[name]).to_series()


def _borders(moments: pl.Series, rows: int) -> list[int]:
    """Row numbers at which pieces begin and the last ends; no timestamp is cut, and none is left out."""
    first_rows = moments.rle_id().to_numpy()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(first_rows)) + 1])
    borders = [0]
    for start in starts[1:]:
        if start - borders[-1] >= rows:
            borders.append(int(start))
    return [*borders, len(moments)]


def _begin(folder: Path, origin: Mapping) -> None:
    """Keep the finished pieces of a build of the same panel, settings and code; remove those of another."""
    if read_json(folder / "origin.json") != origin:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        atomic_write_text(folder / "origin.json", json.dumps(origin))


def _write_piece(
    path: Path,
    panel: pl.LazyFrame,
    begin: int,
    end: int,
    moments: pl.Series,
    longest: int,
    settings: Settings,
    entries: Sequence[CatalogEntry],
    history: build.MarketHistory,
) -> None:
    """Build the rows from `begin` to `end` and write them as a folder, atomically, with the new rows of the
    market's history.
    """
    start = _history_start(panel, begin, moments, 2 * longest)
    bars = panel.slice(start, end - start).collect()
    known = len(history.series)
    table = build.build_factors(bars, settings, history)[begin - start :]
    with atomic_path(path) as temporary:
        temporary.mkdir()
        table.select(*build.KEY, "known_time", *(entry.column for entry in entries)).write_parquet(
            temporary / TABLE, compression="zstd", compression_level=1
        )
        if len(history.series) > known:
            history.series[known:].write_parquet(temporary / MARKET)


def _history_start(panel: pl.LazyFrame, begin: int, moments: pl.Series, bars: int) -> int:
    """The first row that a piece from row `begin` on needs:

    `bars` bars before, and more where symbols miss some.
    """
    before = moments[:begin].unique(maintain_order=True)
    times = bars + SPARE_BARS
    while times < len(before):
        row = int(moments.search_sorted(before[-times]))
        known_before = (
            panel.slice(0, row).select(pl.col("symbol").unique()).collect(engine="streaming").to_series()
        )
        places = places_of(panel.slice(row, begin - row).select(*build.KEY).collect(), known_before)
        try:
            return row + int(np.searchsorted(places.time, tail_start(places, times, bars)))
        except TailTooShort:
            times *= 2
    return 0


def _join(
    pieces: Sequence[Path], target: Path, code_version: str, settings_hash: str, inputs: Mapping[str, str]
) -> Stamp:
    """One file with its stamp from the pieces, atomically."""
    tables = [piece / TABLE for piece in pieces]
    check_table(pl.read_parquet(tables, columns=list(FACTORS.columns)), FACTORS, source=str(target))
    content = content_sha256(ColumnsOnDisk(tables))
    stamp = Stamp(
        FACTORS.name,
        FACTORS.version,
        content,
        code_version=code_version,
        config_hash=settings_hash,
        inputs=dict(inputs),
    )
    with atomic_path(target) as temporary:
        pl.scan_parquet(tables).sink_parquet(
            temporary,
            compression="zstd",
            compression_level=1,
            row_group_size=ROW_GROUP_ROWS,
            metadata={STAMP_KEY: json.dumps(asdict(stamp))},
        )
    return stamp
