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
from components.validation.calendars import off_calendar
from components.validation.config import Settings
from components.validation.findings import NUMBERS, concat, finding, only, without
from components.validation.levels import OPEN_STEPS, level_changes
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
from components.validation.rows import absent_columns, filled, row_faults, time_reversals
from components.validation.rules import NOTICES
from components.validation.standstill import dead_cross_sections, frozen_symbols, stale_prices
from components.validation.tradable import tradability
from components.validation.untraded import bars_without_trade
from components.validation.volume_spells import volume_spells
from components.validation.volumes import (
    FOUND_UNIT,
    as_absent,
    before_unit,
    silent_symbols,
    told_silent,
    volume_units,
)

# The columns that checks look at, apart from the number of a row.
LOOKED_AT = (
    "timestamp",
    "symbol",
    "period",
    "event_time",
    "known_time",
    *NUMBERS,
    "price_limit",
    "unfinished",
)


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
    there. `absent`: columns that the panel does not have; they are null throughout `clean` too,
    and volume is where it says nothing or is in another unit. `steps`: columns `row`, `reason`, `ratio`:
    where a level of prices or volume changes. `silent`: symbols whose volume says nothing.
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
    steps: pl.DataFrame
    silent: tuple[str, ...]


def examine(raw: pl.DataFrame, settings: Settings) -> Examination:
    """Run all row checks on a raw panel (columns and types of RAW_PANEL, any order of rows).

    Each check gets the columns that checks look at, and what no later one needs is let go at once: the rest
    of a row joins it again at the end. So memory is that of a few narrow copies.
    """
    absent = absent_columns(raw)
    looked_at = [name for name in raw.columns if name in LOOKED_AT]
    narrow = raw.select(looked_at).with_columns(pl.col("period").cast(pl.Categorical))
    everything = filled(narrow, absent).with_columns(_numbers_of_rows())
    off = off_calendar(everything.drop("event_time", "known_time"))
    inside = without(everything, off)
    source = _without_numbers(everything).drop_nulls(["timestamp", "symbol"])
    empty = bars_without_trade(inside, absent)
    idle, numbered = only(inside, empty), without(inside, empty)
    del narrow, everything, inside
    silent = pl.Series(dtype=pl.String) if "volume" in absent else silent_symbols(numbered, settings)
    numbered = as_absent(numbered, silent)
    local = concat([row_faults(numbered, settings), time_reversals(numbered)])
    disordered = only(numbered, local.filter(pl.col("reason") == "ohlc_order"))
    whole = without(numbered, local.filter(~pl.col("reason").is_in(NOTICES))).drop("event_time")
    del numbered
    repeats = duplicates(whole)
    together = ended_together(one_a_key(pl.concat([_without_numbers(whole), _without_numbers(idle)])))
    conflicting, dates = witnesses(whole, repeats), whole.select(pl.col("timestamp").unique())
    bars = without(whole, repeats).sort("symbol", "timestamp")
    del whole

    calendar = cross_sections(one_a_key(pl.concat([_without_numbers(bars), _without_numbers(idle)])))
    calendar = calendar.join(bars, on="timestamp", how="semi")
    too_thin = thin_dates(calendar, settings)
    on_thin_dates = bars.join(too_thin, on="timestamp", how="semi")
    thin = finding(on_thin_dates, "thin_cross_section")
    stale = stale_prices(bars)
    frozen = frozen_symbols(bars, stale)
    dead = dead_cross_sections(bars, silent)
    bars = without(bars, concat([thin, stale, dead]))
    closed = dead.select(pl.col("detected_at").alias("timestamp"))
    calendar = numbered_dates(calendar, closed, too_thin)
    traded = numbered_dates(dates, closed)

    unfinished = last_bar(bars, disordered)
    bars = without(bars, unfinished)
    prints = bad_prints(bars)
    printed, bars = only(bars, prints).sort("row"), without(bars, prints)

    levels = level_changes(
        pl.concat([bars, conflicting, on_thin_dates]),
        traded,
        printed,
        ranged=not {"high", "low"} & set(absent),
    )
    breaks = only(levels.findings, bars.select("row"))
    bars = without(bars, breaks.filter(~pl.col("reason").is_in(NOTICES)))
    units = volume_units(bars)
    spells = volume_spells(bars, units)

    listed_idle = _without_numbers(idle).join(calendar, on="timestamp", how="semi")
    there = one_a_key(pl.concat([_without_numbers(bars), listed_idle]))
    coverage = symbol_coverage(there, calendar["timestamp"]).join(bars, on="symbol", how="semi")
    del there, listed_idle
    uncovered = low_coverage(bars, coverage, settings)
    alone = [off, empty, local, repeats, thin, stale, dead, unfinished]
    told = [told_silent(bars, silent), finding(units, FOUND_UNIT, pl.col("seen_at")), spells]
    with_others = [prints, breaks, uncovered, together, *told]
    gaps = symbol_gaps(bars, calendar)
    source_gaps = symbol_gaps(one_a_key(source), calendar)
    bars = without(bars, uncovered).drop("known_time", "period").sort("timestamp", "symbol")
    clean, untraded = tradability(bars, absent)
    del bars, source
    clean = _with_unknowns(clean, silent, units, spells, breaks)
    clean = clean.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in absent)
    return Examination(
        findings=concat([*alone, *with_others, untraded]),
        clean=_whole_rows(clean, raw),
        silent=tuple(silent),
        steps=pl.concat([levels.steps, units.select("row", pl.lit(FOUND_UNIT).alias("reason"), "ratio")]),
        gaps=gaps,
        source_gaps=source_gaps,
        outages=outages(traded["timestamp"]),
        coverage=coverage,
        thin_dates=too_thin,
        frozen_symbols=frozen,
        absent=absent,
    )


def _numbers_of_rows() -> pl.Expr:
    return pl.int_range(pl.len(), dtype=pl.Int64).alias("row")


def _without_numbers(bars: pl.DataFrame) -> pl.DataFrame:
    """What is asked who was there, and when."""
    return bars.select("row", "timestamp", "symbol", "period")


def _whole_rows(clean: pl.DataFrame, raw: pl.DataFrame) -> pl.DataFrame:
    """`clean` with the columns of the raw panel that no check looked at, those of the panel first."""
    rest = raw.drop(*(name for name in clean.columns if name in raw.columns))
    whole = clean.hstack(rest[clean["row"]])
    return whole.select(*raw.columns, pl.exclude(raw.columns))


def _with_unknowns(
    clean: pl.DataFrame, silent: pl.Series, units: pl.DataFrame, spells: pl.DataFrame, breaks: pl.DataFrame
) -> pl.DataFrame:
    """`clean` with a null volume where it says nothing or is in another unit, and with `level_step` where a
    step in price stays open.
    """
    dated = clean.join(before_unit(units), on="symbol", how="left", maintain_order="left")
    older = (pl.col("timestamp") < pl.col("unit_from")).fill_null(False)
    in_spell = pl.col("row").is_in(spells["row"].implode())
    unknown = pl.col("symbol").is_in(silent.implode()) | older | in_spell
    known = pl.when(~unknown.fill_null(False)).then(pl.col("volume"))
    clean = dated.with_columns(known.alias("volume")).drop("unit_from")
    stepped = breaks.filter(pl.col("reason").is_in(OPEN_STEPS))["row"]
    if stepped.is_empty():
        return clean
    return clean.with_columns(pl.col("row").is_in(stepped.implode()).alias("level_step"))
