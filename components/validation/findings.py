"""Findings: which row, why, and from when on that could be known; and the rows that are left without them."""

import polars as pl

PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume")
FINDING_SCHEMA = {"row": pl.Int64(), "reason": pl.String(), "detected_at": pl.Datetime("us", "UTC")}


def finding(rows: pl.DataFrame, reason: str, detected_at: pl.Expr | None = None) -> pl.DataFrame:
    """A finding for each of `rows`, known at the row's own timestamp unless `detected_at` says otherwise."""
    at = pl.col("timestamp") if detected_at is None else detected_at
    return rows.select("row", pl.lit(reason).alias("reason"), at.alias("detected_at")).cast(FINDING_SCHEMA)


def concat(found: list[pl.DataFrame]) -> pl.DataFrame:
    """Findings one under the other."""
    return pl.concat([pl.DataFrame(schema=FINDING_SCHEMA), *found])


def only(bars: pl.DataFrame, findings: pl.DataFrame) -> pl.DataFrame:
    """The rows that have a finding."""
    return bars.join(findings, on="row", how="semi")


def without(bars: pl.DataFrame, findings: pl.DataFrame) -> pl.DataFrame:
    """The rows that have no finding, in their order."""
    if findings.is_empty():
        return bars
    return bars.join(findings, on="row", how="anti", maintain_order="left")
