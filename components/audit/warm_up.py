"""Measures how many bars each factor needs until it no longer depends on where history begins, and holds
declared warm-ups to it.

Bars are those of a symbol: one that trades on every other day has half as many as the calendar. What looks at
many symbols at once reaches as far back in time as the rarest of them; so warm-ups are measured on the same
bars without the gaps between them.
"""

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import polars as pl

from components.audit.compare import Moved, moved_rows
from components.audit.result import AuditError, Leak
from components.audit.scene import KEY, Context, Scene, named
from components.timeline import bar_index

# Share of the value, or of the column's median size, within which a factor that starts later counts as
# stable.
WARM_UP_TOLERANCE = 1e-5


def measure_warm_up(
    context: Context, scene: Scene, declared: Mapping[str, int], span_bars: int
) -> tuple[list[dict], list[Leak]]:
    """Rebuild from later starts and see from which bar on each factor equals the one with the whole history.

    Returns
    -------
    One dict a factor: `factor`, `bars` (bars of a symbol, the first included, until the value is that of the
    whole history; None where it is not within the bars looked at), `looked_at_bars`, `declared`; and a
    `warm_up` leak for each declared warm-up that is too short.
    """
    calendar = scene.panel["timestamp"].unique().sort()
    if len(calendar) < 8:
        return [], []
    bars: dict[str, int] = {}
    looked_at, findings = 0, []
    starts = np.unique(np.linspace(0.2, 0.5, context.settings.warm_up_starts) * len(calendar)).astype(int)
    for start in starts:
        end = min(int(start) + span_bars, len(calendar)) - 1
        window = scene.panel.filter(pl.col("timestamp").is_between(calendar[int(start)], calendar[end]))
        try:
            later = context.built(window, f"the history from {named(calendar[int(start)])}")
        except AuditError as error:
            context.tally.notes.append(
                f"The warm-up was not measured from {named(calendar[int(start)])}: {error}"
            )
            continue
        looked_at = max(looked_at, end - int(start) + 1)
        found, short = _stable_after(context, scene, window, later, calendar[int(start)], declared)
        bars = {name: max(bars.get(name, 0), value) for name, value in found.items()}
        findings += short
    table = [
        {
            "factor": name,
            "bars": value if value < looked_at else None,
            "looked_at_bars": looked_at,
            "declared": declared.get(name),
        }
        for name, value in bars.items()
        if name not in context.noise
    ]
    return table, findings


def without_gaps(panel: pl.DataFrame) -> pl.DataFrame:
    """The panel with each symbol's bars one directly after another: its last bar stays where it is, and each
    earlier one takes the moment of the calendar before. All times of a row move alike. The same object where
    there are no gaps.
    """
    calendar = panel["timestamp"].unique().sort()
    moment = pl.col("timestamp")
    numbered = panel.select("symbol", "timestamp").with_columns(
        pl.Series("place", calendar.search_sorted(panel["timestamp"])).cast(pl.Int64),
        (moment.n_unique().over("symbol").cast(pl.Int64) - moment.rank("dense").over("symbol")).alias(
            "after"
        ),
    )
    packed = numbered.select(pl.col("place").max().over("symbol") - pl.col("after")).to_series()
    if packed.equals(numbered["place"], check_names=False):
        return panel
    shift = calendar.gather(packed) - panel["timestamp"]
    clocks = [name for name, dtype in panel.schema.items() if dtype == pl.Datetime or name == "timestamp"]
    moved = panel.with_columns(pl.col(name) + shift for name in clocks)
    return moved.sort(KEY, maintain_order=True) if panel["timestamp"].is_sorted() else moved


def _stable_after(
    context: Context,
    scene: Scene,
    window: pl.DataFrame,
    later: pl.DataFrame,
    start: datetime,
    declared: Mapping[str, int],
) -> tuple[dict[str, int], list[Leak]]:
    """By factor the bars until it is stable from this start on, and the declared warm-ups that are shorter.

    The last bar of the window does not speak: a factor that is stable from then on has not been seen to be.
    """
    rows = _comparable_rows(scene, window, start)
    before = rows.join(scene.base, on=KEY, how="left", maintain_order="left")
    after = rows.join(later, on=KEY, how="left", maintain_order="left")
    if len(before) != len(rows) or len(after) != len(rows):
        return {}, []
    bars_here = len(bar_index(window["timestamp"])[0])
    ready = rows["__youngest"].to_numpy()
    found, short = {}, []
    for name in scene.columns:
        if name not in after.columns or name in context.noise:
            continue
        moved = moved_rows(before[name], after[name], WARM_UP_TOLERANCE)
        stable = 1 if moved is None else int(ready[moved.rows].max()) + 1
        valid = _has_value(after[name])
        if moved is None and not valid.any():
            continue  # no value here, in either table: nothing to see
        first = int(ready[valid.to_numpy()].min()) if valid.any() else bars_here + 1
        found[name] = max(stable, first)
        wanted = declared.get(name)
        if moved is not None and wanted is not None and stable > wanted:
            short.append(_too_short(name, moved, rows, start, wanted, stable))
    return found, short


def _comparable_rows(scene: Scene, window: pl.DataFrame, start: datetime) -> pl.DataFrame:
    """Key and `__youngest` of the rows of symbols that are older than the start.

    `__youngest` is the least number of bars since the start that such a symbol has at the timestamp: ranks
    among symbols need them all.
    """
    older = scene.panel.filter(pl.col("timestamp") < start)["symbol"].unique()
    keys = window.select(KEY).unique(maintain_order=True).sort(KEY)
    ages = keys.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("symbol").alias("__age"))
    of_older = pl.col("symbol").is_in(older.implode())
    youngest = ages.filter(of_older).group_by("timestamp").agg(pl.col("__age").min().alias("__youngest"))
    return ages.join(youngest, on="timestamp", how="inner").filter(of_older).sort(KEY)


def _has_value(values: pl.Series) -> pl.Series:
    return values.is_not_nan().fill_null(False) if values.dtype.is_float() else values.is_not_null()


def _too_short(
    name: str, moved: Moved, rows: pl.DataFrame, start: datetime, wanted: int, stable: int
) -> Leak:
    """The leak of a factor that still moves after the `wanted` bars that the catalog declares."""
    ready = rows["__youngest"].to_numpy()
    is_late = ready[moved.rows] >= wanted
    late, sizes = moved.rows[is_late], moved.sizes[is_late]
    place = int(late[0])
    return Leak(
        "warm_up",
        name,
        rows["timestamp"][place],
        rows["symbol"][place],
        start,
        rows=len(late),
        absolute=float(np.nanmax(sizes)) if np.isfinite(sizes).any() else None,
        detail=(
            f"The catalog declares {wanted} bars; from {named(start)} on the values still differ after"
            f" {stable - 1} bars"
        ),
    )
