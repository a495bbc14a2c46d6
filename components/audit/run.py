"""The whole audit of one run: both tables as they stand, factors, labels and their join, and the two files it
leaves.
"""

import os
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from components.audit.builders import Builder
from components.audit.config import Settings
from components.audit.factors import audit_factors, factor_columns
from components.audit.labels import audit_labels, too_good
from components.audit.page import page_html
from components.audit.result import AuditResult, merge_leaks
from components.audit.table_checks import check_factor_table, check_label_table
from components.contracts import CatalogEntry, atomic_write_text


def run_audit(
    panel: pl.DataFrame,
    factors: pl.DataFrame,
    labels: pl.DataFrame,
    catalog: Sequence[CatalogEntry],
    build_factors: Builder,
    build_labels: Builder,
    *,
    settings: Settings,
    seed: int,
) -> AuditResult:
    """All checks over the tables of a run and the functions that made them; raises AuditError where one of
    these fails.

    `catalog` may be empty: then the whole history before each cut is rebuilt, which is slower.
    """
    numeric = [name for name in factor_columns(factors) if factors.schema[name].is_numeric()]
    tables = [*check_factor_table(factors, panel, catalog), *check_label_table(labels, panel)]
    join = too_good(factors, labels, numeric, settings)
    warm_up = max((entry.warm_up_bars for entry in catalog), default=None)
    of_labels = audit_labels(
        panel, build_labels, cuts=settings.cuts, seed=seed, labels=labels, settings=settings
    )
    declared = {entry.column: entry.warm_up_bars for entry in catalog}
    of_factors = audit_factors(
        panel,
        build_factors,
        cuts=settings.cuts,
        seed=seed,
        factors=factors,
        warm_up_bars=warm_up,
        declared=declared,
        settings=settings,
    )
    checked = {
        "seed": seed,
        **of_factors.checked,
        **of_labels.checked,
        "factor_rows": len(factors),
        "label_rows": len(labels),
        "panel_rows": len(panel),
    }
    return replace(
        of_factors, leaks=merge_leaks([*tables, *of_factors.leaks, *of_labels.leaks, *join]), checked=checked
    )


def with_slow_columns(panel: pl.DataFrame, fused: pl.DataFrame | None) -> pl.DataFrame:
    """The panel with the columns of a `FUSED` table, as the features stage hands it to its builder; the panel
    itself without one.
    """
    return (
        panel
        if fused is None
        else panel.join(fused, on=["timestamp", "symbol"], how="left", maintain_order="left")
    )


def write_audit(result: AuditResult, json_path: str | os.PathLike, page_path: str | os.PathLike) -> None:
    """Write the result as JSON and as a self-contained page."""
    result.write_json(json_path)
    atomic_write_text(page_path, page_html(result))
