"""Feeds: rows of a slow table that share their times, typed (symbol, end of the observation, when it became
known, values), with what was refused counted.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from components.fusion.config import ColumnSettings, TableSettings
from components.fusion.errors import FusionError
from components.fusion.times import known_by_column, known_by_rule, observation_end

ROW, KEY, ENDS, KNOWN, COMPANY, REFUSED, CONTRADICTED = (
    "_row",
    "_key",
    "_ends",
    "_known",
    "_company",
    "_refused",
    "_contradicted",
)
MARKET = ""
EXAMPLES = 5
REASONS = {
    "no key": "the symbol, or the name of the series, is missing",
    "no observation time": "what time the row speaks of is missing",
    "no known time": "when the row became known is missing",
    "known before observed": "the row claims to have been known before its observation was complete",
}


@dataclass(frozen=True)
class Feed:
    """Rows that share their times, and the columns taken from them.

    `rows`: _row (position in the file), _key (symbol, empty for the market), _ends, _known (UTC), _company
    (String, null without), _contradicted (another row of the same symbol, company, observation and known time
    has other values), and a Float64 column a value before its transform, null where missing or out of range;
    sorted by (_key, _known, _row). `refused`: the rows that can't be used, with _refused. `out_of_range`:
    values that count as missing because of lowest and highest, by column. `conflicting`: values that count as
    missing, or whose last one was taken, because rows of the same symbol, company, observation and known time
    disagree.
    """

    table: TableSettings
    columns: tuple[ColumnSettings, ...]
    rows: pl.DataFrame
    refused: pl.DataFrame
    out_of_range: Mapping[str, int]
    conflicting: Mapping[str, int]

    @property
    def names(self) -> list[str]:
        """Names of the fused columns."""
        return [column.name for column in self.columns]


def make_feed(raw: pl.DataFrame, table: TableSettings, columns: Sequence[ColumnSettings]) -> Feed:
    """The feed of the columns that share their times: all of a wide table, one of a long one."""
    rows = _timed(raw, table, columns)
    ranged = rows.with_columns(
        pl.when(_in_range(column)).then(pl.col(column.name)).alias(column.name) for column in columns
    )
    lost = {
        column.name: rows[column.name].count() - ranged[column.name].count()
        for column in columns
        if (column.lowest, column.highest) != (None, None)
    }
    judged = ranged.with_columns(_refusal().alias(REFUSED))
    refused = judged.filter(pl.col(REFUSED).is_not_null())
    kept = judged.filter(pl.col(REFUSED).is_null()).drop(REFUSED).sort(KEY, KNOWN, ROW)
    names = [column.name for column in columns]
    marked, conflicting = _contradictions(kept, names, missing=table.conflicts == "missing")
    return Feed(table, tuple(columns), marked, refused, lost, conflicting)


def _timed(raw: pl.DataFrame, table: TableSettings, columns: Sequence[ColumnSettings]) -> pl.DataFrame:
    """The rows with key, times, company and values before range and transform."""
    first = columns[0]
    rows = _of_series(raw, first.source_column, table) if table.layout == "long" else raw
    frequency = first.frequency or table.frequency
    stamp = pl.col(table.observed)
    lag = first.release_lag_days if first.release_lag_days is not None else table.release_lag_days
    if table.known:
        known = known_by_column(pl.col(table.known), raw.schema[table.known], table)
    else:
        known = known_by_rule(stamp, frequency, lag, table)
    company = pl.col(table.company) if table.company else pl.lit(None, dtype=pl.String)
    return rows.select(
        ROW,
        _key(table).alias(KEY),
        observation_end(stamp, frequency, table).alias(ENDS),
        known.alias(KNOWN),
        company.alias(COMPANY),
        *(_value(column, table).alias(column.name) for column in columns),
    )


def _of_series(raw: pl.DataFrame, name: str, table: TableSettings) -> pl.DataFrame:
    rows = raw.filter(pl.col(table.series) == name)
    if rows.is_empty():
        names = raw[table.series].drop_nulls().unique().sort().to_list()
        close = difflib.get_close_matches(name, names, n=1)
        advice = f"Did you mean {close[0]!r}?" if close else f"It has {len(names)}: " + ", ".join(names[:20])
        raise FusionError(f"{table.path} has no series {name!r} (fusion table {table.name!r}). {advice}")
    return rows


def _contradictions(
    rows: pl.DataFrame, names: Sequence[str], *, missing: bool
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows with _contradicted, how many values contradict each other by column; these become null if
    `missing`.
    """
    same = [KEY, COMPANY, ENDS, KNOWN]
    repeated = rows.filter(pl.struct(same).is_duplicated())
    versions = {name: pl.col(name).n_unique() - pl.col(name).is_null().any() for name in names}
    disagrees = repeated.select(
        ROW, *((count > 1).over(same).alias(f"_not_{name}") for name, count in versions.items())
    )
    marked = rows.join(disagrees, on=ROW, how="left", maintain_order="left").with_columns(
        pl.col(f"_not_{name}").fill_null(False) for name in names
    )
    counts = {name: marked.filter(pl.col(f"_not_{name}"))[name].count() for name in names}
    values = [
        pl.when(~pl.col(f"_not_{name}")).then(pl.col(name)).alias(name) if missing else pl.col(name)
        for name in names
    ]
    contradicted = pl.any_horizontal(f"_not_{name}" for name in names).alias(CONTRADICTED)
    return marked.select(ROW, KEY, ENDS, KNOWN, COMPANY, contradicted, *values), counts


def _key(table: TableSettings) -> pl.Expr:
    if table.key == "market":
        return pl.lit(MARKET)
    symbol = pl.col(table.symbol).str.strip_chars()
    symbol = symbol.str.to_uppercase() if table.upper_case else symbol
    symbol = symbol.replace(table.symbols) if table.symbols else symbol
    return pl.when(symbol.str.len_bytes() > 0).then(symbol)


def _value(column: ColumnSettings, table: TableSettings) -> pl.Expr:
    value = pl.col(table.value if table.layout == "long" else column.source_column)
    value = value / pl.col(column.divide_by) if column.divide_by else value
    value = value * column.scale
    return pl.when(value.is_finite()).then(value)


def _in_range(column: ColumnSettings) -> pl.Expr:
    value = pl.col(column.name)
    inside = pl.lit(True)
    inside = inside & (value >= column.lowest) if column.lowest is not None else inside
    return inside & (value <= column.highest) if column.highest is not None else inside


def _refusal() -> pl.Expr:
    return (
        pl.when(pl.col(KEY).is_null())
        .then(pl.lit("no key"))
        .when(pl.col(ENDS).is_null())
        .then(pl.lit("no observation time"))
        .when(pl.col(KNOWN).is_null())
        .then(pl.lit("no known time"))
        .when(pl.col(KNOWN) < pl.col(ENDS))
        .then(pl.lit("known before observed"))
        .otherwise(None)
    )


def example_rows(feed: Feed, reason: str) -> list[dict[str, Any]]:
    """The first refused rows of one kind, JSON-able."""
    found = feed.refused.filter(pl.col(REFUSED) == reason).head(EXAMPLES)
    return [
        {"row": row[ROW], "symbol": row[KEY], "complete": str(row[ENDS]), "known": str(row[KNOWN])}
        for row in found.to_dicts()
    ]
