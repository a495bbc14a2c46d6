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
from components.features.build import build_supported
from components.features.config import Settings
from components.features.kept import add_to_kept, keep
from components.features.support import supported_catalog, thin_cross_section, with_fused
from components.progress import report, stage, warn
from components.settings import config_hash


@dataclass(frozen=True)
class Inputs:
    """Where the panel and the values of slow tables stand.

    `kept` is where the table is kept for the next run, which then makes the rows of new bars only; empty or
    None: nowhere.
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
    """Write the factors table and the catalog of a panel.

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
        bars = read_table(inputs.panel, PANEL)
        slow = read_table(inputs.fused, FUSED) if inputs.fused is not None else None
        fed = bars if slow is None else with_fused(bars, slow)
        entries, left_out = supported_catalog(fed, parsed)
        for advice in (thin_cross_section(bars, parsed), left_out):
            if advice:
                warn("features", advice)
        kept = Path(inputs.kept) if inputs.kept else None
        about = {"code_version": code, "inputs": _origin(inputs)}
        added = add_to_kept(kept, bars, slow, parsed, target=outputs.factors, **about)
        if added is None:
            _write_whole(fed, parsed, outputs.factors, **about)
        if kept:
            keep(outputs.factors, kept)
        write_catalog(entries, outputs.catalog)
        made = _made(entries, len(bars), added)
        report("features", str(made))
    return made


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


def _made(entries: list[CatalogEntry], rows: int, added: int | None) -> Made:
    wanted = sum(entry.role == "input" for entry in entries)
    return Made(len({entry.factor for entry in entries}), wanted, rows, added)
