"""Which symbols ought to have a bar: thin dates, symbols with too few bars, gaps, outages, symbols that end
together.
"""

from datetime import timedelta

import polars as pl

from components.timeline.periods import LENGTHS
from components.validation.config import Settings
from components.validation.findings import concat, finding
from components.validation.standstill import STALE_BARS

# A symbol counts as listed for `STALE_BARS` bars after its last; weekends stretch a week of five days by 1.4.
MEMORY_STRETCH = 1.4
MIN_MEMORY = timedelta(days=4)
# Fewer symbols are no market: nothing is judged by what most of them do.
MIN_MARKET_SYMBOLS = 5
# Share of equal steps from which on a calendar counts as round the clock.
REGULAR_STEP_SHARE = 0.95
# Share of the listed symbols that end on one date, five at least, from which on the source is taken to
# have ended there.
ENDED_SHARE = 0.2


def listing_memory(bars: pl.DataFrame) -> timedelta:
    """How long after its last bar a symbol still counts as listed:

    `STALE_BARS` bars, weekends included, four days at least.
    """
    length = LENGTHS.get(bars["period"][0] if len(bars) else "", timedelta(days=1))
    return max(MEMORY_STRETCH * STALE_BARS * length, MIN_MEMORY)


def cross_sections(bars: pl.DataFrame) -> pl.DataFrame:
    """For each timestamp:

    `present`, the symbols that have it, and `listed`, those that have it or had a bar shortly before.

    Whether an absent symbol comes back is not known at the bar, so one that ended counts as listed for a
    while (`listing_memory`), and one that is gone for longer counts as new when it returns.
    """
    memory = listing_memory(bars)
    moments = bars.select("symbol", "timestamp").sort("symbol", "timestamp")
    before = pl.col("timestamp") - pl.col("timestamp").shift(1).over("symbol")
    after = pl.col("timestamp").shift(-1).over("symbol") - pl.col("timestamp")
    starts = moments.filter((before > memory).fill_null(True))["timestamp"].sort()
    ends = (
        moments.filter((after > memory).fill_null(True))
        .select(pl.col("timestamp") + memory)["timestamp"]
        .sort()
    )
    present = bars.group_by("timestamp").agg(pl.len().cast(pl.Int64).alias("present")).sort("timestamp")
    begun = starts.search_sorted(present["timestamp"], side="right").cast(pl.Int64)
    ended = ends.search_sorted(present["timestamp"], side="left").cast(pl.Int64)
    return present.with_columns((begun - ended).alias("listed"))


def thin_dates(calendar: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """The rows of `cross_sections` at which too few of the listed symbols have a bar."""
    enough_for_a_market = pl.col("listed") >= MIN_MARKET_SYMBOLS
    thin = pl.col("present") < settings.min_coverage * pl.col("listed")
    return calendar.filter(enough_for_a_market & thin)


def numbered_dates(dates: pl.DataFrame, *left_out: pl.DataFrame) -> pl.DataFrame:
    """`dates` without those of `left_out`, sorted, with their number `bar` from 0."""
    gone = pl.concat([frame.select("timestamp") for frame in left_out])
    return dates.join(gone, on="timestamp", how="anti").sort("timestamp").with_row_index("bar")


def low_coverage(bars: pl.DataFrame, coverage: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """All bars of symbols below `min_coverage`; judged over the whole span, so known only at the symbol's
    last bar.
    """
    poor = coverage.filter(pl.col("coverage") < settings.min_coverage).select("symbol", "last")
    return finding(bars.join(poor, on="symbol"), "low_coverage", pl.col("last"))


def symbol_gaps(bars: pl.DataFrame, calendar: pl.DataFrame) -> pl.DataFrame:
    """Runs of bars that most listed symbols have and one has not, longest first."""
    placed = (
        bars.select("symbol", "timestamp")
        .join(calendar.select("timestamp", "bar"), on="timestamp")
        .sort("symbol", "timestamp")
    )
    placed = placed.select(
        "symbol",
        pl.col("timestamp").shift(1).over("symbol").alias("before"),
        pl.col("timestamp").alias("after"),
        (pl.col("bar").cast(pl.Int64).diff().over("symbol") - 1).alias("missing_bars"),
    )
    return placed.filter(pl.col("missing_bars") > 0).sort(
        "missing_bars", "symbol", "before", descending=[True, False, False]
    )


def outages(times: pl.Series) -> pl.DataFrame:
    """Steps that no symbol has, where the calendar is regular enough (round the clock) to expect them."""
    steps = (
        pl.DataFrame({"before": times.shift(1), "after": times})
        .with_columns((pl.col("after") - pl.col("before")).alias("step"))
        .drop_nulls()
    )
    empty = steps.select("before", "after", pl.lit(0, dtype=pl.Int64).alias("missing_bars")).clear()
    if steps.is_empty():
        return empty
    usual_step = steps["step"].mode().sort()[0]
    if (steps["step"] == usual_step).mean() < REGULAR_STEP_SHARE:
        return empty
    usual_us = int(usual_step.total_seconds() * 1e6)
    missing = pl.col("step").dt.total_microseconds() // usual_us - 1
    return (
        steps.select("before", "after", missing.alias("missing_bars"))
        .filter(pl.col("missing_bars") > 0)
        .sort("missing_bars", "before", descending=[True, False])
    )


def ended_together(bars: pl.DataFrame) -> pl.DataFrame:
    """Last bars of symbols that end on one date, before the panel's end, with `ENDED_SHARE` or more of those
    listed then, five at least.

    Symbols are delisted one by one; where many stop at once, the source does: a download that was cut off,
    files of several years put together, a list of symbols that was chosen anew. Known when they have been
    gone for the listing's memory.
    """
    if bars.is_empty():
        return concat([])
    lasts = (
        bars.sort("symbol", "timestamp")
        .group_by("symbol", maintain_order=True)
        .agg(pl.col("row", "timestamp").last())
    )
    memory = listing_memory(bars)
    ended = lasts.filter(pl.col("timestamp") + memory <= bars["timestamp"].max())
    counted = (
        ended.group_by("timestamp").agg(pl.len().alias("ended")).join(cross_sections(bars), on="timestamp")
    )
    several = pl.col("ended") >= MIN_MARKET_SYMBOLS
    together = counted.filter(several & (pl.col("ended") >= ENDED_SHARE * pl.col("listed")))
    found = (
        ended.join(together, on="timestamp", how="semi")
        .with_columns((pl.col("timestamp") + memory).alias("forgotten"))
        .sort("forgotten")
    )
    moments = bars.select(pl.col("timestamp").unique().sort().alias("seen"))
    return finding(
        found.join_asof(moments, left_on="forgotten", right_on="seen", strategy="forward", coalesce=False),
        "ended_together",
        pl.col("seen"),
    )
