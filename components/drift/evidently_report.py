"""Evidently's pages of the columns that matter, drawn from a sample; the numbers on them are those of the
whole tables.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.contracts import atomic_path
from components.drift.config import Settings
from components.drift.reference import Reference

KS, PSI = "alphaloop_ks", "alphaloop_psi"


def write_evidently(
    path: Path, result: Mapping[str, Any], kept: Reference, table: pl.DataFrame, settings: Settings
) -> list[str]:
    """Write a self-contained page with two pictures a column; returns the columns on it, those that moved
    most first.

    Evidently's own tests take rows as independent, and its stability index ignores the number of bins
    (evidentlyai/evidently issue 1400): two tests of ours are registered with it, which give the numbers of
    `result`.
    """
    import os

    os.environ.setdefault("DO_NOT_TRACK", "true")
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    entries = {entry["column"]: entry for entry in ordered(result)}
    drawn = [name for name in entries if _has_values(kept.sample, name) and _has_values(table, name)][
        : settings.page_columns
    ]
    if not drawn:
        with atomic_path(path) as temporary:
            temporary.write_text(
                "<!doctype html><meta charset=utf-8><title>Evidently</title><p>Nothing was measured, so"
                " nothing is drawn.</p>",
                encoding="utf-8",
            )
        return []
    _register(entries, settings)
    definition = DataDefinition(numerical_columns=drawn)
    samples = [_sampled(frame.select(drawn), settings) for frame in (table, kept.sample)]
    current, reference = (
        Dataset.from_pandas(frame.to_pandas(), data_definition=definition) for frame in samples
    )
    metrics = [
        ValueDrift(column=name, method=method, threshold=threshold)
        for name in drawn
        for method, threshold in ((KS, settings.ks_p), (PSI, settings.psi))
    ]
    snapshot = Report(metrics).run(current, reference)
    note = (
        f"Pictures show a sample: {len(samples[0]):,} of {len(table):,} current and {len(samples[1]):,} of"
        f" {kept.about['rows']:,} reference rows. The numbers are those of all rows: p-values with effective"
        f" rows and corrected for {len(entries)} columns, stability index in {settings.psi_bins} bins. A"
        " column counts as moved only where it also passes what training windows show: see <a"
        ' href="index.html">the summary</a>.'
    )
    with atomic_path(path) as temporary:
        snapshot.save_html(str(temporary.with_suffix(".html")))
        page = temporary.with_suffix(".html").read_text(encoding="utf-8")
        temporary.write_text(
            page.replace(
                "<body>",
                f'<body><p style="font:15px/1.5 system-ui,sans-serif;margin:1rem 2rem">{note}</p>',
                1,
            ),
            encoding="utf-8",
        )
    return drawn


def ordered(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Columns and score, those that moved first, then by how far beyond the usual."""
    entries = [*result["columns"], *([result["predictions"]] if result["predictions"] else [])]
    return sorted(
        entries, key=lambda e: (not e["drifted"], -((e["ks"] or 0.0) - (e["usual_ks"] or 0.0)), e["column"])
    )


def _register(entries: Mapping[str, Mapping[str, Any]], settings: Settings) -> None:
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def look_up(key: str, rule: str):
        def test(reference_data, current_data, feature_type, threshold):
            entry = entries[current_data.name if current_data.name in entries else reference_data.name]
            return (1.0 if entry[key] is None else entry[key]), rule in entry["rules"]

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
            display_name=f"PSI, {settings.psi_bins} quantile bins",
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
