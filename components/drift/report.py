"""Writes what was found: drift.json for machines, index.html for reviewers, evidently.html with the pictures
behind it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import OutputError, atomic_write_text
from components.drift.config import Settings
from components.drift.evidently_report import write_evidently
from components.drift.page import render
from components.drift.reference import read_reference
from components.drift.tables import check_current, newest_bars

DATA, SUMMARY, EVIDENTLY = "drift.json", "index.html", "evidently.html"


def write_reports(
    folder: Path,
    result: Mapping[str, Any],
    reference: Path,
    current: pl.DataFrame,
    settings: Settings,
    decision: Mapping[str, Any] | None = None,
) -> None:
    """Write the three files into `folder`.

    Parameters
    ----------
    result : of `detect`
    reference, current : what `detect` was given
    decision : what was decided on it, as the review trail keeps it; the page says so
    """
    kept = read_reference(reference)
    table = newest_bars(check_current(current, kept.columns), settings.window_bars)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} can't be the folder of the report: {error.strerror}. Give another one with --output"
            " FOLDER."
        ) from error
    drawn = write_evidently(folder / EVIDENTLY, result, kept, table, settings) if result["columns"] else []
    atomic_write_text(folder / SUMMARY, render(result, kept, table, settings, decision, drawn))
    atomic_write_text(folder / DATA, json.dumps(result, indent=1, allow_nan=False))
