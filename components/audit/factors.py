"""Audits factors: rebuilds them on changed futures and on cut-off histories and names every column that moves before the cut."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from components.audit.builders import Builder, checked_table
from components.audit.compare import Place, compare, in_order
from components.audit.config import Settings
from components.audit.cuts import Cut, guided_cuts, sample_cuts, spread_symbols, window
from components.audit.perturb import other_future, other_values, with_holes
from components.audit.result import AuditError, AuditResult, Leak, merge_leaks
from components.contracts import AlphaloopError
from components.progress import advance
from components.timeline import bar_index

KEY = ("timestamp", "symbol")
NOT_FACTORS = {*KEY, "known_time", "event_time", "period"}


@dataclass
class Tally:
    """Counts for the report, gathered while the checks run."""

    rows_compared: int = 0
    values_compared: int = 0
    cuts: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


def audit_factors(
    panel: pl.DataFrame,
    build: Builder,
    *,
    cuts: int = 3,
    seed: int = 0,
    factors: pl.DataFrame | None = None,
    warm_up_bars: int | None = None,
    settings: Settings | None = None,
) -> AuditResult:
    """Audit every column that `build` makes from a panel.

    Parameters
    ----------
    panel : a `PANEL` table
    build : takes a panel, returns `timestamp`, `symbol`, optionally `known_time`, and one column a factor
    cuts, seed : how many sampled cuts; what is drawn from the seed alone is the same on every machine
    factors : the table that was handed over, made by `build` from `panel`; built here where left out
    warm_up_bars : longest warm-up of a factor, which bounds the history that is rebuilt; all of it where left out
    settings : the remaining settings (`cuts` above replaces theirs)

    Checks, at each cut: `future_mutation` (all after the cut is changed: numbers, sectors, missing, leaving and new
    symbols), `truncation` (nothing after the cut), `gap_truncation` (the same beside holes in the data). Once each:
    `known_time` (bars that became known late are changed; rows that claim to be known before must not move) and
    `whole_history` (all symbols rebuilt up to the last cut against `factors`).

    What samples can miss: a leak of one single symbol and date that is neither at a cut nor visible in the cross-section.

    Raises
    ------
    AuditError
        If the panel has fewer than 3 bars, or `build` fails or returns no table.
    """
    settings = (settings or Settings()).model_copy(update={"cuts": cuts})
    panel = in_order(panel, KEY)
    calendar, _ = bar_index(panel["timestamp"])
    if len(calendar) < 3:
        raise AuditError(f"The panel has {len(calendar)} bars; the leak audit needs at least 3 to cut between them. Give a longer panel.")
    rng = np.random.default_rng(seed)
    if factors is None:
        factors = _built(build, panel, "the whole panel")
    columns = factor_columns(factors)
    lookback = settings.lookback_bars or (len(calendar) if warm_up_bars is None else 2 * warm_up_bars + 64)
    sampled = sample_cuts(calendar, settings.cuts, min(warm_up_bars or len(calendar) // 4, len(calendar) // 2), rng)
    taken = {cut.position for cut in sampled}
    guided = guided_cuts(panel, factors, _numeric(factors, columns), calendar, settings.guided_cuts) if settings.guided_cuts and "close" in panel.columns else []
    around = [*sampled, *(cut for cut in guided if cut.position not in taken)]
    tally = Tally()
    leaks: list[Leak] = []
    steps = len(around) + 2
    for done, cut in enumerate(around, start=1):
        leaks += _around_cut(panel, build, cut, calendar, lookback, settings, rng, tally)
        advance("audit", done, steps, f"factors, cut {cut.timestamp:%Y-%m-%d %H:%M}")
    leaks += _late_rows(panel, build, calendar, lookback, settings, rng, tally)
    advance("audit", steps - 1, steps, "factors, late rows")
    if settings.whole_history:
        leaks += _whole_history(panel, build, factors, columns, sampled[-1], calendar, settings, tally)
    advance("audit", steps, steps, "factors, whole history")
    checked = {
        "factors": len(columns),
        "factor_rows_compared": tally.rows_compared,
        "factor_values_compared": tally.values_compared,
        "factors_without_values": sorted(set(columns) - tally.seen),
        "cuts": tally.cuts,
        "notes": tally.notes,
    }
    return AuditResult(merge_leaks(leaks), checked)


def factor_columns(factors: pl.DataFrame) -> list[str]:
    """The columns of a factor table that are factors."""
    return [name for name in factors.columns if name not in NOT_FACTORS]


def _numeric(factors: pl.DataFrame, columns: list[str]) -> list[str]:
    return [name for name in columns if factors.schema[name].is_numeric()]


def _around_cut(panel: pl.DataFrame, build: Builder, cut: Cut, calendar: pl.Series, lookback: int, settings: Settings, rng: np.random.Generator, tally: Tally) -> Iterator[Leak]:
    bars = window(panel, calendar, cut.position, lookback, settings.future_bars)
    alive = bars.filter(pl.col("timestamp") == cut.timestamp)
    bars = bars.filter(pl.col("symbol").is_in(spread_symbols(alive, settings.max_symbols, rng)))
    until = pl.col("timestamp") <= cut.timestamp
    name = f"{cut.timestamp:%Y-%m-%d %H:%M}"
    plain = _built(build, bars, f"the bars around {name}")
    columns = factor_columns(plain)
    base = plain.filter(until)
    tally.rows_compared += 2 * len(base)
    tally.cuts.append({"timestamp": cut.timestamp, "kind": cut.kind, "bars_after": len(calendar) - 1 - cut.position, "symbols": base["symbol"].n_unique(), "rows": len(base)})
    _count(base, columns, tally, times=2)
    changed = _built(build, other_future(bars, cut.timestamp, rng), f"a changed future after {name}").filter(until)
    yield from compare(base, changed, KEY, columns, Place("future_mutation", cut.timestamp, calendar), settings.mutation_tolerance)
    shorter = _built(build, bars.filter(until), f"the history up to {name}").filter(until)
    yield from compare(base, shorter, KEY, columns, Place("truncation", cut.timestamp, calendar), settings.truncation_tolerance)
    holed = with_holes(bars, cut.timestamp, rng)
    try:
        base = _built(build, holed, f"bars with holes before {name}").filter(until)
    except AuditError as error:
        tally.notes.append(f"gap_truncation was left out at {name}: {error}")
        return
    shorter = _built(build, holed.filter(until), f"the history with holes up to {name}").filter(until)
    tally.rows_compared += len(base)
    _count(base, columns, tally)
    yield from compare(base, shorter, KEY, columns, Place("gap_truncation", cut.timestamp, calendar), settings.truncation_tolerance)


def _late_rows(panel: pl.DataFrame, build: Builder, calendar: pl.Series, lookback: int, settings: Settings, rng: np.random.Generator, tally: Tally) -> Iterator[Leak]:
    """Change the bars that became known only after the next bar; rows that were known before that must not move."""
    if "known_time" not in panel.columns:
        return
    following = pl.DataFrame({"timestamp": calendar, "__next": calendar.shift(-1)})
    late = panel.select("timestamp", "symbol", "known_time").join(following, on="timestamp", how="left").filter(pl.col("known_time") > pl.col("__next"))
    positions = calendar.search_sorted(late["timestamp"].unique().sort()).to_numpy()
    chosen = positions if len(positions) <= settings.cuts else rng.choice(positions, settings.cuts, replace=False)
    for position in sorted(int(p) + 1 for p in chosen):
        yield from _late_bar(panel, build, position, calendar, lookback, settings, rng, tally)
    tally.notes.append(f"{len(late):,} bars became known after the next bar had closed; {len(chosen)} moments with such bars were audited")


def _late_bar(panel: pl.DataFrame, build: Builder, position: int, calendar: pl.Series, lookback: int, settings: Settings, rng: np.random.Generator, tally: Tally) -> Iterator[Leak]:
    bars = window(panel, calendar, position, lookback, settings.future_bars)
    before = bars.filter(pl.col("timestamp") == calendar[position - 1])
    late = before.filter(pl.col("known_time") > calendar[position])["symbol"].to_list()
    alive = bars.filter(pl.col("timestamp").is_between(calendar[position - 1], calendar[position]))
    symbols = spread_symbols(alive, settings.max_symbols, rng, always=tuple(late[: settings.max_symbols // 2]))
    bars = bars.filter(pl.col("symbol").is_in(symbols))
    moment = _moment_of_knowledge(bars, calendar, position)
    base = _built(build, bars, f"the bars around {moment:%Y-%m-%d %H:%M}")
    other = _built(build, other_values(bars, (bars["known_time"] > moment).to_numpy(), rng), f"other values of bars known after {moment:%Y-%m-%d %H:%M}")
    columns = factor_columns(base)
    base, other = (_known_by(table, bars, moment) for table in (base, other))
    tally.rows_compared += len(base)
    tally.cuts.append({"timestamp": calendar[position], "kind": "late", "bars_after": len(calendar) - 1 - position, "symbols": len(symbols), "rows": len(base)})
    _count(base, columns, tally)
    yield from compare(base, other, KEY, columns, Place("known_time", calendar[position], calendar), settings.mutation_tolerance)


def _moment_of_knowledge(bars: pl.DataFrame, calendar: pl.Series, position: int):
    """When the punctual rows of a bar were all known."""
    known = bars.filter(pl.col("timestamp") == calendar[position])["known_time"]
    if position + 1 < len(calendar):
        known = known.filter(known <= calendar[position + 1])
    return known.max() or calendar[position]


def _known_by(table: pl.DataFrame, bars: pl.DataFrame, moment) -> pl.DataFrame:
    """The rows that claim to be known at `moment`: by their known_time, or by that of their bar where they have none."""
    if "known_time" not in table.columns:
        table = table.join(bars.select(*KEY, "known_time"), on=KEY, how="left", maintain_order="left")
    return table.filter(pl.col("known_time") <= moment).drop("known_time")


def _whole_history(panel: pl.DataFrame, build: Builder, factors: pl.DataFrame, columns: list[str], cut: Cut, calendar: pl.Series, settings: Settings, tally: Tally) -> list[Leak]:
    until = pl.col("timestamp") <= cut.timestamp
    rebuilt = _built(build, panel.filter(until), f"the whole history up to {cut.timestamp:%Y-%m-%d %H:%M}").filter(until)
    shared = [name for name in columns if name in rebuilt.columns]
    rebuilt = rebuilt.select(*KEY, *shared).cast({name: factors.schema[name] for name in shared}, strict=False)
    handed_over = factors.select(*KEY, *columns).filter(until)
    tally.rows_compared += len(handed_over)
    _count(handed_over, columns, tally)
    return compare(handed_over, rebuilt, KEY, columns, Place("whole_history", cut.timestamp, calendar), settings.truncation_tolerance)


def _count(table: pl.DataFrame, columns: list[str], tally: Tally, *, times: int = 1) -> None:
    present = {name: len(table) - table[name].null_count() for name in columns}
    tally.values_compared += times * sum(present.values())
    tally.seen |= {name for name, values in present.items() if values}


def _built(build: Callable, panel: pl.DataFrame, what: str) -> pl.DataFrame:
    """The builder's table for `panel`, sorted by its key."""
    try:
        table = checked_table(build(panel), "the builder under audit")
    except AuditError:
        raise
    except AlphaloopError as error:
        raise AuditError(f"The builder under audit refused {what}: {error}") from error
    except Exception as error:
        raise AuditError(
            f"The builder under audit failed on {what} ({len(panel):,} rows): {type(error).__name__}: {error}. "
            "It has to work on any stretch of the panel: run it on a few hundred bars of 60 symbols to see why."
        ) from error
    return in_order(table, KEY)
