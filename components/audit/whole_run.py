"""The whole audit of one run: both tables as they stand, factors, labels and their join."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from components.audit.builders import Builder, Pieces
from components.audit.columns import Table, row_count
from components.audit.config import Settings
from components.audit.factors import audit_factors
from components.audit.labels import audit_labels
from components.audit.result import AuditResult, merge_leaks
from components.audit.scene import factor_columns
from components.audit.table_checks import check_factor_table, check_label_table
from components.audit.too_good import too_good
from components.contracts import CatalogEntry


@dataclass(frozen=True)
class Tables:
    """What the stages before handed over: PANEL (with the columns that factors may read), FACTORS, LABELS and
    the catalog of the factors.

    Of factors that are a scan some columns at a time are held. The catalog may be empty: then the whole
    history before each cut is rebuilt, which is slower.
    """

    panel: pl.DataFrame
    factors: Table
    labels: Table
    catalog: Sequence[CatalogEntry]


@dataclass(frozen=True)
class InPieces:
    """What makes factors and labels in blocks of bars, where the whole history does not fit at once."""

    factors: Pieces | None = None
    labels: Pieces | None = None


def audit_run(
    tables: Tables,
    build_factors: Builder,
    build_labels: Builder,
    *,
    settings: Settings,
    seed: int,
    in_pieces: InPieces = InPieces(),
) -> AuditResult:
    """All checks over the tables of a run and the functions that made them; raises AuditError where one of
    these fails.
    """
    panel, factors, labels, catalog = tables.panel, tables.factors, tables.labels, tables.catalog
    schema = factors.collect_schema()
    numeric = [name for name in factor_columns(factors) if schema[name].is_numeric()]
    as_they_stand = [*check_factor_table(factors, panel, catalog), *check_label_table(labels, panel)]
    join = too_good(factors, labels, numeric)
    of_labels = audit_labels(
        panel,
        build_labels,
        cuts=settings.cuts,
        seed=seed,
        labels=labels,
        in_pieces=in_pieces.labels,
        settings=settings,
    )
    of_factors = audit_factors(
        panel,
        build_factors,
        cuts=settings.cuts,
        seed=seed,
        factors=factors,
        warm_up_bars=max((entry.warm_up_bars for entry in catalog), default=None),
        declared={entry.column: entry.warm_up_bars for entry in catalog},
        in_pieces=in_pieces.factors,
        settings=settings,
    )
    leaks = [*as_they_stand, *of_factors.leaks, *of_labels.leaks, *join]
    checked = {
        "seed": seed,
        **of_factors.checked,
        **of_labels.checked,
        "factor_rows": row_count(factors),
        "label_rows": row_count(labels),
        "panel_rows": len(panel),
    }
    return replace(of_factors, leaks=merge_leaks(leaks), checked=checked)
