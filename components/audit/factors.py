"""Audits factors: rebuilds them on changed futures and on cut-off histories and names every column that moves
before the cut.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from components.audit.builders import Builder
from components.audit.compare import compare, moved_rows
from components.audit.config import Settings
from components.audit.cuts import Cut, guided_cuts, sample_cuts, spread_symbols, window
from components.audit.perturb import file_order, other_values
from components.audit.placebo import Grid, label_columns, make_grid, placebo
from components.audit.result import AuditError, AuditResult, Leak, merge_leaks
from components.audit.scan import describe, scan, scan_windows
from components.audit.scene import (
    KEY,
    Context,
    Scene,
    Tally,
    count,
    factor_columns,
    future_mutation,
    gap_truncation,
    make_scene,
    named,
    note_failures,
    shuffled,
    truncation,
)
from components.audit.warm_up import measure_warm_up
from components.progress import advance
from components.timeline import bar_index

# The cuts are made on the whole panel where that takes at most this share of the budget, else in windows of
# some symbols.
WHOLE_PANEL_SHARE = 0.5
BUILDS_A_CUT = 5
# A column that two builds of the same panel make differently: leaks are told from its noise where they are so
# many times larger.
NOISE_MARGIN = 20.0
WARM_UP_BARS = 600
# Bars of mature values before a cut, in windows.
MATURE_BARS = 64
WARM_UP_SYMBOLS = 24


def audit_factors(
    panel: pl.DataFrame,
    build: Builder,
    *,
    cuts: int = 3,
    seed: int = 0,
    factors: pl.DataFrame | None = None,
    warm_up_bars: int | None = None,
    declared: Mapping[str, int] | None = None,
    labels: Mapping[str, int] | None = None,
    fresh: Callable[[], Builder] | None = None,
    settings: Settings | None = None,
) -> AuditResult:
    """Audit every column that `build` makes from a panel.

    Parameters
    ----------
    panel : `timestamp`, `symbol` and further columns, such as a `PANEL` table; rows that do not ascend in
        time within a symbol are sorted
    build : takes a panel, returns `timestamp`, `symbol`, optionally `known_time`, and one column a factor
    cuts, seed : how many sampled cuts; what is drawn from the seed alone is the same on every machine, how
        far the scan comes is not
    factors : the table that was handed over, made by `build` from `panel`; built here where left out
    warm_up_bars : longest warm-up of a factor, which bounds the history that is rebuilt; all of it where left
        out
    declared : warm-up by factor; one that is too short is a `warm_up` leak
    labels : columns of the panel that hold the future, and the bars after which each is known; returns of the
        future are found without
    fresh : gives the builder without memory of earlier calls; a truncation is made with it, because what a
        builder keeps from its first call hides leaks
    settings : the remaining settings (`cuts` above replaces theirs)

    Checks, at each cut: `future_mutation` (all after the cut is changed: numbers, sectors, missing, leaving
    and new symbols), `truncation` (nothing after the cut), `shuffled_future` (the bars after it in another
    order), `gap_truncation` (truncation beside holes in the data). Once each: `known_time` (bars that became
    known late are changed; rows that claim to be known before must not move), `whole_history` (all symbols
    rebuilt up to the last cut against `factors`), `warm_up`, `placebo` and `too_good`. Then cuts are added
    for `budget_s` seconds. A history always begins where the panel, or the window, begins: what depends on
    earlier bars only is no leak.

    A column that two builds of the same panel make differently is listed under `unstable`; leaks smaller than
    its noise can't be seen.

    Raises
    ------
    AuditError
        If the panel has fewer than 3 bars, or `build` fails, returns no table, or refuses every changed
        panel.
    """
    started = time.perf_counter()
    settings = (settings or Settings()).model_copy(update={"cuts": cuts})
    tally = Tally()
    panel = by_time(panel, tally)
    calendar, _ = bar_index(panel["timestamp"])
    if len(calendar) < 3:
        raise AuditError(
            f"The panel has {len(calendar)} bars; the leak audit needs at least 3 to cut between them. Give a"
            " longer panel."
        )
    context = Context(build, calendar, settings, np.random.default_rng(seed), tally)
    grid = make_grid(panel)
    if grid is not None:
        others = [
            name for name in panel.columns if name not in (*KEY, "open", "high", "low", "close", "volume")
        ]
        context.labels = {**label_columns(panel, grid, others), **(labels or {})}
        tally.notes += [
            f"The panel's column {name!r} is a label: its values count as known {bars} bars later"
            for name, bars in context.labels.items()
        ]
    sampled = sample_cuts(
        calendar, settings.cuts, min(warm_up_bars or len(calendar) // 4, len(calendar) // 2), context.rng
    )
    leaks: list[Leak] = []
    if factors is None:
        scene = make_scene(context, panel, "the whole panel")
    else:
        scene = Scene(panel, factors.sort(KEY, maintain_order=True), factor_columns(factors), 0.0)
    if not scene.columns:
        raise AuditError(
            f"The builder under audit returned no factor column (found: {', '.join(scene.base.columns)})."
            " Return timestamp, symbol and one column a factor."
        )
    if scene.base.is_empty():
        raise AuditError(
            "The builder under audit returned no row for the whole panel, so nothing could be checked. Return"
            " a row for each timestamp and symbol with a factor."
        )
    nested = [name for name, dtype in scene.base.schema.items() if dtype.is_nested()]
    if nested:
        tally.notes.append(
            f"Not audited, because they hold lists or structs: {', '.join(nested)}. Return one value a row"
        )
    if factors is not None and settings.whole_history:
        leaks += _whole_history(context, scene, sampled[-1])
    whole = settings.lookback_bars is None and warm_up_bars is None and _affordable(scene, settings)
    lookback = settings.lookback_bars or (
        len(calendar) if warm_up_bars is None else warm_up_bars + MATURE_BARS
    )
    unstable = _repeat(context, scene, whole, lookback)
    guided = (
        guided_cuts(panel, scene.base, _numeric(scene), calendar, settings.guided_cuts)
        if settings.guided_cuts and grid is not None
        else []
    )
    taken = {cut.position for cut in sampled}
    around = [*sampled, *(cut for cut in guided if cut.position not in taken)]
    steps = len(around) + 4
    for done, cut in enumerate(around, start=1):
        leaks += _whole_cut(context, scene, cut) if whole else _window_cut(context, panel, cut, lookback)
        advance("audit", done, steps, f"factors, cut {named(cut.timestamp)}")
    if fresh is not None and whole:
        leaks += truncation(replace(context, build=fresh()), scene, sampled[len(sampled) // 2].timestamp)
    leaks += _late_rows(context, panel, lookback)
    leaks += _late_revisions(context, scene)
    advance("audit", len(around) + 1, steps, "factors, late rows")
    warm_up, short = _warm_up(context, scene, declared or {}, whole, warm_up_bars)
    leaks += short
    advance("audit", len(around) + 2, steps, "factors, warm-up")
    table, statistical = _statistics(grid, panel, scene, settings)
    leaks += statistical
    advance("audit", len(around) + 3, steps, "factors, timing placebo")
    context.caught |= {leak.factor for leak in leaks}
    deadline = started + settings.budget_s
    positions = [cut.position for cut in around]

    def step(what: str) -> None:
        advance("audit", len(around) + 3, steps, what)

    if whole:
        leaks += list(scan(context, scene, deadline, positions, step))
    elif settings.scan_cuts:
        reach, symbols = (
            (lookback, settings.max_symbols)
            if warm_up_bars or settings.lookback_bars
            else _reach(warm_up, scene, settings)
        )
        leaks += list(scan_windows(context, scene, reach, symbols, deadline, positions, step))
    advance("audit", steps, steps, "factors, whole history")
    _require_a_check(tally)
    checked = {
        "factors": len(scene.columns),
        "factor_rows_compared": tally.rows_compared,
        "factor_values_compared": tally.values_compared,
        "factors_without_values": sorted(set(scene.columns) - tally.seen),
        "cuts": sorted(tally.cuts, key=lambda cut: str(cut["timestamp"])),
        "checks": tally.made,
        "builds": tally.builds,
        "notes": [*tally.notes, *note_failures(tally)],
    }
    return AuditResult(merge_leaks(leaks), checked, unstable=unstable, warm_up=warm_up, placebo=table)


def by_time(panel: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """The panel as it stands where each symbol's rows ascend in time, else sorted by time and symbol."""
    if file_order(panel) is not None:
        return panel
    backwards = panel.select((pl.col("timestamp") < pl.col("timestamp").shift(1).over("symbol")).any()).item()
    if not backwards:
        return panel
    tally.notes.append(
        "The panel's rows do not ascend in time within each symbol; they were sorted by time and symbol"
        " before factors were built"
    )
    return panel.sort(KEY, maintain_order=True)


