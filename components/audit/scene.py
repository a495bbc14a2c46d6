"""A stretch of the panel with its table of factors, and the checks that change what comes after a cut and
build again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import polars as pl

from components.audit.builders import Builder, Pieces, checked_table
from components.audit.columns import Table
from components.audit.compare import MUTATION_TOLERANCE, TRUNCATION_TOLERANCE, Place, compare, in_order
from components.audit.config import Settings
from components.audit.perturb import other_future, shuffled_future, with_holes
from components.audit.result import AuditError, Leak
from components.contracts import AlphaloopError

KEY = ("timestamp", "symbol")
NOT_FACTORS = {*KEY, "known_time", "event_time", "period"}


@dataclass
class Tally:
    """Counts for the report, gathered while the checks run: how often each was `made` and how often the
    builder `refused` the changed panel, and what it said first where it `failed`; how many cuts of
    `audit.scan_cuts` were `left_out`.
    """

    rows_compared: int = 0
    values_compared: int = 0
    builds: int = 0
    cuts: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    made: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: int = 0


@dataclass
class Context:
    """What all checks of one audit share.

    `labels` gives, by column of the panel, the bars after which its value is known; `caught` are columns
    found leaking.
    """

    build: Builder
    calendar: pl.Series
    settings: Settings
    rng: np.random.Generator
    tally: Tally
    noise: dict[str, float] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    caught: set[str] = field(default_factory=set)

    def built(self, panel: pl.DataFrame, what: str) -> pl.DataFrame:
        """The builder's table for `panel`, sorted by its key."""
        self.tally.builds += 1
        return built(self.build, panel, what)

    def built_pieces(self, pieces: Pieces, panel: pl.DataFrame, what: str) -> Iterator[pl.DataFrame]:
        """The same in blocks of bars, one after another, as `pieces` makes them."""
        self.tally.builds += 1
        return built_pieces(pieces, panel, what)

    def place(self, check: str, cut: datetime) -> Place:
        return Place(check, cut, self.calendar)


@dataclass(frozen=True)
class Extent:
    """How much is built at a cut: the whole panel, or `lookback` bars before it of some symbols."""

    whole: bool
    lookback: int


@dataclass
class Scene:
    """A stretch of the panel in the order of the file, and its factors sorted by (timestamp, symbol).

    Of a table that is not held, `base` has the keys alone.
    """

    panel: pl.DataFrame
    base: pl.DataFrame
    columns: list[str]

    @property
    def values(self) -> int:
        """What a build of it reads and makes: rows times columns of the panel and of factors."""
        return len(self.panel) * (self.panel.width + len(self.columns))


def make_scene(context: Context, panel: pl.DataFrame, what: str) -> Scene:
    """Build the factors of a stretch of the panel; AuditError where the builder fails."""
    base = context.built(panel, what)
    return Scene(panel, base, factor_columns(base))


def factor_columns(factors: Table) -> list[str]:
    """The columns of a factor table that are factors: one value a row."""
    return [
        name
        for name, dtype in factors.collect_schema().items()
        if name not in NOT_FACTORS and not dtype.is_nested()
    ]


def up_to(table: pl.DataFrame, cut: datetime) -> pl.DataFrame:
    """The rows of a table sorted by time that stand at or before `cut`."""
    return table.head(int(table["timestamp"].search_sorted(cut, side="right")))


def future_mutation(context: Context, scene: Scene, cut: datetime) -> list[Leak]:
    """Everything after the cut is changed: numbers, sectors, missing, leaving and new symbols."""
    return _against_base(
        context,
        scene,
        cut,
        "future_mutation",
        lambda: other_future(hidden(context, scene.panel, cut), cut, context.rng),
        MUTATION_TOLERANCE,
    )


def truncation(context: Context, scene: Scene, cut: datetime) -> list[Leak]:
    """Nothing stands after the cut."""
    return _against_base(
        context,
        scene,
        cut,
        "truncation",
        lambda: hidden(context, scene.panel, cut).filter(pl.col("timestamp") <= cut),
        TRUNCATION_TOLERANCE,
    )


def shuffled(context: Context, scene: Scene, cut: datetime) -> list[Leak]:
    """The bars after the cut in another order, among times or among symbols."""
    among_symbols = bool(context.rng.random() < 0.5)
    return _against_base(
        context,
        scene,
        cut,
        "shuffled_future",
        lambda: shuffled_future(
            hidden(context, scene.panel, cut), cut, context.rng, among_symbols=among_symbols
        ),
        MUTATION_TOLERANCE,
    )


