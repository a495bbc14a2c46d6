"""Row checks of a raw panel: which rows are faulty, why, and from when on that could be known.

A check that looks at later bars (a bad print is known as one only when the price comes back) says so:
`detected_at` is the timestamp at which the finding could first have been made, and health counts the findings
whose `detected_at` lies after the row's own timestamp. Removing such rows cleans history with hindsight; a
live run would have seen them first. A column that a panel does not have at all (null in every row) is judged
by no check, and takes no part in the others. A bar without a trade takes part in none, but counts as there.
"""

from dataclasses import dataclass

import polars as pl

from components.timeline.coverage import symbol_coverage
from components.validation.config import Settings
from components.validation.findings import concat, finding, only, without
from components.validation.levels import level_breaks, recycled_tickers
from components.validation.listing import (
    cross_sections,
    ended_together,
    low_coverage,
    numbered_dates,
    outages,
    symbol_gaps,
    thin_dates,
)
from components.validation.prints import bad_prints, last_bar
from components.validation.repeats import duplicates, one_a_key, witnesses
from components.validation.rows import absent_columns, filled, row_faults, sees_trading, time_reversals
from components.validation.rules import NOTICES
from components.validation.standstill import dead_cross_sections, frozen_symbols, stale_prices
from components.validation.tradable import tradability
from components.validation.untraded import bars_without_trade


@dataclass(frozen=True)
class Examination:
    """What the checks found.

    `findings`: columns `row` (position in the raw table, from 0), `reason`, `detected_at`; a row may have
    several. `clean`: the rows without a finding that quarantines or makes a placeholder of them, sorted by
    (timestamp, symbol), with their `row`. `gaps`: columns `symbol`, `before`, `after` (timestamps),
    `missing_bars`; only bars that most listed symbols have count. `source_gaps`: the same before any row was
    set aside: bars that the source itself does not have. `outages`: columns `before`, `after`,
    `missing_bars`: steps of a regular calendar that no symbol has. `coverage`: columns `symbol`, `bars`,
    `expected_bars`, `coverage`, `first`, `last`, before symbols fall out; bars without a trade count as
    there. `absent`: columns that the panel does not have; they are null throughout `clean` too.
    """

    findings: pl.DataFrame
    clean: pl.DataFrame
    gaps: pl.DataFrame
    source_gaps: pl.DataFrame
    outages: pl.DataFrame
    coverage: pl.DataFrame
    thin_dates: pl.DataFrame
    frozen_symbols: tuple[str, ...]
    absent: tuple[str, ...]


def examine(raw: pl.DataFrame, settings: Settings) -> Examination:
    """Run all row checks on a raw panel (columns and types of RAW_PANEL, any order of rows)."""
    absent = absent_columns(raw)
    everything = filled(raw, absent).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"))
    empty = bars_without_trade(everything, absent)
    idle, numbered = only(everything, empty), without(everything, empty)
    local = concat([row_faults(numbered, settings), time_reversals(numbered)])
    whole = without(numbered, local.filter(~pl.col("reason").is_in(NOTICES)))
    repeats = duplicates(whole)
    bars = without(whole, repeats).sort("symbol", "timestamp")

    listed = one_a_key(pl.concat([bars, idle]))
    calendar = cross_sections(listed).join(bars, on="timestamp", how="semi")
    too_thin = thin_dates(calendar, settings)
    thin = finding(bars.join(too_thin, on="timestamp", how="semi"), "thin_cross_section")
    stale = stale_prices(bars)
    frozen = frozen_symbols(bars, stale)
    dead = dead_cross_sections(bars)
    bars = without(bars, concat([thin, stale, dead]))
    closed = dead.select(pl.col("detected_at").alias("timestamp"))
    calendar = numbered_dates(calendar, closed, too_thin)
    traded = numbered_dates(whole.select(pl.col("timestamp").unique()), closed)

    disordered = only(numbered, local.filter(pl.col("reason") == "ohlc_order"))
    unfinished = last_bar(bars, disordered)
    bars = without(bars, unfinished)
    prints = bad_prints(bars)
    bars = without(bars, prints)
    recycled = recycled_tickers(bars, calendar)
    bars = without(bars, recycled)

    on_the_way = pl.concat([bars, witnesses(whole, repeats), only(whole, thin)])
    printed, sighted = only(numbered, prints), sees_trading(absent)
    breaks = only(level_breaks(on_the_way, traded, printed, sighted=sighted), bars.select("row"))
    bars = without(bars, breaks)

    there = one_a_key(pl.concat([bars, idle.join(calendar, on="timestamp", how="semi")]))
    coverage = symbol_coverage(there, calendar["timestamp"]).join(bars, on="symbol", how="semi")
    uncovered = low_coverage(bars, coverage, settings)
    together = ended_together(one_a_key(pl.concat([whole, idle])))
    alone = [empty, local, repeats, thin, stale, dead, unfinished]
    with_others = [prints, breaks, recycled, uncovered, together]
    clean, untraded = tradability(without(bars, uncovered).sort("timestamp", "symbol"), absent)
    return Examination(
        findings=concat([*alone, *with_others, untraded]),
        clean=clean.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in absent),
        gaps=symbol_gaps(bars, calendar),
        source_gaps=symbol_gaps(one_a_key(everything.drop_nulls(["timestamp", "symbol"])), calendar),
        outages=outages(traded["timestamp"]),
        coverage=coverage,
        thin_dates=too_thin,
        frozen_symbols=frozen,
        absent=absent,
    )
