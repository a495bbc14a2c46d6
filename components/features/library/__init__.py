"""The factor table: every factor, and every intermediate that several share, as one declared expression.

What an expression sees depends on its scope: `row` the bar alone, `symbol` one symbol's bars in order,
`cross_section`, `market_mean` and `sector_mean` all bars of one timestamp (and sector), `market` the series
of market means, one value a timestamp. Windows count bars, so the same table serves every period.
`warm_up_bars` is the number of bars, the present one included, that a value depends on; before a symbol (for
`market`: the panel) has as many, the value is null.
"""

import difflib
import functools
from collections.abc import Iterable

from components.features.library import (
    alpha158,
    candles,
    channels,
    context,
    derivatives,
    events,
    formulas101,
    ichimoku,
    measures,
    pivots,
    price,
    reference,
    tails,
    trading,
    volume_profile,
)
from components.features.library.context import CONTEXT, NAMED, name_codes
from components.features.library.declare import (
    Factor,
    Measure,
    Normalisation,
    Scope,
)

__all__ = [
    "CONTEXT",
    "FACTORS",
    "GROUPS",
    "MEASURES",
    "NAMED",
    "Factor",
    "Measure",
    "Normalisation",
    "Scope",
    "base_columns",
    "did_you_mean",
    "name_codes",
    "needed_measures",
    "wanted_factors",
]

FACTORS: tuple[Factor, ...] = (
    *price.FACTORS,
    *trading.FACTORS,
    *context.FACTORS,
    *channels.FACTORS,
    *ichimoku.FACTORS,
    *tails.FACTORS,
    *events.FACTORS,
    *pivots.FACTORS,
    *candles.FACTORS,
    *volume_profile.FACTORS,
    *reference.FACTORS,
    *derivatives.FACTORS,
    *formulas101.FACTORS,
    *alpha158.FACTORS,
)
MEASURES: tuple[Measure, ...] = (
    *measures.MEASURES,
    *channels.MEASURES,
    *ichimoku.MEASURES,
    *tails.MEASURES,
    *events.MEASURES,
    *pivots.MEASURES,
    *candles.MEASURES,
    *volume_profile.MEASURES,
    *reference.MEASURES,
    *derivatives.MEASURES,
    *formulas101.MEASURES,
    *alpha158.MEASURES,
)
GROUPS = tuple(dict.fromkeys(factor.group for factor in FACTORS))
_MEASURE = {measure.name: measure for measure in MEASURES}


def wanted_factors(
    period: str, groups: Iterable[str] = GROUPS, exclude: Iterable[str] = ()
) -> tuple[Factor, ...]:
    """The factors of `period` in `groups` without `exclude`, in the table's order; those in CONTEXT always
    stay.
    """
    kept, left_out = set(groups), set(exclude)
    return tuple(
        f
        for f in FACTORS
        if period in f.periods and (f.name in CONTEXT or (f.group in kept and f.name not in left_out))
    )


def needed_measures(factors: Iterable[Factor]) -> tuple[Measure, ...]:
    """The measures that `factors` read, directly or through others, in the table's order."""
    needed = _read_by(factors)
    return tuple(measure for measure in MEASURES if measure.name in needed)


def base_columns(factor: Factor) -> frozenset[str]:
    """The columns that a panel must have for this factor, found through the measures it reads."""
    return frozenset(_read_by([factor]) - _MEASURE.keys())


def did_you_mean(name: str) -> str:
    """A hint for a factor name that does not exist."""
    close = difflib.get_close_matches(name, [factor.name for factor in FACTORS], n=3)
    return f"did you mean {' or '.join(close)}?" if close else "the catalog artifact of a run lists all names"


def _read_by(factors: Iterable[Factor]) -> set[str]:
    """Names of all columns, measures and the panel's, that stand behind these factors."""
    return set().union(*(_behind(name) for factor in factors for name in factor.columns))


@functools.cache
def _behind(name: str) -> frozenset[str]:
    """The column itself and, of a measure, all that stand behind it."""
    columns = _MEASURE[name].columns if name in _MEASURE else ()
    return frozenset({name}).union(*(_behind(column) for column in columns))
