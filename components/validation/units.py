"""Prices that are quoted in another unit for a while and come back: these bars go, none before them."""

import numpy as np
import polars as pl

from components.validation.usual import USUAL_BARS

FOUND = "other_unit"
# Smallest ratio of two units, and longest stay in the other one, in bars.
LEAST_RATIO = 1.5
LONGEST_STAY = USUAL_BARS
# How far the way back may differ from the way there, besides a usual range (log).
TOLERANCE = 0.03
# Range of both bars as a share of the jump: prices do not move about while only their unit changes.
SMALL_RANGE_SHARE = 0.2


def excursions(gaps: pl.DataFrame, jumps: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The bars of `gaps` between a jump and the jump back, and the other `jumps`.

    The bars have `row`, `timestamp`, `reason`, `jump`, `back_at` (the bar of the return, when this is known)
    and `begins` (true for the first of them).
    """
    paired = _paired(jumps)
    there = paired.filter("begins").select(
        "symbol", pl.col("timestamp").alias("there_at"), "back_at", pl.col("jump")
    )
    others = jumps.join(paired, on="row", how="anti", maintain_order="left")
    within = pl.col("timestamp").is_between("there_at", "back_at", closed="left")
    bars = (
        gaps.drop("jump")
        .join(there, on="symbol")
        .filter(within)
        .select(
            "row",
            "timestamp",
            "jump",
            "back_at",
            pl.lit(FOUND).alias("reason"),
            (pl.col("timestamp") == pl.col("there_at")).alias("begins"),
        )
    )
    return bars, others


def _paired(jumps: pl.DataFrame) -> pl.DataFrame:
    """The jumps that lead away (`begins`) and those that lead back; each belongs to one pair."""
    abrupt = pl.col("span") <= SMALL_RANGE_SHARE * pl.col("size")
    large = pl.col("size") > float(np.log(LEAST_RATIO))
    by = "symbol"
    following = {name: pl.col(name).shift(-1).over(by) for name in ("jump", "bar", "timestamp")}
    cancels = (pl.col("jump") + following["jump"]).abs() <= TOLERANCE + pl.col("usual_range").clip(0.0, 0.05)
    soon = following["bar"].cast(pl.Int64) - pl.col("bar").cast(pl.Int64) <= LONGEST_STAY
    chained = (
        jumps.filter(abrupt & large)
        .sort(by, "timestamp")
        .with_columns(
            (cancels & soon).fill_null(False).alias("leads"), following["timestamp"].alias("back_at")
        )
        # There and back and there again: within a chain of such jumps every second one leads away.
        .with_columns(pl.struct(by, "leads").rle_id().alias("chain"))
        .with_columns((pl.int_range(pl.len()).over("chain") % 2 == 0).alias("even"))
        .with_columns((pl.col("leads") & pl.col("even")).alias("begins"))
    )
    returns = pl.col("begins").shift(1).over(by).fill_null(False)
    return chained.filter(pl.col("begins") | returns)
