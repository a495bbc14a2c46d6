"""The bars around a cut with the labels that a builder makes of them, and the checks that change bars and
build again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from components.audit.builders import Builder, Pieces, checked_table
from components.audit.columns import Table, names_of
from components.audit.compare import MUTATION_TOLERANCE, ROW, TRUNCATION_TOLERANCE, Place, compare, in_order
from components.audit.config import Settings
from components.audit.cuts import Cut
from components.audit.perturb import PRICES, other_future, other_values
from components.audit.result import AuditError, Leak
from components.audit.scene import named
from components.contracts import AlphaloopError
from components.timeline.entry import ENTRY_LAG_BARS

KEY = ("timestamp", "symbol", "horizon")
BARRIER = ("barrier", "barrier_return", "barrier_end")
# What may know returns up to its own timestamp: barriers are as wide as volatility was, betas and costs are
# estimates at the signal.
OF_THE_PAST = ("beta_neutral_return", *BARRIER, "trade_class", "cost")
# Where a change in price is not believed.
STEPS = ("level_step",)
# What depends on the prices at entry and exit, besides the past, but on no bar between them.
OF_THE_ENDS = (
    "log_return",
    "direction",
    "trend",
    "return_quantile",
    "sector_neutral_return",
    "beta_neutral_return",
    "trade_class",
    "cost",
)


@dataclass(frozen=True)
class LabelScene:
    """A stretch of the panel around a cut, and `base`, its labels."""

    build: Builder
    bars: pl.DataFrame
    base: pl.DataFrame
    cut: Cut
    calendar: pl.Series
    settings: Settings
    rng: np.random.Generator

    @property
    def moment(self) -> datetime:
        return self.cut.timestamp

    @property
    def past(self) -> np.ndarray:
        """Which bars stand at or before the cut."""
        return (self.bars["timestamp"] <= self.moment).to_numpy()

    def built(self, bars: pl.DataFrame, what: str) -> pl.DataFrame:
        return built_labels(self.build, bars, f"{what} {named(self.moment)}")

    def place(self, check: str) -> Place:
        return Place(check, self.moment, self.calendar)


def label_future(scene: LabelScene) -> list[Leak]:
    """Labels that are known at the cut, when the future is changed and when it is not there."""
    changed = scene.built(other_future(scene.bars, scene.moment, scene.rng), "a changed future after")
    place = scene.place("label_future")
    leaks = settled(scene.base, changed, scene.cut, place)
    leaks += _settled_before_their_end(scene.base, changed, scene.cut, place)

    shorter = scene.built(scene.bars.filter(pl.col("timestamp") <= scene.moment), "the history up to")
    leaks += settled(scene.base, shorter, scene.cut, scene.place("label_truncation"))
    return leaks + _too_early(shorter, scene.moment)


def _too_early(shorter: pl.DataFrame, cut: datetime) -> list[Leak]:
    """Labels of a history that ends at the cut which exist before their future does."""
    leaks = []
    unknown = pl.col("label_end").is_null() | (pl.col("label_end") > cut)
    for name in targets(shorter):
        early = shorter.filter(pl.col(name).is_not_null() & unknown)
        if early.is_empty():
            continue
        first = early.row(0, named=True)
        leaks.append(
            Leak(
                "label_truncation",
                name,
                first["timestamp"],
                first["symbol"],
                cut,
                rows=len(early),
                appeared_or_vanished=len(early),
                detail="These labels exist before their future does",
            )
        )
    return leaks


def settled(base: pl.DataFrame, other: pl.DataFrame, cut: Cut, place: Place) -> list[Leak]:
    """Compare the labels that either table holds to be known at the cut; the rest may differ."""
    of_base, of_other = known_rows(base, other, cut)
    columns = [*targets(base), "label_end"]
    return compare(base[of_base], other[of_other], KEY, columns, place, TRUNCATION_TOLERANCE)


def known_rows(base: pl.DataFrame, other: pl.DataFrame, cut: Cut) -> tuple[pl.Series, pl.Series]:
    """Numbers of the rows of each table that either holds to be known at the cut."""
    base, other = (
        table.select(*KEY, "label_end").with_row_index(ROW).filter(pl.col("timestamp") <= cut.timestamp)
        for table in (base, other)
    )
    if len(base) == len(other) and all(base[name].equals(other[name]) for name in KEY):
        known = ((base["label_end"] <= cut.timestamp).fill_null(False)) | (
            (other["label_end"] <= cut.timestamp).fill_null(False)
        )
        return base[ROW].filter(known), other[ROW].filter(known)
    known = pl.concat(
        [table.filter(pl.col("label_end") <= cut.timestamp).select(KEY) for table in (base, other)]
    ).unique()
    return tuple(table.join(known, on=KEY, how="semi").sort(KEY)[ROW] for table in (base, other))


def _settled_before_their_end(
    base: pl.DataFrame, changed: pl.DataFrame, cut: Cut, place: Place
) -> list[Leak]:
    """Compare what is settled before label_end, where both tables hold it: barriers that were touched by the
    cut, costs of signals up to it.
    """
    leaks = []
    for columns, settled in ((BARRIER, "barrier_end"), (("cost",), "timestamp")):
        if not set(columns) <= set(base.columns) & set(changed.columns):
            continue
        tables = [
            table.filter(pl.col("timestamp") <= cut.timestamp, pl.col(columns[0]).is_not_null()).select(
                *KEY, *columns
            )
            for table in (base, changed)
        ]
        known = pl.concat(
            [table.filter(pl.col(settled) <= cut.timestamp).select(KEY) for table in tables]
        ).unique()
        both = [
            table.join(known, on=KEY, how="semi").join(other, on=KEY, how="semi").sort(KEY)
            for table, other in (tables, tables[::-1])
        ]
        leaks += compare(*both, KEY, columns, place, MUTATION_TOLERANCE)
    return leaks


def label_entry(scene: LabelScene) -> list[Leak]:
    """Labels at or after the cut, when prices up to it are others."""
    changed = scene.built(other_values(scene.bars, scene.past, scene.rng), "other prices up to")
    since = pl.col("timestamp") >= scene.moment
    strict = [name for name in targets(scene.base) if name not in OF_THE_PAST]
    tables = (table.filter(since).drop(OF_THE_PAST, strict=False) for table in (scene.base, changed))
    place, tolerance = scene.place("label_entry"), MUTATION_TOLERANCE
    leaks = compare(*tables, KEY, strict, place, tolerance)
    return [replace(leak, bars_ahead=None, bars_before_cut=None) for leak in leaks]


def label_level(scene: LabelScene) -> list[Leak]:
    """Labels at the cut when all prices up to it stood at another level: returns of the past stay as they
    were, and so must the labels.
    """
    other = _other_level(scene.bars, scene.past, scene.rng)
    changed = scene.built(other, "another level of prices up to")
    detail = (
        "It moved when all prices up to its timestamp were multiplied by one number: it compares a price of"
        " the past with a later one"
    )
    tables = scene.base, changed
    return _at_the_cut(scene, tables, targets(scene.base), "label_entry", detail)


def _other_level(panel: pl.DataFrame, chosen: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """Multiply all prices of the chosen rows by a power of two that is the symbol's own (never 1) and divide
    volume by it.

    Returns and ranges within the chosen rows, and traded values, keep every bit; only their level against
    other rows changes.
    """
    symbols = panel["symbol"].unique().sort()
    powers = rng.integers(1, 6, len(symbols)) * rng.choice([-1, 1], len(symbols))
    factor = panel["symbol"].replace_strict(symbols, pl.Series(2.0**powers), return_dtype=pl.Float64)
    factor = pl.Series(np.where(chosen, factor.to_numpy(), 1.0))
    changed = {name: pl.col(name) * factor for name in (*PRICES, "vwap")}
    changed["volume"] = pl.col("volume") / factor
    return panel.with_columns(
        value.cast(panel.schema[name]) for name, value in changed.items() if name in panel.columns
    )


def label_between(scene: LabelScene) -> list[Leak]:
    """Labels at the cut, of each horizon, when only the bars between its entry and its exit change; where
    steps in price lie stays, since no label is known across one.
    """
    columns = [name for name in OF_THE_ENDS if name in scene.base.columns]
    bar = scene.calendar.search_sorted(scene.bars["timestamp"]).cast(pl.Int64).to_numpy()
    position = bar - scene.cut.position - ENTRY_LAG_BARS
    detail = (
        "It moved when only bars between its entry and its exit changed: a beta, a scale or a cost is taken"
        " from the horizon itself"
    )
    leaks = []
    for horizon in scene.base["horizon"].unique().sort():
        between = (position > 0) & (position < horizon)
        if between.any():
            other = other_values(scene.bars, between, scene.rng)
            kept = [scene.bars[name] for name in STEPS if name in other.columns]
            changed = scene.built(other.with_columns(kept), "other prices after")
            tables = [table.filter(pl.col("horizon") == horizon) for table in (scene.base, changed)]
            leaks += _at_the_cut(scene, tables, columns, "label_future", detail)
    return leaks


def _at_the_cut(
    scene: LabelScene, tables: Sequence[pl.DataFrame], columns: Sequence[str], check: str, detail: str
) -> list[Leak]:
    """What differs between two tables in the rows of the cut itself."""
    there = (
        table.filter(pl.col("timestamp") == scene.moment).select(
            *KEY, *(name for name in columns if name in table.columns)
        )
        for table in tables
    )
    leaks = compare(*there, KEY, columns, scene.place(check), MUTATION_TOLERANCE)
    return [replace(leak, bars_ahead=None, bars_before_cut=None, detail=detail) for leak in leaks]


def targets(labels: Table) -> list[str]:
    """The columns that are labels."""
    return [name for name in names_of(labels) if name not in (*KEY, "label_end")]


def built_labels(build: Builder, panel: pl.DataFrame, what: str) -> pl.DataFrame:
    """The builder's labels of `panel`, sorted by their key; AuditError where it fails or returns none."""
    with _failures_told(panel, what):
        return _label_table(build(panel))


def built_label_pieces(pieces: Pieces, panel: pl.DataFrame, what: str) -> Iterator[pl.DataFrame]:
    """The same in blocks of bars, one after another."""
    with _failures_told(panel, what):
        for table in pieces(panel):
            yield _label_table(table)
            del table


@contextmanager
def _failures_told(panel: pl.DataFrame, what: str) -> Iterator[None]:
    try:
        yield
    except AuditError:
        raise
    except AlphaloopError as error:
        raise AuditError(f"The label builder under audit refused {what}: {error}") from error
    except Exception as error:
        raise AuditError(
            f"The label builder under audit failed on {what} ({len(panel):,} rows): {type(error).__name__}:"
            f" {error}. It has to work on any stretch of the panel."
        ) from error


def _label_table(made: object) -> pl.DataFrame:
    table = checked_table(made, "the label builder under audit")
    missing = [name for name in ("horizon", "label_end") if name not in table.columns]
    if missing:
        raise AuditError(
            f"The label builder under audit gave no column {missing[0]!r} (found:"
            f" {', '.join(table.columns)}). It has to return a LABELS table."
        )
    return in_order(table, KEY)