def _affordable(scene: Scene, settings: Settings) -> bool:
    return scene.seconds * BUILDS_A_CUT * (settings.cuts + settings.guided_cuts) <= WHOLE_PANEL_SHARE * max(
        settings.budget_s, 20.0
    )


def _reach(warm_up: list[dict], scene: Scene, settings: Settings) -> tuple[int, int]:
    """Bars before a cut, by the measured warm-ups, and symbols that a build may hold to take a fortieth of
    the budget: all where it can.
    """
    measured = [entry["bars"] for entry in warm_up if entry["bars"] is not None]
    bars = int(np.quantile(measured, 0.9)) + MATURE_BARS if measured else MATURE_BARS
    symbols = scene.panel["symbol"].n_unique()
    seconds = scene.seconds * (bars + settings.future_bars) / scene.panel["timestamp"].n_unique()
    return bars, max(
        settings.max_symbols, int(symbols * min(1.0, settings.budget_s / 40 / max(seconds, 1e-9)))
    )


def _numeric(scene: Scene) -> list[str]:
    return [name for name in scene.columns if scene.base.schema[name].is_numeric()]


def _repeat(context: Context, scene: Scene, whole: bool, lookback: int) -> list[dict]:
    """Build the same panel again; the columns that differ, with the largest difference.

    Where a build takes long, a window is built twice.
    """
    if whole:
        first, panel = scene.base, scene.panel
    else:
        panel = window(scene.panel, context.calendar, len(context.calendar) - 1, lookback, 0)
        panel = panel.filter(
            pl.col("symbol").is_in(
                spread_symbols(panel, context.settings.max_symbols, np.random.default_rng(0))
            )
        )
        first = context.built(panel, "the last bars of the panel")
    second = context.built(panel, "the same panel a second time")
    if len(first) != len(second) or not first.select(KEY).equals(second.select(KEY)):
        raise AuditError(
            "The builder under audit gives other rows each time it is called on the same panel: nothing can"
            " be checked. Fix its seed."
        )
    unstable = []
    for name in factor_columns(first):
        if name not in second.columns:
            raise AuditError(
                f"The builder under audit gives the column {name!r} only at some calls on the same panel:"
                " nothing can be checked. Fix its seed."
            )
        moved = moved_rows(first[name], second[name], 1e-12, forgive_rounding=False)
        if moved is None:
            continue
        finite = moved.sizes[np.isfinite(moved.sizes)]
        size = float(finite.max()) if len(finite) else None
        context.noise[name] = NOISE_MARGIN * size if size else np.inf
        if moved_rows(first[name], second[name], 1e-12) is None:
            continue
        unstable.append({"factor": name, "check": "nondeterministic", "size": size, "rows": len(moved.rows)})
    return unstable


