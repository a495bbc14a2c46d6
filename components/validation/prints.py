"""Prices that are not to be believed: bad prints, and a newest cross-section that was read too early."""

import numpy as np
import polars as pl

from components.validation.findings import concat, finding
from components.validation.listing import MIN_MARKET_SYMBOLS
from components.validation.usual import PRINT_VOLUME_RATIO, REVERT_SHARE, USUAL_BARS, usual

# Times the usual share of inconsistent bars from which on the newest cross-section stands out.
TYPICAL_FAULT_MULTIPLE = 20
# Inconsistent bars below which nothing is said of the newest cross-section.
MIN_FAULTY_BARS = 3
# Size of a bad print in usual bar ranges.
BAD_PRINT_SIGMA = 8.0
# Smallest relative move of a bad print.
BAD_PRINT_MOVE = 0.2
# A high or low beyond this multiple of all other prices of its bar is a bad print at any volume.
WICK_RATIO = 3.0
# Median volume of the newest cross-section, in usual volumes, below which it is not final.
LAST_BAR_VOLUME_RATIO = 0.4
# Median range of the newest cross-section, in usual ranges, below which it is not final.
LAST_BAR_RANGE_RATIO = 0.7
# Share of inconsistent bars in the newest cross-section from which on it is not final.
LAST_BAR_FAULT_SHARE = 0.005


def last_bar(bars: pl.DataFrame, inconsistent: pl.DataFrame) -> pl.DataFrame:
    """The newest cross-section, where it shows signs of bars read before they ended.

    Signs: volume and range of most symbols far below usual, or many more bars than ever before whose prices
    contradict each other (parts of such a bar come from different moments). A short session may be taken for
    one: it costs a bar.
    """
    if bars.is_empty():
        return concat([])
    newest = bars["timestamp"].max()
    recent = bars.filter(pl.int_range(pl.len(), 0, -1).over("symbol") <= USUAL_BARS + 1)
    now = usual(recent).filter(pl.col("timestamp") == newest)
    faulty = len(inconsistent.filter(pl.col("timestamp") == newest))
    share = faulty / (faulty + len(now)) if len(now) else 0.0
    usual_share = (len(inconsistent) - faulty) / max(len(bars), 1)
    contradicts = (
        faulty >= MIN_FAULTY_BARS
        and share >= LAST_BAR_FAULT_SHARE
        and share > TYPICAL_FAULT_MULTIPLE * usual_share
    )
    not_final = pl.lit(bool(_far_below_usual(now) or contradicts))
    return finding(bars.filter((pl.col("timestamp") == newest) & not_final), "last_bar_not_final")


def _far_below_usual(now: pl.DataFrame) -> bool:
    """Whether volume and range of a cross-section, in the median, are those of a bar that has just begun."""
    if len(now) < MIN_MARKET_SYMBOLS:
        return False
    volume, span = now["volume_ratio"].median(), (now["span"] / now["usual_range"]).median()
    if volume is None or span is None:
        return False
    return volume < LAST_BAR_VOLUME_RATIO and span < LAST_BAR_RANGE_RATIO


def bad_prints(bars: pl.DataFrame) -> pl.DataFrame:
    """Prices far from their neighbours, on ordinary volume, that come straight back.

    A high, low or open that the bar itself contradicts is known when the bar ends; a close only when the next
    bar opens. Real crashes differ: volume is far above usual, and the next open lies beside the close.
    """
    bars = usual(bars)
    far = BAD_PRINT_SIGMA * pl.col("usual_range") * pl.col("market_range").clip(1.0)
    threshold = pl.max_horizontal(far, pl.lit(float(np.log1p(BAD_PRINT_MOVE))))
    # Valued at the price before: a crash does not look calm because what is sold has lost its value.
    at_old_price = pl.col("turnover_ratio") * pl.col("previous") / pl.col("close")
    trading = pl.min_horizontal("volume_ratio", at_old_price)
    calm = (trading <= PRINT_VOLUME_RATIO).fill_null(False)
    before = pl.coalesce("previous", "open")
    up = (pl.col("high") / pl.max_horizontal("open", "close", before)).log()
    down = (pl.min_horizontal("open", "close", before) / pl.col("low")).log()
    wick = pl.max_horizontal(up, down)
    wick_print = (calm & (wick > threshold)) | (wick > float(np.log(WICK_RATIO)))
    gap = pl.col("gap") - pl.col("market_gap")
    move = (pl.col("close") / pl.col("previous")).log()
    open_print = calm & (gap.abs() > threshold) & (move.abs() < REVERT_SHARE * gap.abs())
    after = (pl.col("next_open") / pl.col("previous")).log()
    spike = move - pl.col("market_gap")
    close_print = calm & (spike.abs() > threshold) & (after.abs() < REVERT_SHARE * spike.abs())
    flags = bars.select(
        "row",
        "timestamp",
        pl.col("timestamp").shift(-1).over("symbol").alias("next_timestamp"),
        (wick_print | open_print).fill_null(False).alias("within"),
        close_print.fill_null(False).alias("across"),
    )
    return concat(
        [
            finding(flags.filter("within"), "bad_print"),
            finding(
                flags.filter(pl.col("across") & ~pl.col("within")), "bad_print", pl.col("next_timestamp")
            ),
        ]
    )
