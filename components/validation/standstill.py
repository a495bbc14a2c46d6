"""Bars in which nothing moves: stale prices of a symbol, and dates on which the exchange was closed."""

import polars as pl

from components.validation.findings import PRICES, concat, finding

# Identical bars in a row from which on a price counts as stale.
STALE_BARS = 5


def stale_prices(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars that repeat their predecessors, from the `STALE_BARS`-th of a run on: before that nobody could
    tell.
    """
    same = pl.all_horizontal(*((pl.col(name) == pl.col(name).shift(1)) for name in ("symbol", *PRICES)))
    quiet = (pl.col("volume") == 0) | (pl.col("volume") == pl.col("volume").shift(1))
    runs = bars.with_columns((same & quiet).fill_null(False).alias("repeats")).with_columns(
        (~pl.col("repeats")).cum_sum().alias("run")
    )
    length = pl.int_range(1, pl.len() + 1).over("run")
    return finding(runs.filter(pl.col("repeats") & (length >= STALE_BARS)), "stale_price")


def frozen_symbols(bars: pl.DataFrame, stale: pl.DataFrame) -> tuple[str, ...]:
    """Symbols whose newest bar, at the end of the panel, is stale."""
    newest = bars.filter(pl.col("timestamp") == pl.col("timestamp").max())
    return tuple(newest.join(stale, on="row", how="semi")["symbol"].sort())


# Symbols that must have a bar which repeats the one before, volume and all, and no symbol another.
COPIED_SYMBOLS = 3


def dead_cross_sections(bars: pl.DataFrame, silent: pl.Series) -> pl.DataFrame:
    """Timestamps at which two symbols or more have a bar and none has volume, or all bars are copies.

    A source without any volume has none of them, and the `silent` symbols, whose volume says nothing, are not
    asked.
    """
    asked = bars.filter(~pl.col("symbol").is_in(silent.implode()))
    if not (asked["volume"] > 0).any():
        return concat([])
    totals = asked.group_by("timestamp").agg(pl.len().alias("symbols"), pl.col("volume").max().alias("most"))
    dead = totals.filter((pl.col("symbols") > 1) & (pl.col("most") == 0)).select("timestamp")
    dead = pl.concat([dead, _copied(asked)]).unique()
    return finding(bars.join(dead, on="timestamp", how="semi"), "dead_cross_section")


def _copied(bars: pl.DataFrame) -> pl.DataFrame:
    """Timestamps of which every bar repeats the one before in its prices and its volume, which is above 0."""
    same = [pl.col(name) == pl.col(name).shift(1) for name in (*PRICES, "volume")]
    copy = pl.all_horizontal(*same).over("symbol").fill_null(False) & (pl.col("volume") > 0)
    ordered = bars.sort("symbol", "timestamp").select("timestamp", copy.alias("copy"))
    dates = ordered.group_by("timestamp").agg(pl.len().alias("symbols"), pl.col("copy").all())
    return dates.filter(pl.col("copy") & (pl.col("symbols") >= COPIED_SYMBOLS)).select("timestamp")
