"""Audits factors: rebuilds them on changed futures and on cut-off histories and names every column that moves
before the cut.

Checks, at each cut: `future_mutation` (all after the cut is changed: numbers, sectors, missing, leaving and
new symbols), `truncation` (nothing after the cut), `shuffled_future` (the bars after it in another order),
`gap_truncation` (truncation beside holes in the data). Once each: `known_time` (bars that became known late
are changed; rows that claim to be known before must not move), `whole_history` (all symbols rebuilt up to the
last cut against the table that was handed over), `price_level` (each symbol's prices times a constant),
`warm_up`, `placebo` and `too_good`. Then further cuts are added
(`scan.py`). A history always begins where the panel, or the window, begins: what depends on earlier
bars only is no leak.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from components.audit.builders import Builder, Pieces
from components.audit.columns import Table, in_blocks
from components.audit.compare import ROWS, TRUNCATION_TOLERANCE, compare
from components.audit.config import Settings
from components.audit.cuts import Cut, guided_cuts, spread_symbols, window
from components.audit.known_time import late_revisions, late_rows
from components.audit.piecewise import HandedOver, compare_pieces
from components.audit.placebo import placebo
from components.audit.prepare import FactorAudit, Told, is_bounded, prepare
from components.audit.price_level import price_levels
from components.audit.reproducible import unstable_columns
from components.audit.result import AuditError, AuditResult, Leak, merge_leaks
from components.audit.scan import describe, scan, scan_windows
from components.audit.scene import (
    KEY,
    Context,
    Extent,
    Scene,
    Tally,
    count,
    future_mutation,
    gap_truncation,
    make_scene,
    named,
    note_failures,
    shuffled,
    truncation,
    up_to,
)
from components.audit.warm_up import measure_warm_up, without_gaps
from components.progress import advance

# The cuts are made on the whole panel where their builds read and make no more than this together, else in
# windows of some symbols: rows times columns of panel and factors. A second makes some ten million.
WHOLE_VALUES = 200_000_000
# What one build of a window may read and make, where nothing else bounds the symbols in it.
WINDOW_VALUES = 10_000_000
BUILDS_A_CUT = 5
WARM_UP_BARS = 600
# Bars of mature values before a cut, in windows.
MATURE_BARS = 64
WARM_UP_SYMBOLS = 24
# Checks after the cuts that the terminal counts as a step each: late rows, warm-up, placebo, scan.
LATER_STEPS = 4


def audit_factors(
    panel: pl.DataFrame,
    build: Builder,
    *,
    cuts: int = 3,
    seed: int = 0,
    factors: Table | None = None,
    warm_up_bars: int | None = None,
    declared: Mapping[str, int] | None = None,
    labels: Mapping[str, int] | None = None,
    fresh: Callable[[], Builder] | None = None,
    in_pieces: Pieces | None = None,
    settings: Settings | None = None,
) -> AuditResult:
    """Audit every column that `build` makes from a panel.

    A column that two builds of the same panel make differently is listed under `unstable`; leaks smaller than
    its noise can't be seen.

    Parameters
    ----------
    panel : `timestamp`, `symbol` and further columns, such as a `PANEL` table; rows that do not ascend in
        time within a symbol are sorted
    build : takes a panel, returns `timestamp`, `symbol`, optionally `known_time`, and one column a factor
    cuts, seed : how many sampled cuts; which cuts are made depends on the seed, the panel and the settings
        alone
    factors : the table that was handed over, made by `build` from `panel`; built here where left out. Of a
        scan, sorted by (timestamp, symbol), some columns at a time are held
    warm_up_bars : longest warm-up of a factor, which bounds the history that is rebuilt; all where left out
    declared : warm-up by factor; one that is too short is a `warm_up` leak
    labels : columns of the panel that hold the future, and the bars after which each is known; returns of the
        future are found without
    fresh : gives the builder without memory of earlier calls; a truncation is made with it, because what a
        builder keeps from its first call hides leaks
    in_pieces : makes the table of `build` in blocks of bars, one after another: the whole history is built
        anew with it, where given
    settings : the remaining settings (`cuts` above replaces theirs)

    Raises
    ------
    AuditError
        If the panel has fewer than 3 bars, or `build` fails, returns no table, or refuses every changed
        panel.
    """
    settings = (settings or Settings()).model_copy(update={"cuts": cuts})
    told = Told(factors, warm_up_bars, declared or {}, labels or {}, fresh, in_pieces)
    return _audited(prepare(panel, build, told, settings, seed))


def _audited(audit: FactorAudit) -> AuditResult:
    """All checks in their order."""
    context, scene, panel = audit.context, audit.scene, audit.panel
    leaks: list[Leak] = []
    if audit.told.factors is not None and context.settings.whole_history:
        leaks += _whole_history(audit, audit.sampled[-1])
    extent = _extent(audit)
    unstable = unstable_columns(context, scene, extent)
    cuts = _cuts(audit)
    steps = len(cuts) + LATER_STEPS

    leaks += _at_cuts(audit, cuts, extent, steps)
    leaks += late_rows(context, panel, extent.lookback)
    leaks += late_revisions(context, scene)
    advance("audit", len(cuts) + 1, steps, "factors, late rows")
    leaks += price_levels(context, scene, extent, context.settings.adjusted)
    warm_up, short = _warm_up(audit, extent)
    leaks += short
    advance("audit", len(cuts) + 2, steps, "factors, warm-up")
    table, statistical = _statistics(audit)
    leaks += statistical
    advance("audit", len(cuts) + 3, steps, "factors, timing placebo")

    context.caught |= {leak.factor for leak in leaks}

    def step(what: str) -> None:
        advance("audit", len(cuts) + 3, steps, what)

    taken = [cut.position for cut in cuts]
    leaks += _scanned(audit, extent, warm_up, taken, step)
    advance("audit", steps, steps, "factors, whole history")
    _require_a_check(context.tally)
    checked = _checked(scene, context.tally)
    return AuditResult(merge_leaks(leaks), checked, unstable=unstable, warm_up=warm_up, placebo=table)


def _checked(scene: Scene, tally: Tally) -> dict[str, Any]:
    """What was looked at, for the reader."""
    return {
        "factors": len(scene.columns),
        "factor_rows_compared": tally.rows_compared,
        "factor_values_compared": tally.values_compared,
        "factors_without_values": sorted(set(scene.columns) - tally.seen),
        "cuts": sorted(tally.cuts, key=lambda cut: str(cut["timestamp"])),
        "checks": tally.made,
        "builds": tally.builds,
        "scan_cuts_left_out": tally.left_out,
        "notes": [*tally.notes, *note_failures(tally), *_note_left_out(tally)],
    }


def _note_left_out(tally: Tally) -> Iterator[str]:
    if tally.left_out:
        yield (
            f"Not made: {tally.left_out} of the cuts that audit.scan_cuts asks for; on a panel of this size"
            " their builds would read and make too much. What leaks in rare rows only was not looked for"
            " there."
            " Audit fewer symbols a cut (audit.max_symbols) or fewer bars before it (audit.lookback_bars)"
        )


def _extent(audit: FactorAudit) -> Extent:
    """The whole panel where it is small enough and nothing bounds the history, else windows."""
    settings, warm_up_bars = audit.context.settings, audit.told.warm_up_bars
    bars = len(audit.context.calendar) if warm_up_bars is None else warm_up_bars + MATURE_BARS
    whole = not is_bounded(audit.context, audit.told) and _is_small(audit.scene, settings)
    return Extent(whole, settings.lookback_bars or bars)


def _is_small(scene: Scene, settings: Settings) -> bool:
    """Whether every cut can be made on the whole panel."""
    return scene.values * BUILDS_A_CUT * (settings.cuts + settings.guided_cuts) <= WHOLE_VALUES


def _reach(warm_up: list[dict], scene: Scene, settings: Settings) -> tuple[int, int]:
    """Bars before a cut, by the measured warm-ups, and as many symbols as a build of WINDOW_VALUES holds."""
    measured = [entry["bars"] for entry in warm_up if entry["bars"] is not None]
    bars = int(np.quantile(measured, 0.9)) + MATURE_BARS if measured else MATURE_BARS
    symbols = scene.panel["symbol"].n_unique()
    values = scene.values * (bars + settings.future_bars) / scene.panel["timestamp"].n_unique()
    return bars, max(settings.max_symbols, int(symbols * min(1.0, WINDOW_VALUES / max(values, 1))))


def _numeric(audit: FactorAudit) -> list[str]:
    schema = audit.table.collect_schema()
    return [name for name in audit.scene.columns if schema[name].is_numeric()]


def _cuts(audit: FactorAudit) -> list[Cut]:
    """The sampled cuts, then those where a factor resembles the next return."""
    context, wanted = audit.context, audit.context.settings.guided_cuts
    if not wanted or audit.grid is None:
        return audit.sampled
    guided = guided_cuts(audit.panel, audit.table, _numeric(audit), context.calendar, wanted)
    taken = {cut.position for cut in audit.sampled}
    return [*audit.sampled, *(cut for cut in guided if cut.position not in taken)]


def _at_cuts(audit: FactorAudit, cuts: Sequence[Cut], extent: Extent, steps: int) -> Iterator[Leak]:
    """The checks at each cut, and one truncation by a builder without memory."""
    context, scene, fresh = audit.context, audit.scene, audit.told.fresh
    for done, cut in enumerate(cuts, start=1):
        if extent.whole:
            yield from _whole_cut(context, scene, cut)
        else:
            yield from _window_cut(context, audit.panel, cut, extent.lookback)
        advance("audit", done, steps, f"factors, cut {named(cut.timestamp)}")
    if fresh is not None and extent.whole:
        middle = audit.sampled[len(audit.sampled) // 2]
        yield from truncation(replace(context, build=fresh()), scene, middle.timestamp)


def _whole_cut(context: Context, scene: Scene, cut: Cut) -> Iterator[Leak]:
    context.tally.cuts.append(describe(context, scene, cut))
    for check in (future_mutation, truncation, shuffled, gap_truncation):
        yield from check(context, scene, cut.timestamp)


def _window_cut(context: Context, panel: pl.DataFrame, cut: Cut, lookback: int) -> Iterator[Leak]:
    bars = window(panel, context.calendar, cut.position, lookback, context.settings.future_bars)
    alive = bars.filter(pl.col("timestamp") == cut.timestamp)
    symbols = spread_symbols(alive, context.settings.max_symbols, context.rng)
    bars = bars.filter(pl.col("symbol").is_in(symbols))
    yield from _whole_cut(context, make_scene(context, bars, f"the bars around {named(cut.timestamp)}"), cut)


def _whole_history(audit: FactorAudit, cut: Cut) -> list[Leak]:
    """The history up to the last cut, built anew, against the table that was handed over, some columns at a
    time; or in pieces.
    """
    context, scene, until = audit.context, audit.scene, pl.col("timestamp") <= cut.timestamp
    what, place = (
        f"the whole history up to {named(cut.timestamp)}",
        context.place("whole_history", cut.timestamp),
    )
    rows = len(up_to(scene.base, cut.timestamp))
    context.tally.rows_compared += rows
    if audit.told.in_pieces is not None:
        pieces = context.built_pieces(audit.told.in_pieces, scene.panel.filter(until), what)
        return compare_pieces(_handed_over(audit, rows), _typed_pieces(audit, pieces), place)
    rebuilt, leaks = context.built(scene.panel.filter(until), what), []
    if len(rebuilt) and rebuilt["timestamp"][-1] > cut.timestamp:
        rebuilt = rebuilt.filter(until)
    for names in in_blocks(scene.columns):
        handed_over = audit.table.lazy().select(*KEY, *names).head(rows).collect()
        types = {name: handed_over.schema[name] for name in names if name in rebuilt.columns}
        anew = rebuilt.select(*KEY, *types).cast(types, strict=False)
        count(handed_over, names, context.tally)
        found = compare(handed_over, anew, KEY, names, place, TRUNCATION_TOLERANCE)
        # Rows that only one of both has are the same in every block.
        leaks += [leak for leak in found if leak.factor != ROWS or not leaks]
    return leaks


def _handed_over(audit: FactorAudit, rows: int) -> HandedOver:
    columns, tally = audit.scene.columns, audit.context.tally
    return HandedOver(audit.table, rows, KEY, columns, look=lambda block: count(block, block.columns, tally))


def _typed_pieces(audit: FactorAudit, pieces: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Their factors, in the types of the table that was handed over."""
    schema = audit.table.collect_schema()
    for piece in pieces:
        types = {name: schema[name] for name in audit.scene.columns if name in piece.columns}
        yield piece.select(*KEY, *types).cast(types, strict=False)
        del piece


