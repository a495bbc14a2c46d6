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
from dataclasses import asdict, dataclass
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
from components.features.build import build_factors
from components.features.catalog import catalog, longest_warm_up
from components.features.config import Settings
from components.features.errors import FeatureError
from components.features.hidden_regime import MarketHistory
from components.features.places import SPARE_BARS, TailTooShort, places_of, tail_start
from components.features.support import panel_period, supported_catalog
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
    period = panel_period(panel)
    entries, _ = supported_catalog(panel, settings)
    moments = _moments(panel)
    target = Path(target)
    folder = target.parent / f".{target.name}.pieces"
    origin = {
        "config": config_hash(settings),
        "code": code_version,
        "inputs": dict(inputs),
        "rows": len(moments),
        "rows_of_piece": rows,
    }
    _begin(folder, origin)
    source = _Source(panel, moments, settings, longest_warm_up(catalog(settings, period)), entries)
    pieces = _write_pieces(folder, source, _borders(moments, rows), on_piece)
    stamp = _join(pieces, target, code_version, config_hash(settings), inputs)
    shutil.rmtree(folder, ignore_errors=True)
    return stamp, entries


@dataclass(frozen=True)
class _Source:
    """What every piece is made from: the panel, the timestamp of each of its rows, and the columns wanted."""

    panel: pl.LazyFrame
    moments: pl.Series
    settings: Settings
    longest_bars: int
    entries: Sequence[CatalogEntry]


class ColumnsOnDisk:
    """The columns of several Parquet files that follow on each other, read one at a time."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths

    def iter_columns(self) -> Iterator[pl.Series]:
        for name in pl.read_parquet_schema(self.paths[0]):
            yield pl.read_parquet(self.paths, columns=[name]).to_series()


def _moments(panel: pl.LazyFrame) -> pl.Series:
    """The timestamp of each row; refused where they don't ascend."""
    moments = panel.select("timestamp").collect(engine="streaming").to_series()
    if not moments.is_sorted():
        raise FeatureError(
            "The panel is not sorted by timestamp and symbol, so it can't be cut into pieces of time. Sort it"
            " first."
        )
    return moments


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


def _write_pieces(
    folder: Path, source: _Source, borders: Sequence[int], on_piece: Callable[[int, int], None]
) -> list[Path]:
    """Write the pieces that are not there yet, in order of time, and return all of them."""
    history = MarketHistory()
    pieces = [folder / f"piece_{number:05d}" for number in range(len(borders) - 1)]
    for number, (begin, end) in enumerate(itertools.pairwise(borders)):
        market = pieces[number] / MARKET
        if not pieces[number].exists():
            _write_piece(pieces[number], source, begin, end, history)
        elif market.exists():
            frames = (history.series, pl.read_parquet(market))
            history.series = pl.concat([frame for frame in frames if frame.width])
        on_piece(number + 1, len(pieces))
    return pieces


def _write_piece(path: Path, source: _Source, begin: int, end: int, history: MarketHistory) -> None:
    """Build the rows from `begin` to `end` and write them as a folder, atomically, with the new rows of the
    market's history.
    """
    start = _history_start(source.panel, begin, source.moments, 2 * source.longest_bars)
    bars = source.panel.slice(start, end - start).collect()
    known = len(history.series)
    table = build_factors(bars, source.settings, history)[begin - start :]
    with atomic_path(path) as temporary:
        temporary.mkdir()
        columns = (*FACTORS.key, "known_time", *(entry.column for entry in source.entries))
        table.select(columns).write_parquet(temporary / TABLE, compression="zstd", compression_level=1)
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
        places = places_of(panel.slice(row, begin - row).select(*FACTORS.key).collect(), known_before)
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
