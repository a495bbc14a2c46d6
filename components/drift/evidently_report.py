"""Evidently's pages of the columns that matter, drawn from a sample; the numbers on them are those of the
whole tables.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.contracts import atomic_path
from components.contracts.documents.drift import ColumnDrift, DriftReport
from components.drift.config import Settings
from components.drift.reference import Reference
from components.drift.windows import PSI_BINS
from components.page import render, write_page

KS, PSI = "alphaloop_ks", "alphaloop_psi"


def write_evidently(
    path: Path, report: DriftReport, kept: Reference, table: pl.DataFrame, settings: Settings
) -> list[str]:
    """Write a self-contained page with two pictures a column; returns the columns on it, those that moved
    most first.

    Evidently's own tests take rows as independent, and its stability index ignores the number of bins
    (evidentlyai/evidently issue 1400): two tests of ours are registered with it, which give the numbers of
    `report`.
    """
    entries = {entry.column: entry for entry in report.furthest_first()}
    drawn = [name for name in entries if _has_values(kept.sample, name) and _has_values(table, name)]
    drawn = drawn[: settings.page_columns]
    if not drawn:
        write_page(path, "drift/nothing_drawn.html")
        return []
    now, then = (_sampled(frame.select(drawn), settings) for frame in (table, kept.sample))
    note = render(
        "drift/evidently_note.html",
        sampled_now=len(now),
        rows_now=len(table),
        sampled_then=len(then),
        rows_then=kept.about.rows,
        columns=len(entries),
        psi_bins=PSI_BINS,
    )
    snapshot = _run_evidently(drawn, now, then, entries, settings)
    with atomic_path(path) as temporary:
        snapshot.save_html(str(temporary.with_suffix(".html")))
        page = temporary.with_suffix(".html").read_text(encoding="utf-8")
        temporary.write_text(page.replace("<body>", f"<body>{note}", 1), encoding="utf-8")
    return drawn


def _run_evidently(
    drawn: list[str],
    now: pl.DataFrame,
    then: pl.DataFrame,
    entries: Mapping[str, ColumnDrift],
    settings: Settings,
) -> Any:
    """Evidently's snapshot of our two numbers for each column."""
    import os

    os.environ.setdefault("DO_NOT_TRACK", "true")
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    _register(entries, settings)
    definition = DataDefinition(numerical_columns=drawn)
    current, reference = (
        Dataset.from_pandas(frame.to_pandas(), data_definition=definition) for frame in (now, then)
    )
    metrics = [
        ValueDrift(column=name, method=method, threshold=threshold)
        for name in drawn
        for method, threshold in ((KS, settings.ks_p), (PSI, settings.psi))
    ]
    return Report(metrics).run(current, reference)


def _register(entries: Mapping[str, ColumnDrift], settings: Settings) -> None:
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def look_up(key: str, rule: str):
        def test(reference_data, current_data, feature_type, threshold):
            entry = entries[current_data.name if current_data.name in entries else reference_data.name]
            value = getattr(entry, key)
            return (1.0 if value is None else value), rule in entry.rules

        return test

    kinds = [ColumnType.Numerical]
    register_stattest(
        StatTest(
            name=KS,
            display_name="K-S p-value, effective rows, corrected",
            allowed_feature_types=kinds,
            default_threshold=settings.ks_p,
        ),
        look_up("ks_p_adjusted", "ks"),
    )
    register_stattest(
        StatTest(
            name=PSI,
            display_name=f"PSI, {PSI_BINS} quantile bins",
            allowed_feature_types=kinds,
            default_threshold=settings.psi,
        ),
        look_up("psi", "psi"),
    )


def _sampled(frame: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """At most `sample_rows` rows, in their order."""
    if len(frame) <= settings.sample_rows:
        return frame
    return frame[
        np.sort(np.random.default_rng(settings.seed).choice(len(frame), settings.sample_rows, replace=False))
    ]


def _has_values(frame: pl.DataFrame, name: str) -> bool:
    return name in frame.columns and frame[name].is_not_null().any()
