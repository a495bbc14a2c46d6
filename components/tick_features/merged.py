"""From samples of single sessions to one table, sorted by time and symbol, a block of moments at a time."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from components.contracts import FACTORS
from components.contracts.merged import SessionRows, moment_blocks
from components.contracts.parts import write_part, write_parts
from components.memory.given_back import give_back
from components.tick_features.errors import TickFeatureError


def merge_days(
    days: Sequence[SessionRows],
    target: str | os.PathLike,
    folder: Path,
    *,
    code_version: str,
    config_hash: str,
    inputs: Mapping[str, str],
) -> dict[str, int]:
    """Write all samples to `target` as FACTORS with their stamp, by way of files in `folder`; how many rows
    have a value, by column.

    Raises
    ------
    ContractError, TickFeatureError
        If a symbol has two samples of one moment: two of its sessions overlap. If there is no sample.
    """
    parts, known = [], {}
    for number, rows in enumerate(moment_blocks(days)):
        counts = rows.select(pl.all().count()).row(0, named=True)
        known = {name: known.get(name, 0) + count for name, count in counts.items()}
        parts.append(write_part(rows, folder / f"part_{number:05d}"))
        # Or it would stand beside the next one.
        del rows
        give_back()
    if not parts:
        raise TickFeatureError(
            "No session is long enough for a sample. Choose a smaller tick_features.sample, or more ticks."
        )
    stamped = {"code_version": code_version, "config_hash": config_hash, "inputs": inputs}
    write_parts(parts, target, FACTORS, **stamped)
    return known