def gap_truncation(context: Context, scene: Scene, cut: datetime) -> list[Leak]:
    """Truncation beside holes in the data that reach up to the cut."""
    holed = with_holes(scene.panel, cut, context.rng)
    try:
        base = make_scene(context, holed, f"bars with holes before {named(cut)}")
    except AuditError as error:
        context.tally.notes.append(f"gap_truncation was left out at {named(cut)}: {error}")
        return []
    return _against_base(
        context,
        base,
        cut,
        "gap_truncation",
        lambda: holed.filter(pl.col("timestamp") <= cut),
        TRUNCATION_TOLERANCE,
    )


Check = Callable[[Context, Scene, datetime], list[Leak]]


def _against_base(
    context: Context,
    scene: Scene,
    cut: datetime,
    check: str,
    changed: Callable[[], pl.DataFrame],
    tolerance: float,
) -> list[Leak]:
    """Build on the changed panel and compare the rows up to the cut; a builder that refuses that panel is
    noted.
    """
    tally = context.tally
    try:
        after = context.built(changed(), f"{check} at {named(cut)}")
    except AuditError as error:
        tally.failed.setdefault(check, str(error))
        tally.refused[check] = tally.refused.get(check, 0) + 1
        return []
    base = up_to(scene.base, cut)
    tally.made[check] = tally.made.get(check, 0) + 1
    tally.rows_compared += len(base)
    count(base, scene.columns, tally)
    return compare(
        base, up_to(after, cut), KEY, scene.columns, context.place(check, cut), tolerance, context.noise
    )


def hidden(context: Context, panel: pl.DataFrame, cut: datetime) -> pl.DataFrame:
    """The panel whose label columns are null where their value was not known at the cut."""
    if not context.labels:
        return panel
    position = int(context.calendar.search_sorted(cut, side="right")) - 1
    blanked = []
    for name, bars in context.labels.items():
        known_until = context.calendar[max(position - bars, 0)]
        blanked.append(pl.when(pl.col("timestamp") <= known_until).then(pl.col(name)).alias(name))
    return panel.with_columns(blanked)


def count(table: pl.DataFrame, columns: Sequence[str], tally: Tally, *, times: int = 1) -> None:
    """Add the values of a compared table to the tally."""
    present = {name: len(table) - table[name].null_count() for name in columns if name in table.columns}
    tally.values_compared += times * sum(present.values())
    tally.seen |= {name for name, values in present.items() if values}


def note_failures(tally: Tally) -> Iterator[str]:
    """A sentence for each check that the builder refused at some cut."""
    for check, error in tally.failed.items():
        made = tally.made.get(check, 0)
        yield (
            f"{check} was made at {made} cuts only; at others the builder refused the changed panel: {error}"
        )


def named(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def built(build: Callable, panel: pl.DataFrame, what: str) -> pl.DataFrame:
    """The builder's table for `panel`, sorted by its key; AuditError where it fails or returns none."""
    with _failures_told(panel, what):
        return _factor_table(build(panel), panel, what)


def built_pieces(pieces: Pieces, panel: pl.DataFrame, what: str) -> Iterator[pl.DataFrame]:
    """The same in blocks of bars, one after another."""
    with _failures_told(panel, what):
        for table in pieces(panel):
            yield _factor_table(table, panel, what)
            del table


@contextmanager
def _failures_told(panel: pl.DataFrame, what: str) -> Iterator[None]:
    try:
        yield
    except AuditError:
        raise
    except AlphaloopError as error:
        raise AuditError(f"The builder under audit refused {what}: {error}") from error
    except (Exception, SystemExit) as error:
        raise AuditError(
            f"The builder under audit failed on {what} ({len(panel):,} rows): {type(error).__name__}:"
            f" {str(error)[:500]}. It has to work on any stretch of the panel: run it on a few hundred bars"
            " of 60 symbols to see why."
        ) from error


def _factor_table(made: object, panel: pl.DataFrame, what: str) -> pl.DataFrame:
    table = _typed(checked_table(made, "the builder under audit"), "timestamp", panel, what)
    if table["timestamp"].null_count() or table["symbol"].null_count():
        raise AuditError(
            f"The builder under audit returned rows without timestamp or symbol on {what}. Each row needs"
            " both, of the panel's types."
        )
    return in_order(_typed(table, "symbol", panel, what), KEY)


def _typed(table: pl.DataFrame, name: str, panel: pl.DataFrame, what: str) -> pl.DataFrame:
    """`table` with the column `name` in the panel's type; AuditError where it can't be turned into that."""
    wanted, found = panel.schema[name], table.schema[name]
    if found == wanted:
        return table
    try:
        return table.with_columns(pl.col(name).cast(wanted, strict=False))
    except pl.exceptions.PolarsError as error:
        raise AuditError(
            f"The builder under audit returned {name} as {found} on {what}; the panel has {wanted}. Return"
            f" the panel's own column {name}."
        ) from error