def _warm_up(audit: FactorAudit, extent: Extent) -> tuple[list[dict], list[Leak]]:
    context, scene, warm_up_bars = audit.context, audit.scene, audit.told.warm_up_bars
    if not context.settings.warm_up_starts:
        return [], []
    panel, where = scene.panel, "the whole panel"
    span = warm_up_bars + MATURE_BARS if warm_up_bars else WARM_UP_BARS
    if not extent.whole:
        bars = 2 * span + MATURE_BARS
        end = int(context.rng.integers(min(bars, len(context.calendar) - 1), len(context.calendar)))
        panel = window(panel, context.calendar, end, bars, 0)
        symbols = spread_symbols(panel, min(WARM_UP_SYMBOLS, context.settings.max_symbols), context.rng)
        panel = panel.filter(pl.col("symbol").is_in(symbols))
        where = f"the bars up to {named(context.calendar[end])}"
    dense = without_gaps(panel)
    if dense is not scene.panel:
        scene = make_scene(context, dense, where if dense is panel else f"{where}, without their gaps")
    return measure_warm_up(context, scene, audit.told.declared, span)


def _statistics(audit: FactorAudit) -> tuple[list[dict], list[Leak]]:
    if audit.grid is None:
        return [], []
    return placebo(audit.panel, audit.grid, audit.table, _numeric(audit))


