"""Models' inputs from raw values: each factor normalised as its declaration and the settings say, and the
formulas over what is there by then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from components.features.catalog import catalog, declared_formulas, method_of
from components.features.config import Settings
from components.features.library import Factor
from components.features.normalise import against_own_past, cross_sectional_ranks
from components.features.raw_values import finite
from components.features.support import panel_period

OF_THE_OWN_PAST = ("zscore", "minmax", "robust")


def with_scores(
    values: pl.DataFrame, factors: Sequence[Factor], settings: Settings, bar: np.ndarray
) -> pl.DataFrame:
    """Add the inputs normalised by their own past, blank until the factor's warm-up and the window are
    complete; `bar` (rows,) counts within the symbol.
    """
    names = set(values.columns)
    there = [factor for factor in factors if factor.name in names]
    for method in OF_THE_OWN_PAST:
        chosen = [factor for factor in there if method_of(factor, settings) == method]
        if chosen:
            scores = against_own_past(
                values, [factor.name for factor in chosen], method, settings.window_bars
            )
            ready = {
                f"{factor.name}_{method}": pl.Series(bar >= factor.warm_up_bars - 1 + settings.window_bars)
                for factor in chosen
            }
            values = values.hstack(
                scores.select(pl.when(mask).then(pl.col(name)).alias(name) for name, mask in ready.items())
            )
    return values


def with_ranks(
    values: pl.DataFrame,
    factors: Sequence[Factor],
    settings: Settings,
    time: np.ndarray,
    late: np.ndarray | None,
) -> pl.DataFrame:
    """Add the inputs ranked within their timestamp; `time` (rows,) numbers the timestamps, rows that are late
    have no rank.
    """
    there = set(values.columns)
    ranked = [
        factor.name for factor in factors if factor.name in there and method_of(factor, settings) == "rank"
    ]
    return values.hstack(cross_sectional_ranks(values, ranked, time, late))


def formula_values(
    panel: pl.DataFrame, columns: Mapping[str, pl.Series], settings: Settings
) -> tuple[list[Factor], pl.DataFrame]:
    """The formulas whose columns are there, and their raw values; `columns` are those of the table so far, in
    the order of `panel`.
    """
    declared = [
        (factor, read)
        for factor, read in _formulas(settings, panel_period(panel))
        if all(name in columns or name in panel.columns for name in read)
    ]
    needed = sorted({name for _, read in declared for name in read})
    source = pl.DataFrame([columns[name] if name in columns else panel[name] for name in needed])
    values = finite(
        source.select(factor.expression.cast(pl.Float32).alias(factor.name) for factor, _ in declared)
    )
    return [factor for factor, _ in declared], values


def scored_formulas(settings: Settings, period: str) -> list[Factor]:
    """The formulas whose inputs are normalised by their own past."""
    return [
        factor for factor, _ in _formulas(settings, period) if method_of(factor, settings) in OF_THE_OWN_PAST
    ]


def _formulas(settings: Settings, period: str) -> list[tuple[Factor, tuple[str, ...]]]:
    """The formulas with their warm-up, and the columns that each reads."""
    if not settings.formulas:
        return []
    warm_up = {entry.column: entry.warm_up_bars for entry in catalog(settings, period)}
    return [
        (replace(factor, warm_up_bars=warm_up[factor.name]), read)
        for factor, _, read in declared_formulas(settings)
    ]
