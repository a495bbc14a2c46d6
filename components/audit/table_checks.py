"""Checks a factor or label table against its panel: duplicates, time reversals, gaps, rows of nowhere, claims
to have known too early.
"""

from collections.abc import Iterator, Sequence

import polars as pl

from components.audit.columns import Table, names_of
from components.audit.compare import ROWS, in_order
from components.audit.result import Leak
from components.contracts import CatalogEntry


def check_factor_table(
    factors: Table, panel: pl.DataFrame, catalog: Sequence[CatalogEntry] = ()
) -> list[Leak]:
    """Findings about the table as such:

    `duplicates`, `time_reversal`, `extra_rows`, `gap`, `known_time`, `catalog`.

    A gap is a bar of the panel, after a symbol's first factor row, that has no factor row.
    """
    key, names = ("timestamp", "symbol"), names_of(factors)
    keys = factors.lazy().select(*key, *({"known_time"} & set(names))).collect()
    leaks = [*_duplicates(keys, key), *_reversals(keys), *_extra_rows(keys, panel), *_gaps(keys, panel)]
    if "known_time" in names:
        leaks += _known_before_its_bar(keys, panel)
    missing = [entry.column for entry in catalog if entry.column not in names]
    leaks += [
        Leak(
            "catalog",
            name,
            detail="The catalog names this column, the table does not hold it. Run the features stage again",
        )
        for name in missing
    ]
    return leaks


def check_label_table(labels: Table, panel: pl.DataFrame) -> list[Leak]:
    """Findings about a label table as such: `duplicates`, `time_reversal`, `extra_rows`."""
    key = ("timestamp", "symbol", "horizon")
    keys = labels.lazy().select(key).collect()
    return [*_duplicates(keys, key), *_reversals(keys), *_extra_rows(keys, panel)]


def _duplicates(table: pl.DataFrame, key: Sequence[str]) -> Iterator[Leak]:
    keys = in_order(table.select(key), key)
    repeated = keys.filter(pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in key))
    if len(repeated):
        yield _finding("duplicates", repeated, f"({', '.join(key)}) occurs more than once")


def _reversals(table: pl.DataFrame) -> Iterator[Leak]:
    backwards = (table["timestamp"] < table["timestamp"].shift(1)).fill_null(False)
    if backwards.any():
        yield _finding("time_reversal", table.filter(backwards), "The row before is of a later time")


def _extra_rows(table: pl.DataFrame, panel: pl.DataFrame) -> Iterator[Leak]:
    bars = table.select("timestamp", "symbol")
    distinct = bars.filter(
        pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in bars.columns)
        .fill_null(False)
        .not_()
    )
    extra = distinct.join(
        panel.select("timestamp", "symbol"), on=["timestamp", "symbol"], how="anti", maintain_order="left"
    )
    if len(extra):
        yield _finding("extra_rows", extra, "The panel holds no such bar")


def _gaps(factors: pl.DataFrame, panel: pl.DataFrame) -> Iterator[Leak]:
    first = factors.group_by("symbol").agg(pl.col("timestamp").min().alias("__first"))
    missing = panel.select("timestamp", "symbol").join(
        factors.select("timestamp", "symbol"), on=["timestamp", "symbol"], how="anti", maintain_order="left"
    )
    gaps = missing.join(first, on="symbol", how="left", maintain_order="left").filter(
        (pl.col("timestamp") > pl.col("__first")) | pl.col("__first").is_null()
    )
    if len(gaps):
        yield _finding("gap", gaps, "The panel holds these bars, the table does not")


def _known_before_its_bar(factors: pl.DataFrame, panel: pl.DataFrame) -> Iterator[Leak]:
    known = factors.select("timestamp", "symbol", pl.col("known_time").alias("__claimed"))
    if "known_time" in panel.columns:
        known = known.join(
            panel.select("timestamp", "symbol", "known_time"),
            on=["timestamp", "symbol"],
            how="left",
            maintain_order="left",
        )
        early = known.filter(
            (pl.col("__claimed") < pl.col("timestamp")) | (pl.col("__claimed") < pl.col("known_time"))
        )
    else:
        early = known.filter(pl.col("__claimed") < pl.col("timestamp"))
    if len(early):
        yield _finding(
            "known_time", early, "known_time lies before the moment at which the row's own bar was known"
        )


def _finding(check: str, rows: pl.DataFrame, detail: str) -> Leak:
    first = rows.row(0, named=True)
    return Leak(check, ROWS, first["timestamp"], first["symbol"], rows=len(rows), detail=detail)
