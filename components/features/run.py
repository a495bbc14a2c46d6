"""Factors and catalog of a panel: new bars are added to the table that the last run kept, or all is built."""

import os
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts import (
    FACTORS,
    FUSED,
    PANEL,
    CatalogEntry,
    read_stamp,
    read_table,
    write_catalog,
    write_table,
)
from components.contracts.cut import cut_of
from components.contracts.parts import scan_table
from components.contracts.row_limit import table_rows
from components.contracts.tables import row_group_rows, stamp_of
from components.features.build import build_supported
from components.features.catalog import catalog
from components.features.config import Settings
from components.features.in_pieces import build_in_pieces
from components.features.kept import add_to_kept, keep
from components.features.panels import PanelOnDisk
from components.features.support import panel_period, supported_catalog, thin_cross_section, with_fused
from components.memory.cutting import Held
from components.progress import report, stage, warn
from components.settings import config_hash

# What a build of all rows holds at its peak, measured on simulated markets of 60,000 to 1,000,000 rows: the
# libraries, and for each row its bar with the measures at hand, and each column of the table.
BASE_BYTES = 250 * 2**20
ROW_BYTES, COLUMN_BYTES = 600, 6
# What a build in pieces holds, measured on pieces of 100,000 and 250,000 rows of 16 and 292 columns, of
# tables of 500,000 to 2,000,000 rows: the libraries, row groups in the writer, and the rows of a piece.
ROW_GROUPS_HELD, COLUMN_BYTES_OF_PIECE = 2, 3
VALUE_BYTES = 4
# Smaller pieces save no memory that matters and cost time.
FEWEST_ROWS = 50_000


@dataclass(frozen=True)
class Inputs:
    """Where the panel and the values of slow tables stand.

    `kept` is where a table that is made at once is kept for the next run, which then makes the rows of new
    bars only; empty or None: nowhere.
    """

    panel: str | os.PathLike
    fused: str | os.PathLike | None = None
    kept: str | os.PathLike | None = None


@dataclass(frozen=True)
class Outputs:
    """Where the factors table and its catalog are written."""

    factors: str | os.PathLike
    catalog: str | os.PathLike


@dataclass(frozen=True)
class Made:
    """What was made: number of factors, of models' inputs, of rows, and of those that were added to the kept
    table; None where all were built.
    """

    factors: int
    inputs: int
    rows: int
    added: int | None

    def __str__(self) -> str:
        new = f"{self.rows:,} rows"
        if self.added is not None:
            new = f"{self.added:,} rows added to {self.rows - self.added:,}"
        return f"{self.factors} factors, {self.inputs} inputs, {new}"


def run(inputs: Inputs, outputs: Outputs, *, settings: str, code: str) -> Made:
    """Write the factors table and the catalog of a panel, in pieces where the whole does not fit.

    Parameters
    ----------
    settings : `Settings` of the features stage as JSON
    code : version of the code, for the stamp

    Raises
    ------
    ContractError
        If a table is damaged or has no stamp.
    FeatureError
        As `build_factors`, and where a fused column has the name of a panel column.
    """
    with stage("features"):
        parsed = Settings.model_validate_json(settings)
        about = {"code_version": code, "inputs": _origin(inputs)}
        # Or a table of another kind would be asked for its period.
        stamp_of(inputs.panel, PANEL)
        columns = len(catalog(parsed, panel_period(pl.scan_parquet(inputs.panel))))
        at_once = held(columns).fits_at_once(table_rows(inputs.panel))
        read = read_table if at_once else scan_table
        bars = read(inputs.panel, PANEL)
        slow = read(inputs.fused, FUSED) if inputs.fused is not None else None
        fed = bars if slow is None else with_fused(bars, slow)
        entries, left_out = supported_catalog(fed, parsed)
        for advice in (thin_cross_section(bars, parsed), left_out):
            if advice:
                warn("features", advice)
        if at_once:
            kept = Path(inputs.kept) if inputs.kept else None
            added = add_to_kept(kept, bars, slow, parsed, target=outputs.factors, **about)
            if added is None:
                _write_whole(fed, parsed, outputs.factors, **about)
            if kept:
                keep(outputs.factors, kept)
        else:
            added = None
            _write_in_pieces(bars, slow, parsed, outputs.factors, columns, **about)
        write_catalog(entries, outputs.catalog)
        made = _made(entries, table_rows(inputs.panel), added)
        report("features", str(made))
    return made


def held(columns: int) -> Held:
    """What building a table of so many columns holds."""
    written = ROW_GROUPS_HELD * row_group_rows(columns) * VALUE_BYTES * columns
    of_piece = ROW_BYTES + COLUMN_BYTES_OF_PIECE * columns
    return Held(BASE_BYTES, ROW_BYTES + COLUMN_BYTES * columns, written, of_piece, FEWEST_ROWS)


def _origin(inputs: Inputs) -> dict[str, str]:
    """Content hashes of the tables that the factors come from, by name."""
    tables = {"panel": inputs.panel, "fused": inputs.fused}
    return {name: read_stamp(path).content_sha256 for name, path in tables.items() if path is not None}


def _write_whole(
    panel: pl.DataFrame,
    settings: Settings,
    target: str | os.PathLike,
    *,
    code_version: str,
    inputs: dict[str, str],
) -> None:
    """Build all rows of the table and write it with its stamp."""
    table, _, _ = build_supported(panel, settings)
    write_table(
        table, target, FACTORS, code_version=code_version, config_hash=config_hash(settings), inputs=inputs
    )


def _write_in_pieces(
    panel: pl.LazyFrame,
    slow: pl.LazyFrame | None,
    settings: Settings,
    target: str | os.PathLike,
    columns: int,
    *,
    code_version: str,
    inputs: dict[str, str],
) -> None:
    """Build the table in pieces that fit into what is free, as far as that is possible."""
    rows = held(columns).rows_of_a_piece()
    report(
        "features", f"made in pieces of about {rows:,} rows, because all at once would not fit into memory"
    )
    source = PanelOnDisk(panel, cut_of(panel, rows), slow)
    build_in_pieces(source, settings, target, code_version=code_version, inputs=inputs)


def _made(entries: list[CatalogEntry], rows: int, added: int | None) -> Made:
    wanted = sum(entry.role == "input" for entry in entries)
    return Made(len({entry.factor for entry in entries}), wanted, rows, added)
