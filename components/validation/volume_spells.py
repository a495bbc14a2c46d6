"""Volume of several symbols that is in another unit for a few bars, such as one day in shares for lots."""

import numpy as np
import polars as pl

from components.validation.findings import concat, finding
from components.validation.volumes import CALM_RANGE_RATIO, UNIT_BARS, before_unit

FOUND_SPELL = "volume_spell"
# Smallest factor of the unit: news, holidays and closing auctions of a whole market stay below it.
LEAST_FACTOR = 30.0
# How far the symbols' factors may lie, in the median, from a power of ten, and each from that median (log).
TEN_TOLERANCE, ALIKE_TOLERANCE = 0.35, 1.2
# Symbols, and their share of those at the bar, that must change together.
TOGETHER_SYMBOLS, TOGETHER_SHARE = 3, 0.25
# Bars in a row of such a spell, and spells in a panel, at most: what comes again and again is no fault.
LONGEST_SPELL, MOST_SPELLS = 15, 3


def volume_spells(bars: pl.DataFrame, units: pl.DataFrame) -> pl.DataFrame:
    """Bars whose volume is in another unit than before and after, found in several symbols at once while
    ranges stay as they are.

    Parameters
    ----------
    bars : `row`, key, `high`, `low`, `volume`
    units : lasting changes, as `volume_units` gives them; what lies before them is not asked
    """
    measured = _measured(bars.join(before_unit(units), on="symbol", how="left", maintain_order="left"))
    share = pl.len().over("timestamp") / pl.col("present")
    together = (pl.len().over("timestamp") >= TOGETHER_SYMBOLS) & (share >= TOGETHER_SHARE)
    apart = measured.filter(pl.col("away").abs() > float(np.log(LEAST_FACTOR))).filter(together)
    dates = apart.select("timestamp", "bar").unique().sort("bar")
    dates = dates.with_columns(
        (pl.col("bar").cast(pl.Int64).diff() > 1).fill_null(True).cum_sum().alias("spell")
    )
    if dates.is_empty() or dates["spell"].max() > MOST_SPELLS:
        return concat([])
    spells = apart.join(dates, on="timestamp").with_columns(
        pl.col("away").median().over("spell").alias("factor"),
        pl.col("ranges")
        .median()
        .is_between(1 / CALM_RANGE_RATIO, CALM_RANGE_RATIO)
        .over("spell")
        .alias("calm"),
        (pl.col("timestamp").n_unique().over("spell") <= LONGEST_SPELL).alias("short"),
    )
    tens = float(np.log(10))
    to_ten = (pl.col("factor") - (pl.col("factor") / tens).round() * tens).abs()
    alike = (pl.col("away") - pl.col("factor")).abs() <= ALIKE_TOLERANCE
    spells = spells.filter(pl.col("calm") & pl.col("short") & alike & (to_ten <= TEN_TOLERANCE))
    return finding(spells, FOUND_SPELL, pl.col("seen_at"))


def _measured(bars: pl.DataFrame) -> pl.DataFrame:
    """How far each bar's volume is `away` (log), and its `ranges`, from the medians of the bars around it."""
    by, window = "symbol", 2 * UNIT_BARS + 1
    asked = (pl.col("volume") > 0) & (pl.col("timestamp") >= pl.col("unit_from")).fill_null(True)
    bars = bars.sort(by, "timestamp").with_columns(
        pl.when(asked).then(pl.col("volume").log()).alias("log_volume"),
        (pl.col("high") / pl.col("low")).log().alias("span"),
    )

    def around(name: str) -> pl.Expr:
        return pl.col(name).rolling_median(window, min_samples=UNIT_BARS, center=True).over(by)

    return bars.select(
        "row",
        by,
        "timestamp",
        (pl.col("log_volume") - around("log_volume")).alias("away"),
        (pl.col("span") / around("span")).alias("ranges"),
        pl.len().over("timestamp").alias("present"),
        pl.col("timestamp").rank("dense").alias("bar"),
        pl.coalesce(
            pl.col("timestamp").shift(-UNIT_BARS).over(by), pl.col("timestamp").last().over(by)
        ).alias("seen_at"),
    )