def _whole_cut(context: Context, scene: Scene, cut: Cut) -> Iterator[Leak]:
    context.tally.cuts.append(describe(context, scene, cut))
    for check in (future_mutation, truncation, shuffled, gap_truncation):
        yield from check(context, scene, cut.timestamp)


def _window_cut(context: Context, panel: pl.DataFrame, cut: Cut, lookback: int) -> Iterator[Leak]:
    bars = window(panel, context.calendar, cut.position, lookback, context.settings.future_bars)
    alive = bars.filter(pl.col("timestamp") == cut.timestamp)
    bars = bars.filter(
        pl.col("symbol").is_in(spread_symbols(alive, context.settings.max_symbols, context.rng))
    )
    yield from _whole_cut(context, make_scene(context, bars, f"the bars around {named(cut.timestamp)}"), cut)


def _late_rows(context: Context, panel: pl.DataFrame, lookback: int) -> Iterator[Leak]:
    """Change the bars that became known only after the next bar; rows that were known before that must not
    move.
    """
    calendar = context.calendar
    if "known_time" not in panel.columns or panel.schema["known_time"] != panel.schema["timestamp"]:
        return
    following = pl.DataFrame({"timestamp": calendar, "__next": calendar.shift(-1)})
    late = (
        panel.select("timestamp", "symbol", "known_time")
        .join(following, on="timestamp", how="left")
        .filter(pl.col("known_time") > pl.col("__next"))
    )
    positions = calendar.search_sorted(late["timestamp"].unique().sort()).to_numpy()
    wanted = max(context.settings.cuts, 3)
    chosen = positions if len(positions) <= wanted else context.rng.choice(positions, wanted, replace=False)
    for position in sorted(int(p) + 1 for p in chosen):
        yield from _late_bar(context, panel, position, lookback)
    context.tally.notes.append(
        f"{len(late):,} bars became known after the next bar had closed; {len(chosen)} moments with such bars"
        " were audited"
    )


