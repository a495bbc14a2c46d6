"""Writes what was found: drift.json for machines, index.html for reviewers, evidently.html with the pictures
behind it.
"""

from pathlib import Path

import polars as pl

from components.contracts import OutputError
from components.contracts.documents.drift import DriftReport
from components.drift.config import Settings
from components.drift.evidently_report import write_evidently
from components.drift.page import write_summary
from components.drift.reference import read_reference
from components.drift.tables import check_current, newest_bars

DATA, SUMMARY, EVIDENTLY = "drift.json", "index.html", "evidently.html"


def write_reports(
    folder: Path,
    report: DriftReport,
    reference: Path,
    current: pl.DataFrame,
    settings: Settings,
) -> None:
    """Write the three files into `folder`.

    Parameters
    ----------
    report : of `detect`
    reference, current : what `detect` was given
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
    drawn = write_evidently(folder / EVIDENTLY, report, kept, table, settings) if report.columns else []
    write_summary(folder / SUMMARY, report, kept, table, settings, drawn)
    report.write(folder / DATA)
