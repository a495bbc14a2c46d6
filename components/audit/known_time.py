"""Checks of `known_time`: bars that became known late, and later versions of a bar, must not reach rows that
claim to have been known before.
"""

from collections.abc import Iterator
from datetime import datetime

import numpy as np
import polars as pl

from components.audit.compare import MUTATION_TOLERANCE, TRUNCATION_TOLERANCE, compare
from components.audit.cuts import Cut, spread_symbols, window
from components.audit.perturb import other_values
from components.audit.result import AuditError, Leak
from components.audit.scan import describe
from components.audit.scene import KEY, Context, Scene, count, make_scene, named


def late_rows(context: Context, panel: pl.DataFrame, lookback: int) -> Iterator[Leak]:
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
    calendar = context.calendar
    cut = calendar[position]
    bars = _around_late_bar(context, panel, position, lookback)
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
    context.tally.cuts.append(describe(context, scene, Cut(position, cut, "late")))
    count(base, scene.columns, context.tally)
    place, tolerance = context.place("known_time", cut), MUTATION_TOLERANCE
    yield from compare(base, other, KEY, scene.columns, place, tolerance, context.noise)


def _around_late_bar(context: Context, panel: pl.DataFrame, position: int, lookback: int) -> pl.DataFrame:
    """The bars around a position, of some symbols; half of them at most are those that came late there."""
    calendar = context.calendar
    bars = window(panel, calendar, position, lookback, context.settings.future_bars)
    before = bars.filter(pl.col("timestamp") == calendar[position - 1])
    late = before.filter(pl.col("known_time") > calendar[position])["symbol"].to_list()
    alive = bars.filter(pl.col("timestamp").is_between(calendar[position - 1], calendar[position]))
    first = tuple(late[: context.settings.max_symbols // 2])
    symbols = spread_symbols(alive, context.settings.max_symbols, context.rng, always=first)
    return bars.filter(pl.col("symbol").is_in(symbols))


def _moment_of_knowledge(bars: pl.DataFrame, calendar: pl.Series, position: int) -> datetime:
    """When the punctual rows of a bar were all known."""
    known = bars.filter(pl.col("timestamp") == calendar[position])["known_time"]
    if position + 1 < len(calendar):
        known = known.filter(known <= calendar[position + 1])
    return known.max() or calendar[position]


def _known_by(table: pl.DataFrame, bars: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """The rows that claim to be known at `moment`: by their known_time, or by that of their bar where they
    have none.
    """
    if "known_time" not in table.columns:
        first = bars.group_by(KEY, maintain_order=True).agg(pl.col("known_time").min())
        table = table.join(first, on=KEY, how="left", maintain_order="left")
    return table.filter(pl.col("known_time") <= moment).drop("known_time")


def late_revisions(context: Context, scene: Scene) -> Iterator[Leak]:
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
    wanted = max(context.settings.cuts, 3)
    chosen = moments.gather(np.unique(np.linspace(0, len(moments) - 1, wanted).astype(int)))
    for bar in chosen:
        moment = later.filter(pl.col("timestamp") == bar)["known_time"].min()
        position = int(context.calendar.search_sorted(moment, side="left"))
        cut = context.calendar[max(position - 1, 0)]
        known = panel.filter(pl.col("known_time") < moment)
        try:
            after = context.built(known, f"the versions known before {named(moment)}")
        except AuditError as error:
            context.tally.failed.setdefault("known_time", str(error))
            continue
        context.tally.made["known_time"] = context.tally.made.get("known_time", 0) + 1
        before = (_before(table, known, cut) for table in (scene.base, after))
        place, tolerance = context.place("known_time", cut), TRUNCATION_TOLERANCE
        yield from compare(*before, KEY, scene.columns, place, tolerance, context.noise)
    context.tally.notes.append(
        f"{len(later):,} rows are later versions of a bar; {len(chosen)} moments before such versions were"
        " audited"
    )


def _before(table: pl.DataFrame, known: pl.DataFrame, cut: datetime) -> pl.DataFrame:
    """The first of a table's rows for each bar that was known, up to the cut."""
    return (
        table.filter(pl.col("timestamp") <= cut)
        .join(known.select(KEY).unique(), on=KEY, how="semi", maintain_order="left")
        .sort(KEY, maintain_order=True)
    )
