"""Bars that are there more than once: which version counts, and which are set aside."""

import polars as pl

from components.validation.findings import NUMBERS, concat, finding, only


def duplicates(numbered: pl.DataFrame) -> pl.DataFrame:
    """Rows that repeat a (timestamp, symbol).

    Identical repeats: the one known first stays. Conflicting ones: if a single version was known before the
    others it stays, because it is what could be traded on, and the others are revisions; otherwise none is
    believed.
    """
    key = ["timestamp", "symbol"]
    repeated = numbered.filter(pl.len().over(key) > 1).sort(*key, "known_time", "row")
    if repeated.is_empty():
        return concat([])
    known = pl.col("known_time")
    same = pl.all_horizontal(*(pl.col(name) == pl.col(name).first().over(key) for name in NUMBERS))
    repeated = repeated.with_columns(
        pl.int_range(pl.len()).over(key).alias("place"),
        (known == known.min().over(key)).alias("first_known"),
    ).with_columns(
        pl.struct(NUMBERS).filter("first_known").n_unique().over(key).alias("first_versions"),
        same.alias("same_as_first"),
    )
    one_came_first = pl.col("first_versions") == 1
    identical = (pl.col("place") > 0) & one_came_first & pl.col("same_as_first")
    revision = one_came_first & ~pl.col("same_as_first")
    conflicting = pl.col("first_versions") > 1
    at = pl.max_horizontal("timestamp", "known_time")
    return concat(
        [
            finding(repeated.filter(identical), "duplicate_identical", at),
            finding(repeated.filter(revision), "revision", at),
            finding(repeated.filter(conflicting), "duplicate_conflicting", at),
        ]
    )


def witnesses(whole: pl.DataFrame, repeats: pl.DataFrame) -> pl.DataFrame:
    """One version of each bar whose versions disagree: not believed, but enough to tell a jump of level from
    a slow move across the missing bars.
    """
    conflicting = repeats.filter(pl.col("reason") == "duplicate_conflicting")
    return one_a_key(only(whole, conflicting))


def one_a_key(bars: pl.DataFrame) -> pl.DataFrame:
    """The first row of each (timestamp, symbol), in their order."""
    return bars.unique(["timestamp", "symbol"], keep="first", maintain_order=True)
