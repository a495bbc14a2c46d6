"""What the served model learned from and what it said, cut to the windows from training to test."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from components.contracts import (
    BETA_COLUMN,
    INDUSTRY_COLUMN,
    RETURN_COLUMN,
    SECTOR_COLUMN,
    CatalogEntry,
)
from components.drift.config import Settings
from components.drift.outcomes import labels_of
from components.drift.tables import SCORE, DriftError
from components.drift.warm_up import with_own_bars
from components.timeline import Settings as TimelineSettings
from components.timeline import resolve_windows

FEWEST_BARS = 30
# Codes of names are no quantities: their distribution shifts with every listing and says nothing that a test
# of numbers could judge. Beta and the last return are for books alone: no model learns from them.
NOT_WATCHED = (SECTOR_COLUMN, INDUSTRY_COLUMN, BETA_COLUMN, RETURN_COLUMN)
SERVED_EXPERT = "stack"
# Columns that are read together: each reading begins with the end of the file, which tells where they lie.
COLUMNS_AT_ONCE = 8


@dataclass(frozen=True)
class Watched:
    """A column that is watched: its group, its kind, and the bars that it needs before its first value."""

    group: str
    kind: str
    warm_up_bars: int


@dataclass(frozen=True)
class Learned:
    """What the model learned from and said, cut to the window: its `rows` with the score and the symbol's
    own bars, `values` of the training set in the same rows, all that the stack said with its labels, and the
    watched columns by name. From `newest` on lie as many bars as drift looks at.
    """

    rows: pl.DataFrame
    values: pl.LazyFrame
    said: pl.DataFrame
    known: pl.DataFrame
    columns: Mapping[str, Watched]
    first: datetime
    last: datetime
    newest: datetime

    def blocks(self) -> Iterator[pl.DataFrame]:
        """The watched columns as Float32 (N,), some at a time, in their order."""
        kept = [name for name in self.columns if name != SCORE]
        for start in range(0, len(kept), COLUMNS_AT_ONCE):
            yield self.read(kept[start : start + COLUMNS_AT_ONCE])
        yield self.rows.select(SCORE)

    def read(self, names: Sequence[str]) -> pl.DataFrame:
        """Columns of the training set as Float32 (N,)."""
        return self.values.select(pl.col(names).cast(pl.Float32)).collect()


def learned_from(
    training_set: pl.DataFrame | pl.LazyFrame,
    labels: pl.DataFrame,
    predictions: pl.DataFrame,
    catalog: Sequence[CatalogEntry],
    settings: Settings,
    timeline: TimelineSettings,
) -> Learned:
    """The tables of `make_reference`, cut and joined.

    Raises
    ------
    DriftError
        If the window holds fewer than 30 bars or the stack predicted nothing in it.
    """
    # No more than the keys is held of all rows: values are read some columns at a time.
    keys = training_set.lazy().select("timestamp", "symbol").collect()
    calendar = keys["timestamp"].unique().sort()
    windows = resolve_windows(calendar, timeline)
    first, last = calendar[windows.train[0]], calendar[windows.test[1] - 1]
    begin = keys["timestamp"].search_sorted(first, side="left")
    count = keys["timestamp"].search_sorted(last, side="right") - begin
    rows = with_own_bars(keys).slice(begin, count)
    _require_enough_bars(rows["timestamp"].n_unique())
    said = _said(predictions, first, last)
    kind = said.row(0, named=True)
    tested = _newest_said(said, calendar[windows.test[0]], settings)
    return Learned(
        rows=rows.join(
            tested.select("timestamp", "symbol", pl.col(SCORE).cast(pl.Float32)),
            on=["timestamp", "symbol"],
            how="left",
            maintain_order="left",
        ),
        values=training_set.lazy().slice(begin, count),
        said=said,
        known=labels_of(labels, kind["horizon"], kind["target"]),
        columns=_watched(catalog, training_set.collect_schema().names())
        | {SCORE: Watched("predictions", "score", 0)},
        first=first,
        last=last,
        newest=calendar[max(windows.test[1] - settings.window_bars, 0)],
    )


def _require_enough_bars(bars: int) -> None:
    if bars < FEWEST_BARS:
        raise DriftError(
            f"The train to test windows hold {bars} bars; {FEWEST_BARS} are needed to say what is usual."
            " Lengthen timeline.train or the panel."
        )


def _said(predictions: pl.DataFrame, first: datetime, last: datetime) -> pl.DataFrame:
    """The stack's predictions in the window."""
    said = predictions.filter(
        (pl.col("expert") == SERVED_EXPERT) & pl.col("timestamp").is_between(first, last)
    )
    if said.is_empty():
        raise DriftError(
            f"No prediction of {SERVED_EXPERT!r} lies between {first:%Y-%m-%d} and {last:%Y-%m-%d}, so what"
            " the model says can't be watched. Run the stacking stage."
        )
    return said


def _newest_said(said: pl.DataFrame, test_start: datetime, settings: Settings) -> pl.DataFrame:
    """Those of the test window where it is long enough: the combiner has seen the validation window, and its
    early folds learned from little, so the test window is what the served model resembles.
    """
    tested = said.filter(pl.col("timestamp") >= test_start)
    return tested if tested["timestamp"].n_unique() >= 2 * settings.window_bars else said


def _watched(catalog: Sequence[CatalogEntry], found: Sequence[str]) -> dict[str, Watched]:
    """Inputs and context that are among the columns that were found, by column."""
    return {
        entry.column: Watched(entry.group, entry.role, entry.warm_up_bars)
        for entry in catalog
        if entry.role in ("input", "context") and entry.column in found and entry.column not in NOT_WATCHED
    }
