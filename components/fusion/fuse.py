"""Fusion as a whole: reads the slow tables, joins them to a panel, has a sample checked row by row, and
reports coverage and times.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from components.fusion.config import Settings
from components.fusion.coverage import coverage_report, latest_margin_s, require_coverage
from components.fusion.join import join_tables
from components.fusion.oracle import verify_sample
from components.fusion.panel_keys import panel_keys
from components.fusion.read import join_notes, read_slow_tables
from components.fusion.source_hash import sha256_of
from components.fusion.time_audit import audit_table

# Seed of that sample.
VERIFIED_SEED = 1


@dataclass(frozen=True)
class Fusion:
    """`fused` follows the contract FUSED; `report` is JSON-able (see `fuse_panel`); `notes` are sentences
    that a person should read; `source_sha256` is the content hash of the files that were read.
    """

    fused: pl.DataFrame
    report: dict[str, Any]
    notes: tuple[str, ...]
    source_sha256: str


def fuse_panel(panel: pl.DataFrame, settings: Settings, data_folder: Path) -> Fusion:
    """Join the slow tables of the config to `panel` (PANEL), as known at each bar's known_time.

    The report holds `panel` (rows, symbols, bars), `coverage` (one entry a column), `tables` (the time audit
    of each, with path and sha256), `checks` (rows verified one by one, values compared, smallest distance of
    a bar to the newest row it saw) and `config`.

    Raises
    ------
    FusionError
        For unusable files, in strict mode for columns below min_coverage, and if the sample does not agree
        with the join.
    """
    tables = read_slow_tables(settings, data_folder)
    thin = join_notes(tables, panel["symbol"].unique().to_list())
    fused, joined = join_tables(panel, tables)
    compared = verify_sample(panel, tables, fused, settings.verified_rows, VERIFIED_SEED)
    bars = panel_keys(panel)
    coverage = coverage_report(fused, joined, bars, settings)
    notes = require_coverage(coverage, settings)
    report = {
        "panel": {
            "rows": len(panel),
            "symbols": len(bars.symbols),
            "bars": panel["timestamp"].n_unique(),
            "first": str(panel["timestamp"].min()),
            "last": str(panel["timestamp"].max()),
        },
        "coverage": coverage,
        "tables": [
            {
                "name": table.settings.name,
                "path": table.settings.path,
                "sha256": table.hashes[table.settings.path],
                **audit_table(table, bars.symbols),
            }
            for table in tables
        ],
        "checks": {
            "rows_verified": min(settings.verified_rows, len(panel)),
            "values_compared": compared,
            "seed": VERIFIED_SEED,
            "smallest_margin_s": latest_margin_s(joined, bars),
        },
        "config": settings.model_dump(mode="json"),
    }
    hashes = {path: sha256 for table in tables for path, sha256 in table.hashes.items()}
    return Fusion(fused, report, (*thin, *notes), sha256_of(hashes))