def _scanned(
    audit: FactorAudit,
    extent: Extent,
    warm_up: list[dict],
    taken: Sequence[int],
    step: Callable[[str], None],
) -> Iterator[Leak]:
    """Cuts that are added, over the whole scene or in windows."""
    context, scene, settings = audit.context, audit.scene, audit.context.settings
    if extent.whole:
        yield from scan(context, scene, taken, step)
    elif settings.scan_cuts:
        if audit.told.warm_up_bars or settings.lookback_bars:
            reach, symbols = extent.lookback, settings.max_symbols
        else:
            reach, symbols = _reach(warm_up, scene, settings)
        yield from scan_windows(context, scene, reach, symbols, taken, step)


def _require_a_check(tally: Tally) -> None:
    """Refuse to call a builder clean that works on the whole panel alone: that it took a changed one in which
    by chance as many rows came as went is no check.
    """
    made, refused = (
        {check: counts.get(check, 0) for check in ("truncation", "future_mutation", "shuffled_future")}
        for counts in (tally.made, tally.refused)
    )
    if not refused["truncation"] or made["truncation"]:
        return
    if refused["future_mutation"] > made["future_mutation"] or not made["shuffled_future"]:
        raise AuditError(
            f"{tally.failed['truncation']} It failed so on every cut-off panel and on most changed ones, so"
            " nothing could be checked."
        )
