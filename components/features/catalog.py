"""What a factors table is made of: the factors and formulas that settings declare, and the catalog that says
what each of its columns is.
"""

import functools
from collections.abc import Iterable
from dataclasses import replace

import polars as pl

from components.contracts import PANEL, REGIME_COLUMN, CatalogEntry
from components.features.config import Settings
from components.features.errors import FeatureError
from components.features.expressions import formula
from components.features.formulas import parse_formula
from components.features.hidden_regime import SMOOTHING_BARS, SOURCE, hmm_catalog, hmm_warm_up_bars
from components.features.library import (
    CONTEXT,
    Factor,
    Normalisation,
    base_columns,
    needed_measures,
    wanted_factors,
)
from components.features.regime_config import Regimes
from components.timeline.periods import LENGTHS, is_coarser

# A coarser bar of a symbol says nothing any more when the market has had more than so many after it.
STALE_BARS = 5


def catalog(settings: Settings, period: str) -> list[CatalogEntry]:
    """One entry for each column that `build_factors` gives for this period, in its order.

    Raises
    ------
    FeatureError
        If a coarser period is none.
    """
    refuse_finer(settings, period)
    own = _catalog(own_period(settings), period)
    return [*own, *(entry for coarser in settings.coarser for entry in _coarser(settings, period, coarser))]


def named_after(name: str, period: str) -> str:
    """How a factor or column that is made from bars of a coarser period is called."""
    return f"{name}_{period}"


def refuse_finer(settings: Settings, period: str) -> None:
    """FeatureError where a coarser period is none."""
    wrong = [name for name in settings.coarser if not is_coarser(name, period)]
    if wrong:
        raise FeatureError(
            f"features.coarser names {wrong[0]}, which is not coarser than the panel's bars of {period}, so"
            " its bars can't be gathered from them. Take it out."
        )


def own_period(settings: Settings) -> Settings:
    """The settings for the columns that are made from the panel's own bars."""
    return settings.model_copy(update={"coarser": ()}) if settings.coarser else settings


def of_coarser(settings: Settings) -> Settings:
    """The settings for the bars of a coarser period: the same, but their regime is that of the thresholds."""
    return settings.model_copy(update={"coarser": (), "regimes": Regimes()})


def columns_read(settings: Settings, period: str) -> frozenset[str]:
    """The columns of a panel that the factors and formulas of a period are made from."""
    return frozenset().union(
        *(base_columns(factor) for factor in declared_factors(settings, period)),
        *(columns for _, _, columns in declared_formulas(settings)),
    )


def _coarser(settings: Settings, period: str, coarser: str) -> list[CatalogEntry]:
    """The inputs of a coarser period as columns of the panel's bars: what a row sees was made from so many
    bars, may be STALE_BARS old, and the stretch that the row stands in says nothing yet.
    """
    ratio = LENGTHS[coarser] // LENGTHS[period]
    return [
        replace(
            entry,
            column=named_after(entry.column, coarser),
            factor=named_after(entry.factor, coarser),
            warm_up_bars=(entry.warm_up_bars + STALE_BARS + 1) * ratio,
            period=coarser,
        )
        for entry in _catalog(of_coarser(settings), coarser)
        if entry.role == "input"
    ]


@functools.lru_cache(maxsize=16)
def _catalog(settings: Settings, period: str) -> tuple[CatalogEntry, ...]:
    rich = {declared.name for declared in settings.slow if declared.modality == "rich"}
    entries: list[CatalogEntry] = []
    for factor in declared_factors(settings, period):
        entries += _entries(factor, _expression(factor), "rich" if factor.name in rich else "base", settings)
    entries = [*_regime_entries(entries, settings, period), *hmm_catalog(settings.regimes, period)]
    known = {entry.column: entry for entry in entries}
    for factor, text, columns in declared_formulas(settings):
        read = [known[name] for name in columns if name in known]
        own = {*known, *PANEL.columns, *PANEL.optional}
        fused = any(name not in own for name in columns)
        modality = "rich" if fused or any(entry.modality == "rich" for entry in read) else "base"
        warm_up = max((entry.warm_up_bars for entry in read), default=1)
        entries += _entries(replace(factor, warm_up_bars=warm_up), text, modality, settings)
    return tuple(entries)


def declared_factors(settings: Settings, period: str) -> tuple[Factor, ...]:
    """The wanted factors of the library and the slow columns, in the table's order."""
    groups = [name for name, on in settings.groups if on]
    slow = (
        Factor(column.name, column.group, 1, pl.col(column.name), column.source, "row", column.normalisation)
        for column in settings.slow
    )
    return (*wanted_factors(period, groups, settings.factors.exclude), *slow)


def declared_formulas(settings: Settings) -> list[tuple[Factor, str, tuple[str, ...]]]:
    """For each formula: its factor (warm-up not yet known), its text, and the columns that it reads."""
    parsed = [(declared, parse_formula(declared.formula)) for declared in settings.formulas]
    return [
        (Factor(d.name, d.group, 1, f.expression, d.source, "row", d.normalisation), f.text, f.columns)
        for d, f in parsed
    ]


def longest_warm_up(entries: Iterable[CatalogEntry]) -> int:
    """Bars, the present one included, that the columns of a catalog depend on."""
    return max(entry.warm_up_bars for entry in entries)


def method_of(factor: Factor, settings: Settings) -> Normalisation:
    """How the factor's input is made; settings override the rank only, for what the whole market shares has
    none.
    """
    if not getattr(settings.groups, factor.group, True):
        return "none"
    return (
        settings.normalisation
        if factor.normalisation == "rank" and settings.normalisation != "auto"
        else factor.normalisation
    )


def _regime_entries(entries: list[CatalogEntry], settings: Settings, period: str) -> list[CatalogEntry]:
    """The entries, that of the regime saying what really makes it."""
    if settings.regimes.model != "hmm":
        return entries
    bars = hmm_warm_up_bars(settings.regimes, period) + SMOOTHING_BARS
    told = {"warm_up_bars": bars, "expression": "most probable hmm state that held", "source": SOURCE}
    return [replace(entry, **told) if entry.column == REGIME_COLUMN else entry for entry in entries]


def _entries(factor: Factor, expression: str, modality: str, settings: Settings) -> list[CatalogEntry]:
    """The factor's column, and that of its input where this is another one."""
    method = method_of(factor, settings)
    role = "context" if factor.name in CONTEXT else "input" if method == "none" else "raw"
    shared = {
        "factor": factor.name,
        "group": factor.group,
        "expression": expression,
        "source": factor.source,
        "modality": modality,
    }
    own = CatalogEntry(
        column=factor.name, role=role, normalisation="none", warm_up_bars=factor.warm_up_bars, **shared
    )
    if method == "none":
        return [own]
    warm_up = factor.warm_up_bars + (0 if method == "rank" else settings.window_bars)
    made = CatalogEntry(
        column=f"{factor.name}_{method}",
        role="input",
        normalisation=method,
        warm_up_bars=warm_up,
        **shared,
    )
    return [own, made]


def _expression(factor: Factor) -> str:
    """The factor's expression and those of the measures it reads, as text."""
    measures = [
        f"{measure.name} ({measure.scope}) = {formula(measure.expression)}"
        for measure in needed_measures([factor])
    ]
    return "; ".join([formula(factor.expression), *measures])
