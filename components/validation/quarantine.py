"""The two tables that a raw panel is parted into: the clean panel, and the quarantine with a reason a row."""

import polars as pl

from components.contracts import PANEL, RAW_PANEL, TIME, Table
from components.validation.examine import Examination
from components.validation.rules import RULES

# A raw panel's rows that were set aside. `row` is the position in the raw table, from 0; `reason` the first
# of `all_reasons` in the order of RULES; `detected_at` the timestamp at which the fault could first have been
# known.
QUARANTINE = Table(
    name="quarantine",
    version=1,
    columns={
        **RAW_PANEL.columns,
        "row": pl.Int64(),
        "reason": pl.String(),
        "all_reasons": pl.String(),
        "severity": pl.String(),
        "detected_at": TIME,
    },
    key=(),
    optional=RAW_PANEL.optional,
)


def clean_panel(clean: pl.DataFrame) -> pl.DataFrame:
    """Contract columns in order, NaN in optional columns as null."""
    optional = [name for name in PANEL.optional if name in clean.columns]
    numbers = [name for name in optional if clean.schema[name].is_float()]
    return clean.select(*PANEL.columns, *optional).with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in numbers
    )


def quarantined_rows(raw: pl.DataFrame, found: Examination) -> pl.DataFrame:
    """The rows of `raw` that were set aside, with all their reasons; columns of QUARANTINE."""
    ranked = pl.DataFrame(
        {
            "reason": [rule.reason for rule in RULES],
            "rank": range(len(RULES)),
            "severity": [rule.severity for rule in RULES],
        }
    )
    grave = found.findings.join(ranked, on="reason").filter(pl.col("severity") == "quarantine")
    reasons = (
        grave.sort("row", "rank")
        .group_by("row", maintain_order=True)
        .agg(
            pl.col("reason").first(),
            pl.col("reason").str.join(", ").alias("all_reasons"),
            pl.col("severity").first(),
            pl.col("detected_at").first(),
        )
    )
    optional = [name for name in RAW_PANEL.optional if name in raw.columns]
    return raw[reasons["row"]].hstack(reasons).select(*QUARANTINE.columns, *optional)
