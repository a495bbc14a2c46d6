"""Makes the factors table of a run: new bars are added to the table of the last run where its history still
stands, else all is built.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from components.contracts import AlphaloopError, OutputError, Stamp, atomic_path, content_sha256, read_stamp
from components.features.config import Settings
from components.features.incremental import update_factors
from components.features.support import with_fused
from components.progress import report


def add_to_kept(
    kept: Path | None,
    panel: pl.DataFrame,
    fused: pl.DataFrame | None,
    settings: Settings,
    *,
    code_version: str,
    inputs: Mapping[str, str],
    target: str | os.PathLike,
) -> int | None:
    """Write the kept table with the rows of the panel's new bars to `target`, as a full build would; None,
    and nothing written, where that can't be.

    It can't where nothing was kept, where it was made with other settings or code, or where any bar or slow
    value up to its last timestamp is not what it was made from.

    Parameters
    ----------
    kept : table of an earlier run
    panel, fused : whole PANEL and FUSED tables
    inputs : content hashes of both, by name

    Returns
    -------
    Number of rows that were added.
    """
    if kept is None or not kept.exists():
        return None
    try:
        stamp = read_stamp(kept)
        if not _same_history(stamp, kept, panel, fused):
            report(
                "features", "old bars or slow values differ from those of the kept table, all is built anew"
            )
            return None
        bars = panel if fused is None else with_fused(panel, fused)
        update_factors(kept, bars, settings, code_version=code_version, inputs=inputs, target=target)
        return _rows(Path(target)) - _rows(kept)
    except OutputError:
        raise
    except AlphaloopError as error:
        # It costs the time of a full build and nothing else, but a person should know why each run takes
        # long.
        report("features", f"the kept table can't be continued, all is built anew: {error}")
        return None


def keep(table: str | os.PathLike, kept: Path) -> None:
    """Keep the table for the next run: the same file under another name where the disk allows it, else a
    copy.
    """
    with atomic_path(kept) as temporary:
        try:
            os.link(table, temporary)
        except OSError:
            shutil.copyfile(table, temporary)


def _same_history(stamp: Stamp, kept: Path, panel: pl.DataFrame, fused: pl.DataFrame | None) -> bool:
    """Whether the tables hold, up to the kept table's last timestamp, exactly what it was made from."""
    last = pl.scan_parquet(kept).select(pl.col("timestamp").max()).collect().item()
    tables = {"panel": panel} if fused is None else {"panel": panel, "fused": fused}
    return stamp.inputs.keys() == tables.keys() and all(
        content_sha256(table.filter(pl.col("timestamp") <= last)) == stamp.inputs[name]
        for name, table in tables.items()
    )


def _rows(path: Path) -> int:
    return pl.scan_parquet(path).select(pl.len()).collect().item()
