"""What a panel can support: its period, the numbers in it that are known, and the factors that can be made
from them.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import polars as pl

from components.contracts import PANEL, CatalogEntry
from components.features.catalog import (
    catalog,
    columns_read,
    declared_factors,
    declared_formulas,
    named_after,
    of_coarser,
    own_period,
)
from components.features.config import Settings
from components.features.errors import FeatureError
from components.features.library import CONTEXT, base_columns
from components.features.normalise import MINIMUM_SYMBOLS
from components.timeline.periods import PERIODS

FrameT = TypeVar("FrameT", pl.DataFrame, pl.LazyFrame)
# Which numbers of a panel count as known; the others become null before any factor sees them.
POSITIVE = ("open", "high", "low", "close", "vwap", "market_cap")
NOT_NEGATIVE = ("volume", "trades", "open_interest", "borrow_bps")


def panel_period(panel: pl.DataFrame | pl.LazyFrame) -> str:
    """The one period of a panel, refused where it has none, several, or one that no factor is
    declared for.
    """
    periods = (
        panel.lazy()
        .select(pl.col("period").unique().sort())
        .collect(engine="streaming")
        .to_series()
        .to_list()
    )
    if not periods:
        raise FeatureError(
            "The panel holds no rows, so there is nothing to build factors from. Check market.path and the"
            " validation report."
        )
    if len(periods) > 1:
        raise FeatureError(
            f"The panel holds the periods {', '.join(periods)}; windows count bars of one period. Build"
            " factors for each period from its own panel."
        )
    if periods[0] not in PERIODS:
        raise FeatureError(
            f"The panel's period is {periods[0]!r}; factors are declared for {', '.join(PERIODS)}."
            " Resample the bars to one of these."
        )
    return periods[0]


def unsupported(panel: pl.DataFrame | pl.LazyFrame, settings: Settings) -> dict[str, str]:
    """The factors that this panel can't support, each with the columns that it reads and the panel lacks:
    absent, or without a single known number.
    """
    panel = panel.lazy()
    schema = panel.collect_schema()
    period = panel_period(panel)
    of_periods = {period: own_period(settings)} | dict.fromkeys(settings.coarser, of_coarser(settings))
    read = frozenset().union(*(columns_read(own, name) for name, own in of_periods.items()))
    marked = pl.col("symbol").eq(settings.reference_symbol or "").any().alias("is_reference")
    known = (
        panel.select(*(number.is_not_null().any() for number in known_numbers(schema, read)), marked)
        .collect(engine="streaming")
        .row(0, named=True)
    )
    there = {name for name in (*schema, "is_reference") if known.get(name, True)}
    return {
        factor if name == period else named_after(factor, name): columns
        for name, own in of_periods.items()
        for factor, columns in _lacking(there, own, name).items()
    }


def _lacking(there: set[str], settings: Settings, period: str) -> dict[str, str]:
    """The factors of one period that can't be made from the columns that are `there`, and what they lack."""
    lacking = {factor.name: base_columns(factor) - there for factor in declared_factors(settings, period)}
    factor_of = {entry.column: entry.factor for entry in catalog(settings, period)}
    for factor, _, columns in declared_formulas(settings):
        lacking[factor.name] = frozenset().union(
            *(
                lacking.get(factor_of[name], frozenset()) if name in factor_of else {name} - there
                for name in columns
            )
        )
    return {name: ", ".join(sorted(columns)) for name, columns in lacking.items() if columns}


def supported_catalog(
    panel: pl.DataFrame | pl.LazyFrame, settings: Settings
) -> tuple[list[CatalogEntry], str | None]:
    """The catalog without what this panel can't support, and a line that says what was left out (None:
    nothing). The context columns always stay.
    """
    gone = {name: lacking for name, lacking in unsupported(panel, settings).items() if name not in CONTEXT}
    entries = [entry for entry in catalog(settings, panel_period(panel)) if entry.factor not in gone]
    if not gone:
        return entries, None
    columns = sorted({column for lacking in gone.values() for column in lacking.split(", ")})
    first = ", ".join(list(gone)[:5]) + (", ..." if len(gone) > 5 else "")
    named = ", ".join(
        "bars of features.reference_symbol" if column == "is_reference" else column for column in columns
    )
    return entries, f"{len(gone)} factors are left out ({first}), because the panel has no {named}."


def thin_cross_section(panel: pl.DataFrame | pl.LazyFrame, settings: Settings) -> str | None:
    """A warning where ranks would be empty because the panel never has MINIMUM_SYMBOLS symbols at once; None
    where all is well.
    """
    symbols = panel.lazy().select(pl.col("symbol").n_unique()).collect(engine="streaming").item()
    if settings.normalisation in ("auto", "rank") and symbols < MINIMUM_SYMBOLS:
        return (
            f"{symbols} symbols are too few to rank ({MINIMUM_SYMBOLS} are needed), so ranked inputs are all"
            " 0. Set features.normalisation to zscore."
        )
    return None


def with_fused(panel: FrameT, fused: FrameT) -> FrameT:
    """The panel with the columns of a FUSED table beside its own; both frames, or both lazy.

    Raises
    ------
    FeatureError
        If a fused column has the name of a panel column.
    """
    own = panel.collect_schema()
    clash = [name for name in fused.collect_schema() if name in own and name not in PANEL.key]
    if clash:
        raise FeatureError(
            f"The fused column {clash[0]!r} has the name of a panel column. Rename it in the fusion section."
        )
    return panel.join(fused, on=PANEL.key, how="left", maintain_order="left")


def known_numbers(schema: Mapping[str, pl.DataType], read: Iterable[str]) -> list[pl.Expr]:
    """The numeric columns among `read` that the panel has, null where a number makes no sense."""
    expressions = []
    for name in sorted(read):
        if name in schema and schema[name].is_numeric():
            column = pl.col(name)
            possible = column > 0 if name in POSITIVE else column >= 0 if name in NOT_NEGATIVE else True
            expressions.append(pl.when(column.is_finite() & possible).then(column).alias(name))
    return expressions
