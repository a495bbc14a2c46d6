"""Columns of a table that is not held as a whole: read some at a time, and only where a check looks."""

from collections.abc import Iterator, Sequence

import polars as pl

COLUMNS_AT_ONCE = 16

Table = pl.DataFrame | pl.LazyFrame


def in_blocks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """The names in their order, as many at a time as are read together."""
    return (names[first : first + COLUMNS_AT_ONCE] for first in range(0, len(names), COLUMNS_AT_ONCE))


def columns_at(table: Table, names: Sequence[str], rows: pl.Series) -> Iterator[pl.Series]:
    """Each column at rows by number, null for a null number."""
    for block in in_blocks(names):
        yield from table.lazy().select(pl.col(block).gather(rows)).collect().iter_columns()


def numbered_keys(table: Table, key: Sequence[str]) -> pl.DataFrame:
    """The key of each row and its number in `__row`."""
    return table.lazy().select(key).collect().with_row_index("__row")


def names_of(table: Table) -> list[str]:
    return table.collect_schema().names()


def row_count(table: Table) -> int:
    return table.lazy().select(pl.len()).collect().item()
