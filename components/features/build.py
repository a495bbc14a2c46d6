"""Builds the factors table from a panel: raw values, then models' inputs, then formulas over both, then the
inputs of coarser periods.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from components.contracts import PANEL, CatalogEntry
from components.features.catalog import (
    STALE_BARS,
    catalog,
    columns_read,
    declared_factors,
    longest_warm_up,
    of_coarser,
    own_period,
    refuse_finer,
)
from components.features.coarser import gathered, joined, seen_bars
from components.features.config import Settings
from components.features.hidden_regime import with_hidden_regime
from components.features.inputs import formula_values, with_ranks, with_scores
from components.features.kernels import BAR
from components.features.known_times import known_times
from components.features.library import Factor
from components.features.places import places_of, tail_start
from components.features.raw_values import arranged, market_values, own_blocks
from components.features.support import panel_period, supported_catalog, unsupported
from components.timeline.periods import LENGTHS


@dataclass(frozen=True)
class _PanelRows:
    """Where the rows of a panel stand; all (rows,).

    `order` and `back` as in ArrangedPanel; `bar`, the number within the symbol, in the order of symbol and
    time; `time`, the number of the timestamp, and `late` (None: no row is) in that of the panel.
    """

    order: np.ndarray
    back: np.ndarray
    bar: np.ndarray
    time: np.ndarray
    late: np.ndarray | None


def build_factors(panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Raw factors and models' inputs at every bar, as declared in the library and normalised by `settings`.

    A row is late when a bar of its warm-up became known more than one bar's length after the row's timestamp
    (after the usual moment, where most of the timestamp is slower than that). It takes no part in the means
    and ranks that other symbols see, and has no ranks of its own. Inputs of `settings.coarser` periods stand
    at each row as they were known there (see `coarser_inputs`).

    Parameters
    ----------
    panel : a PANEL table of one period, with the fused columns that `settings.slow` and `settings.formulas`
        name; further columns are ignored

    Returns
    -------
    A FACTORS table with the panel's rows, and the columns of `catalog` in its order. `known_time` is the
    latest known time of the symbol's bars within the longest warm-up, and of the punctual rows of the others.
    Values that are not finite are null. So is a factor that reads a column which the panel lacks:
    `unsupported` lists them.

    Raises
    ------
    FeatureError
        If the panel holds no rows, several periods, or a period that the library does not know.
    """
    period = panel_period(panel)
    panel = panel.sort(*PANEL.key)
    table = _of_one_period(panel, own_period(settings), LENGTHS[period])
    return table.hstack(coarser_inputs(panel, table, settings, period))


def coarser_inputs(
    panel: pl.DataFrame,
    rows: pl.DataFrame,
    settings: Settings,
    period: str,
    *,
    newer: tuple[datetime, pl.Series] | None = None,
) -> pl.DataFrame:
    """The inputs of all coarser periods at each of `rows` (`timestamp`, `symbol`, `known_time`), in the
    catalog's order.

    The factors of a period are made from its bars alone, ranks and residuals among those of one end: a
    symbol that is late by more than one of the panel's bars is left out of them.

    Parameters
    ----------
    panel : PANEL table, sorted by its key
    newer : where all rows are newer than a first part of the panel: the first row's timestamp, and the
        symbols with bars before the panel; then no more bars are made than these rows need

    Raises
    ------
    FeatureError
        If `newer` is given and the panel is too short for what the rows need.
    """
    refuse_finer(settings, period)
    found, own = [], of_coarser(settings)
    for coarser in settings.coarser:
        bars = gathered(panel, coarser, columns_read(own, coarser))
        if newer is not None and len(bars):
            bars = _newest(bars, own, coarser, *newer)
        columns = [entry.column for entry in catalog(own, coarser) if entry.role == "input"]
        if bars.is_empty():
            values = pl.DataFrame(schema=dict.fromkeys(columns, pl.Float32))
            seen = pl.Series([None], dtype=pl.UInt32).new_from_index(0, len(rows))
        else:
            values = _of_one_period(bars, own, LENGTHS[period])
            seen = seen_bars(rows, values)
        found.append(joined(values, columns, seen, coarser))
    return pl.concat(found, how="horizontal") if found else pl.DataFrame()


def _newest(
    bars: pl.DataFrame, settings: Settings, period: str, since: datetime, before: pl.Series
) -> pl.DataFrame:
    """The coarser bars that rows from `since` on may see, with the history that their factors need."""
    places = places_of(bars, before)
    ended = int(bars["timestamp"].unique().sort().search_sorted(since, side="right"))
    needed = 2 * longest_warm_up(catalog(settings, period))
    start = tail_start(places, ended - STALE_BARS, needed)
    return bars[int(np.searchsorted(places.time, start)) :]


def _of_one_period(panel: pl.DataFrame, settings: Settings, punctual: timedelta) -> pl.DataFrame:
    """The table of one period's own columns; the panel is sorted, and a row that is known more than
    `punctual` after its timestamp is late.
    """
    period = panel_period(panel)
    entries = catalog(settings, period)
    gone = unsupported(panel, settings)
    factors = [factor for factor in declared_factors(settings, period) if factor.name not in gone]
    time, timestamps = panel["timestamp"].rle_id().to_numpy(), panel["timestamp"].unique(maintain_order=True)
    bars = arranged(panel, factors, settings)
    known_time, bars.late = known_times(bars.frame, longest_warm_up(entries), punctual)
    late = None if bars.late is None else bars.late[bars.back]
    rows = _PanelRows(bars.order, bars.back, bars.frame[BAR].to_numpy(), time, late)
    columns = {**panel.select(PANEL.key).to_dict(), "known_time": known_time.gather(rows.back)}
    market = market_inputs(market_values(bars, factors), factors, settings, timestamps)
    columns |= {series.name: series.gather(time) for series in market}
    for values in own_blocks(bars, [factor for factor in factors if factor.scope != "market"]):
        columns |= _with_inputs(values, factors, settings, rows)
    del bars, market
    formulas, values = formula_values(panel, columns, settings)
    if formulas:
        columns |= _with_inputs(values[rows.order], formulas, settings, rows)
    wanted = (*PANEL.key, "known_time", *(entry.column for entry in entries))
    nothing = pl.Series([None], dtype=pl.Float32).new_from_index(0, len(panel))
    return pl.DataFrame([columns.get(name, nothing).alias(name) for name in wanted])


def build_supported(
    panel: pl.DataFrame, settings: Settings
) -> tuple[pl.DataFrame, list[CatalogEntry], str | None]:
    """The factors table without the columns that this panel can't support, its catalog, and a line on what
    was left out (None: nothing).
    """
    entries, left_out = supported_catalog(panel, settings)
    table = build_factors(panel, settings)
    return table.select(*PANEL.key, "known_time", *(entry.column for entry in entries)), entries, left_out


def _with_inputs(
    values: pl.DataFrame, factors: Sequence[Factor], settings: Settings, rows: _PanelRows
) -> dict[str, pl.Series]:
    """Raw values and inputs in the panel's order, of raw values in the order of symbol and time."""
    scored = with_scores(values, factors, settings, rows.bar)[rows.back]
    return {series.name: series for series in with_ranks(scored, factors, settings, rows.time, rows.late)}


def market_inputs(
    market: pl.DataFrame, factors: Sequence[Factor], settings: Settings, timestamps: pl.Series
) -> pl.DataFrame:
    """The market's columns, raw and as inputs, of its raw values; one row for each of `timestamps`."""
    scored = with_scores(market, factors, settings, np.arange(len(market)))
    return with_hidden_regime(scored, timestamps, settings)
