"""Audits labels: entered after the signal, known at label_end.

Checks: `label_future` and `label_truncation` (labels whose label_end is at or before the cut do not depend on
later bars, and none exists without its future; a barrier is settled at its `barrier_end`, a `cost` at its
timestamp, and no beta or cost is taken from the bars between entry and exit), `label_entry` (labels at or
after the cut do not depend on prices up to the cut; the columns of `OF_THE_PAST` may, but only on returns and
ranges: at the cut itself they do not move when all prices up to it are multiplied by one number),
`label_reach` (label_end lies after the timestamp and at most horizon + ENTRY_LAG_BARS bars later, barrier_end
between both) and `whole_history` (the table handed over against a rebuild).
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import polars as pl

from components.audit.builders import Builder, Pieces
from components.audit.columns import Table, names_of
from components.audit.compare import Place, in_order
from components.audit.config import Settings
from components.audit.cuts import Cut, sample_cuts, window
from components.audit.label_scene import (
    KEY,
    OF_THE_PAST,
    LabelScene,
    built_label_pieces,
    built_labels,
    known_rows,
    label_between,
    label_entry,
    label_future,
    label_level,
    settled,
    targets,
)
from components.audit.piecewise import HandedOver, compare_pieces
from components.audit.result import AuditResult, Leak, merge_leaks
from components.audit.scene import named
from components.timeline import bar_index
from components.timeline.entry import ENTRY_LAG_BARS

# Bars before a cut that are rebuilt at least, so that betas and volatilities at the cut are known.
LOOKBACK_BARS = 100
READ_FOR_REACH = ("timestamp", "symbol", "horizon", "label_end", "barrier", "barrier_end")


def audit_labels(
    panel: pl.DataFrame,
    build: Builder,
    *,
    cuts: int = 3,
    seed: int = 0,
    labels: Table | None = None,
    in_pieces: Pieces | None = None,
    settings: Settings | None = None,
) -> AuditResult:
    """Audit the labels that `build` makes from a panel.

    `build` takes a `PANEL` table and returns a `LABELS` table; `labels` is the table that was handed over,
    built here where left out; a scan is held as a whole only beside the history that is built anew, and not
    there where `in_pieces` makes the same labels in blocks of bars. Raises AuditError where `build` fails.
    """
    settings = (settings or Settings()).model_copy(update={"cuts": cuts})
    panel = in_order(panel, ("timestamp", "symbol"))
    calendar, _ = bar_index(panel["timestamp"])
    rng = np.random.default_rng(seed)
    if labels is None:
        labels = built_labels(build, panel, "the whole panel")
    horizons = labels.lazy().select(pl.col("horizon").unique().sort()).collect().to_series()
    reach = int(horizons.max() or 1) + ENTRY_LAG_BARS
    names = [name for name in READ_FOR_REACH if name in names_of(labels)]
    leaks = [*_reach(labels.lazy().select(names).collect(), calendar, settings)]
    rows = 0
    sampled = sample_cuts(calendar, settings.cuts, min(4 * reach, len(calendar) // 2), rng)
    for cut in sampled:
        bars = window(panel, calendar, cut.position, max(4 * reach + 20, LOOKBACK_BARS), 2 * reach + 20)
        base = built_labels(build, bars, f"the bars around {named(cut.timestamp)}")
        found, compared = _at_cut(LabelScene(build, bars, base, cut, calendar, settings, rng))
        leaks += found
        rows += compared
    if settings.whole_history:
        last = sampled[-1]
        place = Place("whole_history", last.timestamp, calendar)
        past = panel.filter(pl.col("timestamp") <= last.timestamp)
        if in_pieces is None:
            anew = built_labels(build, past, "the whole history")
            leaks += settled(labels.lazy().collect(), anew, last, place)
            rows += len(anew)
        else:
            pieces = built_label_pieces(in_pieces, past, "the whole history")
            found, compared = _whole_in_pieces(labels, pieces, last, place)
            leaks += found
            rows += compared
    checked = {
        "label_rows_compared": rows,
        "label_columns": len(targets(labels)),
        "horizons": horizons.to_list(),
    }
    return AuditResult(merge_leaks(leaks), checked)


def _at_cut(scene: LabelScene) -> tuple[list[Leak], int]:
    """What all checks find at one cut, and how many rows they compared."""
    base, rows = scene.base, 3 * len(scene.base)
    leaks = [*label_future(scene), *label_entry(scene)]
    if set(OF_THE_PAST) & set(base.columns):
        rows += len(base.filter(pl.col("timestamp") == scene.moment)) * (1 + base["horizon"].n_unique())
        leaks += label_level(scene)
        leaks += label_between(scene)
    return leaks, rows


def _whole_in_pieces(
    labels: Table, pieces: Iterator[pl.DataFrame], last: Cut, place: Place
) -> tuple[list[Leak], int]:
    """What differs between the labels handed over, sorted by time, and pieces that are built anew, among
    those known at the last cut; and how many rows were built.
    """
    built = []

    def counted() -> Iterator[pl.DataFrame]:
        for piece in pieces:
            built.append(len(piece))
            yield piece
            # Or it would stand beside the next one.
            del piece

    until = labels.lazy().filter(pl.col("timestamp") <= last.timestamp)
    handed_over = HandedOver(
        labels,
        rows=until.select(pl.len()).collect().item(),
        key=KEY,
        columns=[*targets(labels), "label_end"],
        told=("label_end",),
        chosen=partial(known_rows, cut=last),
    )
    return compare_pieces(handed_over, counted(), place), sum(built)


def _reach(labels: pl.DataFrame, calendar: pl.Series, settings: Settings) -> Iterator[Leak]:
    """Labels that end later than purging counts on, or not after their timestamp."""
    labelled = labels.filter(pl.col("label_end").is_not_null())
    start, end = (
        calendar.search_sorted(labelled[name], side="left").cast(pl.Int64)
        for name in ("timestamp", "label_end")
    )
    bars = end - start
    too_late = bars > labelled["horizon"].cast(pl.Int64) + ENTRY_LAG_BARS
    not_after = labelled["label_end"] <= labelled["timestamp"]
    for wrong, detail in (
        (too_late, "label_end lies more than horizon + entry lag bars after the timestamp"),
        (not_after, "label_end does not lie after the timestamp"),
    ):
        if wrong.any():
            ahead = int(bars.filter(wrong).max())
            yield _of_reach("label_end", labelled.filter(wrong), detail, ahead)
    if {"barrier", "barrier_end"} <= set(labels.columns):
        end = pl.col("barrier_end")
        inside = (end > pl.col("timestamp")) & (end <= pl.col("label_end"))
        wrong = labels.filter(pl.col("barrier").is_not_null() & ~inside.fill_null(False))
        if len(wrong):
            detail = "barrier_end does not lie between the timestamp and label_end"
            yield _of_reach("barrier_end", wrong, detail)


def _of_reach(column: str, wrong: pl.DataFrame, detail: str, ahead: int | None = None) -> Leak:
    first = wrong.row(0, named=True)
    rows = len(wrong)
    return Leak(
        "label_reach", column, first["timestamp"], first["symbol"], rows=rows, bars_ahead=ahead, detail=detail
    )