def _late_bar(context: Context, panel: pl.DataFrame, position: int, lookback: int) -> Iterator[Leak]:
    calendar, settings = context.calendar, context.settings
    bars = window(panel, calendar, position, lookback, settings.future_bars)
    before = bars.filter(pl.col("timestamp") == calendar[position - 1])
    late = before.filter(pl.col("known_time") > calendar[position])["symbol"].to_list()
    alive = bars.filter(pl.col("timestamp").is_between(calendar[position - 1], calendar[position]))
    symbols = spread_symbols(
        alive, settings.max_symbols, context.rng, always=tuple(late[: settings.max_symbols // 2])
    )
    bars = bars.filter(pl.col("symbol").is_in(symbols))
    moment = _moment_of_knowledge(bars, calendar, position)
    changed = other_values(bars, (bars["known_time"] > moment).fill_null(False).to_numpy(), context.rng)
    scene = make_scene(context, bars, f"the bars around {named(moment)}")
    try:
        other = context.built(changed, f"other values of bars known after {named(moment)}")
    except AuditError as error:
        context.tally.failed.setdefault("known_time", str(error))
        return
    base, other = (_known_by(table, bars, moment) for table in (scene.base, other))
    context.tally.rows_compared += len(base)
    context.tally.made["known_time"] = context.tally.made.get("known_time", 0) + 1
    context.tally.cuts.append(describe(context, scene, Cut(position, calendar[position], "late")))
    count(base, scene.columns, context.tally)
    yield from compare(
        base,
        other,
        KEY,
        scene.columns,
        context.place("known_time", calendar[position]),
        settings.mutation_tolerance,
        context.noise,
    )


def _moment_of_knowledge(bars: pl.DataFrame, calendar: pl.Series, position: int):
    """When the punctual rows of a bar were all known."""
    known = bars.filter(pl.col("timestamp") == calendar[position])["known_time"]
    if position + 1 < len(calendar):
        known = known.filter(known <= calendar[position + 1])
    return known.max() or calendar[position]


def _known_by(table: pl.DataFrame, bars: pl.DataFrame, moment) -> pl.DataFrame:
    """The rows that claim to be known at `moment`: by their known_time, or by that of their bar where they
    have none.
    """
    if "known_time" not in table.columns:
        first = bars.group_by(KEY, maintain_order=True).agg(pl.col("known_time").min())
        table = table.join(first, on=KEY, how="left", maintain_order="left")
    return table.filter(pl.col("known_time") <= moment).drop("known_time")


def _late_revisions(context: Context, scene: Scene) -> Iterator[Leak]:
    """Where the panel holds several versions of a bar: take away those that were not known yet; earlier rows
    must not move.
    """
    panel = scene.panel
    if "known_time" not in panel.columns or panel.schema["known_time"] != panel.schema["timestamp"]:
        return
    repeated = panel.select(pl.struct(KEY).is_duplicated()).to_series()
    if not repeated.any():
        return
    later = panel.filter(repeated & (pl.col("known_time") > pl.col("known_time").min().over(KEY)))
    if later.is_empty():
        return
    moments = later["timestamp"].unique().sort()
    chosen = moments.gather(
        np.unique(np.linspace(0, len(moments) - 1, max(context.settings.cuts, 3)).astype(int))
    )
    for bar in chosen:
        moment = later.filter(pl.col("timestamp") == bar)["known_time"].min()
        cut = context.calendar[max(int(context.calendar.search_sorted(moment, side="left")) - 1, 0)]
        known = panel.filter(pl.col("known_time") < moment)
        try:
            after = context.built(known, f"the versions known before {named(moment)}")
        except AuditError as error:
            context.tally.failed.setdefault("known_time", str(error))
            continue
        context.tally.made["known_time"] = context.tally.made.get("known_time", 0) + 1
        base = _before(scene.base, known, cut)
        yield from compare(
            base,
            _before(after, known, cut),
            KEY,
            scene.columns,
            context.place("known_time", cut),
            context.settings.truncation_tolerance,
            context.noise,
        )
    context.tally.notes.append(
        f"{len(later):,} rows are later versions of a bar; {len(chosen)} moments before such versions were"
        " audited"
    )


def _before(table: pl.DataFrame, known: pl.DataFrame, cut) -> pl.DataFrame:
    """The first of a table's rows for each bar that was known, up to the cut."""
    return (
        table.filter(pl.col("timestamp") <= cut)
        .join(known.select(KEY).unique(), on=KEY, how="semi", maintain_order="left")
        .sort(KEY, maintain_order=True)
    )


def _whole_history(context: Context, scene: Scene, cut: Cut) -> list[Leak]:
    """The history up to the last cut, built anew, against the table that was handed over; also tells how long
    a build takes.
    """
    until = pl.col("timestamp") <= cut.timestamp
    history = scene.panel.filter(until)
    started = time.perf_counter()
    rebuilt = context.built(history, f"the whole history up to {named(cut.timestamp)}").filter(until)
    scene.seconds = (time.perf_counter() - started) * len(scene.panel) / len(history)
    shared = [name for name in scene.columns if name in rebuilt.columns]
    rebuilt = rebuilt.select(*KEY, *shared).cast(
        {name: scene.base.schema[name] for name in shared}, strict=False
    )
    handed_over = scene.base.select(*KEY, *scene.columns).filter(until)
    context.tally.rows_compared += len(handed_over)
    count(handed_over, scene.columns, context.tally)
    return compare(
        handed_over,
        rebuilt,
        KEY,
        scene.columns,
        context.place("whole_history", cut.timestamp),
        context.settings.truncation_tolerance,
    )


def _warm_up(
    context: Context, scene: Scene, declared: Mapping[str, int], whole: bool, warm_up_bars: int | None
) -> tuple[list[dict], list[Leak]]:
    if not context.settings.warm_up_starts:
        return [], []
    span = warm_up_bars + MATURE_BARS if warm_up_bars else WARM_UP_BARS
    if not whole:
        bars = 2 * span + MATURE_BARS
        end = int(context.rng.integers(min(bars, len(context.calendar) - 1), len(context.calendar)))
        panel = window(scene.panel, context.calendar, end, bars, 0)
        symbols = spread_symbols(panel, min(WARM_UP_SYMBOLS, context.settings.max_symbols), context.rng)
        scene = make_scene(
            context,
            panel.filter(pl.col("symbol").is_in(symbols)),
            f"the bars up to {named(context.calendar[end])}",
        )
    return measure_warm_up(context, scene, declared, span)


def _statistics(
    grid: Grid | None, panel: pl.DataFrame, scene: Scene, settings: Settings
) -> tuple[list[dict], list[Leak]]:
    return placebo(panel, grid, scene.base, _numeric(scene), settings) if grid is not None else ([], [])


def _require_a_check(tally: Tally) -> None:
    """Refuse to call a builder clean that no changed panel could be shown to."""
    missing = [
        check
        for check in ("future_mutation", "truncation")
        if check in tally.failed and not tally.made.get(check)
    ]
    if len(missing) == 2 or ("truncation" in missing and not tally.made.get("shuffled_future")):
        raise AuditError(
            f"{tally.failed[missing[0]]} It failed so on every changed or cut-off panel, so nothing could be"
            " checked."
        )
