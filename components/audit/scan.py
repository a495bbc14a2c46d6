"""Adds cuts, so that leaks in rare rows are found: one weekday, one month, one regime, one symbol, one date.

Staggered builds give each symbol another future after a moment of its own: one build looks at as many dates
as there are symbols, for factors that read one symbol only. What moves there is only a suspicion, because a
factor that reads other symbols moves rightly; it becomes a leak when a common cut at that date, with nothing
changed before it, moves the same column.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import polars as pl

from components.audit.compare import MUTATION_TOLERANCE, moved_rows
from components.audit.cuts import Cut, spread_symbols, window
from components.audit.perturb import staggered_future
from components.audit.result import AuditError, Leak
from components.audit.scene import (
    KEY,
    Check,
    Context,
    Scene,
    Tally,
    future_mutation,
    make_scene,
    named,
    shuffled,
    truncation,
)

# A column of which more than this share of rows moves in a staggered build reads other symbols.
READS_OTHERS = 0.2
SUSPECTS_A_COLUMN = 3
# What all builds of a scan read and make together, rows times columns of panel and factors: half a minute for
# quick factors, a minute for a library of 200.
SCAN_VALUES = 300_000_000
# A staggered build of a window, and the cuts at which it makes columns suspicious.
STAGGERED_IN_WINDOW = 4
CHECKS: tuple[Check, ...] = (truncation, future_mutation, shuffled)
GOLDEN = (5**0.5 - 1) / 2


def scan(context: Context, scene: Scene, taken: Sequence[int], step: Callable[[str], None]) -> Iterator[Leak]:
    """Staggered builds, then cuts over the whole scene, as many as SCAN_VALUES allow; staggered builds and
    what they make suspicious have half of it.
    """
    settings, before = context.settings, context.tally.builds
    most = SCAN_VALUES // max(scene.values, 1)
    yield from _staggered(context, scene, settings.staggered_builds, most // 2, step)
    order = cut_order(scene.panel, context.calendar, context.rng, settings.scan_cuts, taken)
    made = _affordable(context.tally, order, most - (context.tally.builds - before))
    yield from _cuts(context, scene, made, step)


def scan_windows(
    context: Context,
    whole: Scene,
    lookback: int,
    symbols: int,
    taken: Sequence[int],
    step: Callable[[str], None],
) -> Iterator[Leak]:
    """The same in windows of at most `symbols` symbols, for panels of which a build as a whole is large.

    Each window serves several cuts.
    """
    settings, panel = context.settings, whole.panel
    bars, share = 2 * lookback + settings.future_bars, min(1.0, symbols / panel["symbol"].n_unique())
    most = int(SCAN_VALUES * len(context.calendar) / max(whole.values * bars * share, 1))
    order = cut_order(panel, context.calendar, context.rng, settings.scan_cuts, taken)
    groups = _neighbours(_affordable(context.tally, order, most), lookback)
    for number in context.rng.permutation(len(groups)):
        positions = groups[number]
        bars = window(
            panel,
            context.calendar,
            positions[-1],
            lookback + positions[-1] - positions[0],
            settings.future_bars,
        )
        alive = bars.filter(pl.col("timestamp") == context.calendar[positions[0]])
        bars = bars.filter(pl.col("symbol").is_in(spread_symbols(alive, symbols, context.rng)))
        try:
            scene = make_scene(context, bars, f"the bars around {named(context.calendar[positions[0]])}")
        except AuditError as error:
            context.tally.failed.setdefault("scan", str(error))
            continue
        yield from _staggered(context, scene, min(settings.staggered_builds, 1), STAGGERED_IN_WINDOW, step)
        yield from _cuts(context, scene, positions, step)


def _affordable(tally: Tally, order: Sequence[int], most: int) -> Sequence[int]:
    """The first of the cuts, as many as may be made; that others are not is noted."""
    made = order[:most]
    tally.left_out += len(order) - len(made)
    return made


def _neighbours(order: Sequence[int], lookback: int) -> list[list[int]]:
    """The cuts in groups that share a window of about twice the lookback."""
    groups: list[list[int]] = []
    for position in sorted(order):
        if groups and position - groups[-1][0] <= lookback:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups


def _cuts(
    context: Context, scene: Scene, order: Sequence[int], step: Callable[[str], None]
) -> Iterator[Leak]:
    last = int(context.calendar.search_sorted(scene.panel["timestamp"].max()))
    for done, position in enumerate(order):
        if position >= last:
            continue
        cut = context.calendar[int(position)]
        step(f"factors, scan at {named(cut)}")
        yield from CHECKS[done % len(CHECKS)](context, scene, cut)
        context.tally.cuts.append(describe(context, scene, Cut(int(position), cut, "scan")))


def _staggered(
    context: Context, scene: Scene, builds: int, most: int, step: Callable[[str], None]
) -> Iterator[Leak]:
    """So many staggered builds, each followed by the cuts at which columns moved in it, those first at which
    most did; no more than `most` builds for both.
    """
    last = context.tally.builds + most
    for _ in range(builds):
        if context.tally.builds >= last:
            return
        step("factors, a future of its own for each symbol")
        changed, stays = staggered_future(scene.panel, context.rng)
        try:
            after = context.built(changed, "a panel with another future for each symbol")
        except AuditError as error:
            context.tally.failed.setdefault("staggered future", str(error))
            return
        context.tally.made["staggered_future"] = context.tally.made.get("staggered_future", 0) + 1
        suspects = _suspects(context, scene, after, stays)
        for position, suspected in sorted(suspects.items(), key=lambda found: -len(found[1])):
            columns = [name for name in suspected if name not in context.caught]
            if not columns:
                continue
            if context.tally.builds >= last:
                return
            cut = context.calendar[position]
            narrow = Scene(scene.panel, scene.base.select(*KEY, *columns), columns)
            found = [leak for leak in future_mutation(context, narrow, cut) if leak.factor in columns]
            context.caught |= {leak.factor for leak in found}
            yield from found
            context.tally.cuts.append(describe(context, scene, Cut(position, cut, "suspected")))


def _suspects(context: Context, scene: Scene, after: pl.DataFrame, stays: np.ndarray) -> dict[int, list[str]]:
    """The cuts, by position, at which columns that read one symbol only moved before that
    symbol's own cut.
    """
    kept = scene.panel.select(KEY).filter(pl.Series(stays)).unique().sort(KEY)
    before = kept.join(scene.base, on=KEY, how="left", maintain_order="left")
    moved_table = kept.join(after, on=KEY, how="left", maintain_order="left")
    found: dict[int, list[str]] = {}
    if not len(before) == len(moved_table) == len(kept):
        return found
    for name in scene.columns:
        if name in context.caught or name not in after.columns:
            continue
        moved = moved_rows(before[name], moved_table[name], MUTATION_TOLERANCE, context.noise.get(name, 0.0))
        if moved is None or len(moved.rows) > READS_OTHERS * len(kept):
            continue
        times = kept["timestamp"].gather(moved.rows).unique(maintain_order=True)
        for moment in times.gather(context.rng.permutation(len(times))[:SUSPECTS_A_COLUMN]):
            found.setdefault(int(context.calendar.search_sorted(moment)), []).append(name)
    return found


def cut_order(
    panel: pl.DataFrame, calendar: pl.Series, rng: np.random.Generator, count: int, taken: Sequence[int]
) -> list[int]:
    """Positions of cuts, the telling ones first: bars before large moves, calm and wild bars, each weekday
    and month, month ends; then evenly.
    """
    n_bars = len(calendar)
    if n_bars < 3 or not count:
        return []
    position = pl.Series(np.arange(n_bars))
    dates = calendar.dt.date() if calendar.dtype != pl.Date else calendar
    chosen: list[int] = [*_before_moves(panel, calendar)]
    for part in (dates.dt.weekday(), dates.dt.month(), dates.dt.year()):
        for value in part.unique().sort():
            of_kind = position.filter(part == value)
            chosen.append(int(of_kind[int(rng.integers(len(of_kind)))]))
    ends = position.filter((dates.dt.month() != dates.dt.month().shift(-1)).fill_null(False))
    if len(ends):
        chosen.append(int(ends[int(rng.integers(len(ends)))]))
    evenly = (((np.arange(2 * n_bars) * GOLDEN + rng.random()) % 1.0) * (n_bars - 1)).astype(int)
    left_out = {*taken, n_bars - 1}
    return [p for p in dict.fromkeys([*chosen, *evenly.tolist(), *range(n_bars - 1)]) if p not in left_out][
        :count
    ]


def _before_moves(panel: pl.DataFrame, calendar: pl.Series) -> list[int]:
    """Bars before the largest moves up and down of the mean and of one symbol, and the bars of the least and
    the most movement.
    """
    if "close" not in panel.columns or not panel.schema["close"].is_numeric():
        return []
    close = panel.select(*KEY, pl.col("close").cast(pl.Float64)).sort(KEY)
    change = close.with_columns(
        (pl.col("close") / pl.col("close").shift(1).over("symbol") - 1).alias("__change")
    ).filter(pl.col("__change").is_finite())
    by_bar = change.group_by("timestamp").agg(
        pl.col("__change").mean().alias("mean"),
        pl.col("__change").abs().max().alias("largest"),
        pl.col("__change").abs().mean().alias("size"),
    )
    if len(by_bar) < 3:
        return []
    picked = [
        (by_bar.sort("mean")["timestamp"][0], -1),
        (by_bar.sort("mean")["timestamp"][-1], -1),
        (by_bar.sort("largest")["timestamp"][-1], -1),
        (by_bar.sort("size")["timestamp"][0], 0),
        (by_bar.sort("size")["timestamp"][-1], 0),
    ]
    return [p for p in (int(calendar.search_sorted(moment)) + offset for moment, offset in picked) if p >= 0]


def describe(context: Context, scene: Scene, cut: Cut) -> dict:
    """A cut as the report lists it."""
    rows = int(scene.base["timestamp"].search_sorted(cut.timestamp, side="right"))
    return {
        "timestamp": cut.timestamp,
        "kind": cut.kind,
        "bars_after": len(context.calendar) - 1 - cut.position,
        "symbols": scene.base.head(rows)["symbol"].n_unique(),
        "rows": rows,
    }
