"""What an audit of factors begins with: the panel in order, its calendar, its labels, the sampled cuts, and
the factors of the whole panel.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from components.audit.builders import Builder, Pieces
from components.audit.columns import Table, names_of
from components.audit.compare import in_order
from components.audit.config import Settings
from components.audit.cuts import Cut, sample_cuts
from components.audit.perturb import file_order
from components.audit.placebo import Grid, label_columns, make_grid
from components.audit.result import AuditError
from components.audit.scene import KEY, Context, Scene, Tally, factor_columns, make_scene
from components.timeline import bar_index

PRICES_AND_VOLUME = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Told:
    """What is known of the factors besides the panel and the builder; see `audit_factors`."""

    factors: Table | None = None
    warm_up_bars: int | None = None
    declared: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    fresh: Callable[[], Builder] | None = None
    in_pieces: Pieces | None = None


@dataclass(frozen=True)
class FactorAudit:
    """What an audit of factors works on: the panel, its `grid` of closes (None without them), the whole
    `scene` with its `table` of factors sorted by (timestamp, symbol), and the `sampled` cuts.
    """

    context: Context
    told: Told
    panel: pl.DataFrame
    grid: Grid | None
    scene: Scene
    table: Table
    sampled: list[Cut]


def prepare(panel: pl.DataFrame, build: Builder, told: Told, settings: Settings, seed: int) -> FactorAudit:
    """Everything that the checks share; AuditError for a panel that is too short and a builder that gives no
    factor.
    """
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
        others = [name for name in panel.columns if name not in (*KEY, *PRICES_AND_VOLUME)]
        context.labels = {**label_columns(panel, grid, others), **told.labels}
        tally.notes += [
            f"The panel's column {name!r} is a label: its values count as known {bars} bars later"
            for name, bars in context.labels.items()
        ]
    first = min(told.warm_up_bars or len(calendar) // 4, len(calendar) // 2)
    sampled = sample_cuts(calendar, settings.cuts, first, context.rng)
    scene, table = _whole_scene(context, panel, told)
    return FactorAudit(context, told, panel, grid, scene, table, sampled)


def _whole_scene(context: Context, panel: pl.DataFrame, told: Told) -> tuple[Scene, Table]:
    """The whole panel with the factors that were handed over, or built here; AuditError where there are
    none.

    A table that was handed over as a scan is held only where cuts may be made on the whole panel.
    """
    factors = told.factors
    if factors is None:
        scene = make_scene(context, panel, "the whole panel")
        table = scene.base
    elif isinstance(factors, pl.LazyFrame) and is_bounded(context, told):
        table = factors
        scene = Scene(panel, factors.select(KEY).collect(), factor_columns(factors))
    else:
        table = in_order(factors.lazy().collect(), KEY)
        scene = Scene(panel, table, factor_columns(table))
    if not scene.columns:
        raise AuditError(
            f"The builder under audit returned no factor column (found: {', '.join(names_of(table))})."
            " Return timestamp, symbol and one column a factor."
        )
    if scene.base.is_empty():
        raise AuditError(
            "The builder under audit returned no row for the whole panel, so nothing could be checked. Return"
            " a row for each timestamp and symbol with a factor."
        )
    nested = [name for name, dtype in table.collect_schema().items() if dtype.is_nested()]
    if nested:
        context.tally.notes.append(
            f"Not audited, because they hold lists or structs: {', '.join(nested)}. Return one value a row"
        )
    return scene, table


def is_bounded(context: Context, told: Told) -> bool:
    """Whether it is known how far back factors look, so that a cut needs only the bars around it."""
    return context.settings.lookback_bars is not None or told.warm_up_bars is not None


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
