"""Builds the factors table from a panel, and the catalog that says what each of its columns is."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np
import polars as pl

from components.contracts import PANEL, REGIME_COLUMN, CatalogEntry
from components.features import kernels as k
from components.features.config import Settings
from components.features.errors import FeatureError
from components.features.library import (
    CONTEXT,
    NAMED,
    Factor,
    Measure,
    Normalisation,
    base_columns,
    name_codes,
    needed_measures,
    wanted_factors,
)
from components.features.normalise import MINIMUM_SYMBOLS, against_own_past, cross_sectional_ranks
from components.timeline.periods import LENGTHS, PERIODS

KEY = ("timestamp", "symbol")
# Which numbers of a panel count as known; the others become null before any factor sees them.
POSITIVE = ("open", "high", "low", "close", "vwap")
NOT_NEGATIVE = ("volume", "trades", "open_interest")
# Helper columns beside the bars: numbers of symbol, timestamp and (timestamp, sector).
SYMBOL, TIME, TIME_SECTOR = "_symbol", "_time", "_time_sector"
GROUP_OF_SCOPE = {"market_mean": TIME, "cross_section": TIME, "sector_mean": TIME_SECTOR}
# Factors are made so many at a time, which bounds the memory beside the finished columns.
BLOCK_COLUMNS = 24


@dataclass
class Bars:
    """A panel's bars in the order of symbol and time.

    `frame` holds the numbers, the helper columns, and the measures made so far. `order` gives each row here
    its row in the panel sorted by time and symbol, `back` the reverse; both (rows,), int64. `late` marks the
    rows that take no part in what others see of their timestamp, (rows,), bool; None where there are none.
    """

    frame: pl.DataFrame
    order: np.ndarray
    back: np.ndarray
    late: np.ndarray | None = None


@dataclass
class MarketHistory:
    """The market's raw columns at all timestamps so far, with `timestamp`: what a hidden regime needs where a
    panel is built in pieces.
    """

    series: pl.DataFrame = field(default_factory=pl.DataFrame)


def build_factors(
    panel: pl.DataFrame, settings: Settings, history: MarketHistory | None = None
) -> pl.DataFrame:
    """Raw factors and models' inputs at every bar, as declared in the library and normalised by `settings`.

    A row is late when a bar of its warm-up became known more than one bar's length after the row's timestamp
    (after the usual moment, where most of the timestamp is slower than that). It takes no part in the means
    and ranks that other symbols see, and has no ranks of its own.

    Parameters
    ----------
    panel : a PANEL table of one period, with the fused columns that `settings.slow` and `settings.formulas`
        name; further columns are ignored
    history : where the panel continues earlier ones: their market, to which this panel's is added

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
    entries = catalog(settings, period)
    gone = unsupported(panel, settings)
    factors = [factor for factor in declared_factors(settings, period) if factor.name not in gone]
    panel = panel.sort(*KEY)
    time = panel["timestamp"].rle_id().to_numpy()
    bars = arranged(panel, factors, settings)
    known_time, bars.late = known_times(bars.frame, longest_warm_up(entries), LENGTHS[period])
    columns = {
        "timestamp": panel["timestamp"],
        "symbol": panel["symbol"],
        "known_time": known_time.gather(bars.back),
    }
    market = market_values(bars, factors)
    market = with_hidden_regime(
        with_scores(market, factors, settings, np.arange(len(market))),
        panel["timestamp"].unique(maintain_order=True),
        settings,
        history,
    )
    columns |= {series.name: series.gather(time) for series in market}
    late, places = None if bars.late is None else bars.late[bars.back], bars.frame[k.BAR].to_numpy()
    for values in own_blocks(bars, [factor for factor in factors if factor.scope != "market"]):
        block = with_scores(values, factors, settings, places)[bars.back]
        columns |= {series.name: series for series in with_ranks(block, factors, settings, time, late)}
    order, back = bars.order, bars.back
    del bars, market
    formulas, values = formula_values(panel, columns, settings)
    if formulas:
        scored = with_scores(values[order], formulas, settings, places)[back]
        columns |= {series.name: series for series in with_ranks(scored, formulas, settings, time, late)}
    nothing = pl.Series([None], dtype=pl.Float32).new_from_index(0, len(panel))
    return pl.DataFrame(
        [
            columns.get(name, nothing).alias(name)
            for name in (*KEY, "known_time", *(entry.column for entry in entries))
        ]
    )


def catalog(settings: Settings, period: str) -> list[CatalogEntry]:
    """One entry for each column that `build_factors` gives for this period, in its order."""
    return list(_catalog(settings, period))


@functools.lru_cache(maxsize=16)
def _catalog(settings: Settings, period: str) -> tuple[CatalogEntry, ...]:
    rich = {declared.name for declared in settings.slow if declared.modality == "rich"}
    entries: list[CatalogEntry] = []
    for factor in declared_factors(settings, period):
        entries += _entries(factor, _expression(factor), "rich" if factor.name in rich else "base", settings)
    entries = [*_regime_entries(entries, settings, period), *_hidden_regime_entries(settings, period)]
    known = {entry.column: entry for entry in entries}
    for factor, text, columns in declared_formulas(settings):
        read = [known[name] for name in columns if name in known]
        fused = [
            name
            for name in columns
            if name not in known and name not in PANEL.columns and name not in PANEL.optional
        ]
        modality = "rich" if fused or any(entry.modality == "rich" for entry in read) else "base"
        entries += _entries(
            replace(factor, warm_up_bars=max((entry.warm_up_bars for entry in read), default=1)),
            text,
            modality,
            settings,
        )
    return tuple(entries)


def unsupported(panel: pl.DataFrame | pl.LazyFrame, settings: Settings) -> dict[str, str]:
    """The factors that this panel can't support, each with the columns that it reads and the panel lacks:
    absent, or without a single known number.
    """
    panel = panel.lazy()
    schema = panel.collect_schema()
    period = panel_period(panel)
    factors, formulas = declared_factors(settings, period), declared_formulas(settings)
    read = frozenset().union(
        *(base_columns(factor) for factor in factors), *(columns for _, _, columns in formulas)
    )
    marked = pl.col("symbol").eq(settings.reference_symbol or "").any().alias("is_reference")
    known = (
        panel.select(*(number.is_not_null().any() for number in _known_numbers(schema, read)), marked)
        .collect(engine="streaming")
        .row(0, named=True)
    )
    there = {name for name in (*schema, "is_reference") if known.get(name, True)}
    lacking = {factor.name: base_columns(factor) - there for factor in factors}
    factor_of = {entry.column: entry.factor for entry in catalog(settings, period)}
    for factor, _, columns in formulas:
        lacking[factor.name] = frozenset().union(
            *(
                lacking.get(factor_of[name], frozenset()) if name in factor_of else {name} - there
                for name in columns
            )
        )
    return {name: ", ".join(sorted(columns)) for name, columns in lacking.items() if columns}


def build_supported(
    panel: pl.DataFrame, settings: Settings
) -> tuple[pl.DataFrame, list[CatalogEntry], str | None]:
    """The factors table without the columns that this panel can't support, its catalog, and a line on what
    was left out (None: nothing).
    """
    entries, left_out = supported_catalog(panel, settings)
    table = build_factors(panel, settings)
    return table.select(*KEY, "known_time", *(entry.column for entry in entries)), entries, left_out


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


def with_fused(panel: pl.DataFrame, fused: pl.DataFrame) -> pl.DataFrame:
    """The panel with the columns of a FUSED table beside its own.

    Raises
    ------
    FeatureError
        If a fused column has the name of a panel column.
    """
    clash = [name for name in fused.columns if name in panel.columns and name not in KEY]
    if clash:
        raise FeatureError(
            f"The fused column {clash[0]!r} has the name of a panel column. Rename it in the fusion section."
        )
    return panel.join(fused, on=KEY, how="left", maintain_order="left")


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


def thin_cross_section(panel: pl.DataFrame, settings: Settings) -> str | None:
    """A warning where ranks would be empty because the panel never has MINIMUM_SYMBOLS symbols at once; None
    where all is well.
    """
    symbols = panel["symbol"].n_unique()
    if settings.normalisation in ("auto", "rank") and symbols < MINIMUM_SYMBOLS:
        return (
            f"{symbols} symbols are too few to rank ({MINIMUM_SYMBOLS} are needed), so ranked inputs are all"
            " 0. Set features.normalisation to zscore."
        )
    return None


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
    from components.features.formulas import parse_formula

    parsed = [(declared, parse_formula(declared.formula)) for declared in settings.formulas]
    return [
        (
            Factor(d.name, d.group, 1, formula.expression, d.source, "row", d.normalisation),
            formula.text,
            formula.columns,
        )
        for d, formula in parsed
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


def arranged(panel: pl.DataFrame, factors: Sequence[Factor], settings: Settings) -> Bars:
    """The bars that `factors` need; `panel` is sorted by time and symbol. No row is marked as late yet."""
    read = frozenset().union(*(base_columns(factor) for factor in factors))
    symbol, sector = codes(panel["symbol"]), codes(panel["sector"])
    # The panel is sorted by time, so a stable sort by symbol alone keeps each symbol's bars in order.
    order = np.argsort(symbol, kind="stable")
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    symbol, time = symbol[order], panel["timestamp"].rle_id().to_numpy()[order]
    helpers = {
        SYMBOL: symbol,
        TIME: time,
        TIME_SECTOR: time.astype(np.uint64) * np.uint64(int(sector.max()) + 1) + sector[order],
        k.BAR: np.arange(len(symbol)) - np.searchsorted(symbol, symbol),
    }
    moments = [pl.col(name) for name in ("timestamp", "event_time", "known_time")]
    marks = (
        [(pl.col("symbol") == settings.reference_symbol).alias("is_reference")]
        if "is_reference" in read
        else []
    )
    named = [name_codes(panel[name]) for name in NAMED if name in read and name in panel.columns]
    frame = panel.select(*moments, *_known_numbers(panel.schema, read), *marks, *named)[order].with_columns(
        pl.Series(name, values) for name, values in helpers.items()
    )
    return Bars(frame, order, back)


def own_blocks(bars: Bars, factors: Sequence[Factor]) -> Iterator[pl.DataFrame]:
    """Raw values of the factors, BLOCK_COLUMNS at a time, in the order of `bars`; measures that no later
    block needs are dropped.
    """
    for start in range(0, len(factors), BLOCK_COLUMNS):
        block, rest = factors[start : start + BLOCK_COLUMNS], factors[start + BLOCK_COLUMNS :]
        _add_measures(bars, needed_measures(block))
        yield _values(bars.frame, block)
        later = {measure.name for measure in needed_measures(rest)}
        bars.frame = bars.frame.drop(
            [measure.name for measure in needed_measures(block) if measure.name not in later]
        )


def market_values(bars: Bars, factors: Sequence[Factor]) -> pl.DataFrame:
    """Raw values of the market's factors: one row a timestamp, in order; their bars are the panel's
    timestamps.
    """
    factors = [factor for factor in factors if factor.scope == "market"]
    measures = needed_measures(factors)
    _add_measures(bars, [measure for measure in measures if measure.scope != "market"])
    means = [measure.name for measure in measures if measure.scope == "market_mean"]
    series = (
        bars.frame.select(TIME, *means)
        .unique(TIME, keep="first")
        .sort(TIME)
        .with_columns(pl.col(TIME).cast(pl.Int64).alias(k.BAR))
    )
    for measure in measures:
        if measure.scope == "market":
            series = series.with_columns(measure.expression.alias(measure.name))
    return _values(series, factors)


def with_hidden_regime(
    market: pl.DataFrame, timestamps: pl.Series, settings: Settings, history: MarketHistory | None = None
) -> pl.DataFrame:
    """With `regimes.model: hmm`, add its probabilities and put its regime in place of the thresholds'.

    `market`, one row for each of `timestamps`, runs from the first bar on, or overlaps `history`, to which
    its new rows are added.
    """
    if settings.regimes.model != "hmm":
        return market
    from components.features.hmm import hmm_columns

    series = market.select(timestamps.alias("timestamp"), pl.all())
    if history is not None:
        if history.series.width:
            series = pl.concat(
                [history.series, series.filter(pl.col("timestamp") > history.series["timestamp"][-1])]
            )
        history.series = series
    found = hmm_columns(series, settings.regimes, newest=len(market))
    return market.drop(REGIME_COLUMN).hstack(found.drop("timestamp").cast(pl.Float32))


def with_scores(
    values: pl.DataFrame, factors: Sequence[Factor], settings: Settings, bar: np.ndarray
) -> pl.DataFrame:
    """Add the inputs normalised by their own past, blank until the factor's warm-up and the window are
    complete; `bar` (rows,) counts within the symbol.
    """
    for method in ("zscore", "minmax", "robust"):
        chosen = [
            factor
            for factor in factors
            if factor.name in values.columns and method_of(factor, settings) == method
        ]
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
    ranked = [
        factor.name
        for factor in factors
        if factor.name in values.columns and method_of(factor, settings) == "rank"
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
        for factor, _, read in declared_formulas(settings)
        if all(name in columns or name in panel.columns for name in read)
    ]
    needed = sorted({name for _, read in declared for name in read})
    source = pl.DataFrame([columns[name] if name in columns else panel[name] for name in needed])
    values = _finite(
        source.select(factor.expression.cast(pl.Float32).alias(factor.name) for factor, _ in declared)
    )
    warm_up = (
        {entry.column: entry.warm_up_bars for entry in catalog(settings, panel_period(panel))}
        if declared
        else {}
    )
    return [replace(factor, warm_up_bars=warm_up[factor.name]) for factor, _ in declared], values


def _regime_entries(entries: list[CatalogEntry], settings: Settings, period: str) -> list[CatalogEntry]:
    """The entries, that of the regime saying what really makes it."""
    if settings.regimes.model != "hmm":
        return entries
    from components.features.hmm import SMOOTHING_BARS, SOURCE, hmm_warm_up_bars

    bars = hmm_warm_up_bars(settings.regimes, period) + SMOOTHING_BARS
    told = {"warm_up_bars": bars, "expression": "most probable hmm state that held", "source": SOURCE}
    return [replace(entry, **told) if entry.column == REGIME_COLUMN else entry for entry in entries]


def _hidden_regime_entries(settings: Settings, period: str) -> list[CatalogEntry]:
    if settings.regimes.model != "hmm":
        return []
    from components.features.hmm import hmm_catalog

    return hmm_catalog(settings.regimes, period)


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
    entries = [
        CatalogEntry(
            column=factor.name, role=role, normalisation="none", warm_up_bars=factor.warm_up_bars, **shared
        )
    ]
    if method != "none":
        warm_up = factor.warm_up_bars + (0 if method == "rank" else settings.window_bars)
        entries.append(
            CatalogEntry(
                column=f"{factor.name}_{method}",
                role="input",
                normalisation=method,
                warm_up_bars=warm_up,
                **shared,
            )
        )
    return entries


def _expression(factor: Factor) -> str:
    """The factor's expression and those of the measures it reads, as text."""
    measures = [
        f"{measure.name} ({measure.scope}) = {k.formula(measure.expression)}"
        for measure in needed_measures([factor])
    ]
    return "; ".join([k.formula(factor.expression), *measures])


def _known_numbers(schema: Mapping[str, pl.DataType], read: Iterable[str]) -> list[pl.Expr]:
    """The numeric columns among `read` that the panel has, null where a number makes no sense."""
    expressions = []
    for name in sorted(read):
        if name in schema and schema[name].is_numeric():
            column = pl.col(name)
            possible = column > 0 if name in POSITIVE else column >= 0 if name in NOT_NEGATIVE else True
            expressions.append(pl.when(column.is_finite() & possible).then(column).alias(name))
    return expressions


def codes(names: pl.Series) -> np.ndarray:
    """Numbers of the names in alphabetical order, from 1; 0 for null; (rows,), uint32."""
    known = names.drop_nulls().unique().sort()
    return names.replace_strict(
        known, pl.int_range(1, len(known) + 1, eager=True), default=0, return_dtype=pl.UInt32
    ).to_numpy()


def known_times(
    frame: pl.DataFrame, longest_bars: int, length: timedelta
) -> tuple[pl.Series, np.ndarray | None]:
    """When each row's factors were known, and which rows are late for others (None: none).

    `frame` holds `timestamp`, `known_time`, SYMBOL and TIME in the order of symbol and time, `longest_bars`
    is the longest warm-up, `length` that of a bar.
    """
    own = pl.col("known_time").rolling_max(longest_bars, min_samples=1).over(SYMBOL)
    usual = (
        pl.col("known_time")
        .to_physical()
        .quantile(0.5, "lower")
        .cast(pl.Int64)
        .cast(frame.schema["known_time"])
    )
    rows = frame.select(TIME, own.alias("own"))
    times = frame.group_by(TIME).agg(pl.col("timestamp").first(), usual.alias("usual")).sort(TIME)
    limit = times.select(
        pl.when(pl.col("usual") <= pl.col("timestamp") + length).then("timestamp").otherwise("usual") + length
    ).to_series()
    place = frame[TIME].to_numpy()
    late = rows["own"] > limit.gather(place)
    punctual = rows.filter(~late).group_by(TIME).agg(pl.col("own").max())
    others = times.select(TIME).join(punctual, on=TIME, how="left", maintain_order="left")
    others = others.select(pl.col("own").rolling_max(longest_bars, min_samples=1)).to_series()
    known = pl.DataFrame([rows["own"], others.gather(place).alias("others")]).select(
        pl.max_horizontal("own", "others").alias("known_time")
    )
    return known.to_series(), late.to_numpy() if late.any() else None


def _add_measures(bars: Bars, measures: Sequence[Measure]) -> None:
    """Add the measures that are not there yet, level by level:

    Polars gives nulls for a window that stands inside another window's input.
    """
    level: dict[str, int] = {}
    for measure in measures:
        if measure.scope != "market" and measure.name not in bars.frame.columns:
            level[measure.name] = 1 + max((level.get(column, 0) for column in measure.columns), default=0)
    by_name = {measure.name: measure for measure in measures}
    for number in range(1, max(level.values(), default=0) + 1):
        present = [by_name[name] for name in level if level[name] == number]
        shared = [measure for measure in present if measure.scope in GROUP_OF_SCOPE]
        source = bars.frame
        if bars.late is not None and shared:
            seen = sorted({column for measure in shared for column in measure.columns})
            source = bars.frame.select(
                TIME,
                TIME_SECTOR,
                *(pl.when(pl.Series(~bars.late)).then(pl.col(name)).alias(name) for name in seen),
            )
        together = source.select(
            measure.expression.over(GROUP_OF_SCOPE[measure.scope]).alias(measure.name) for measure in shared
        )
        bars.frame = bars.frame.with_columns(
            measure.expression.alias(measure.name) for measure in present if measure not in shared
        ).hstack(together)


def _values(frame: pl.DataFrame, factors: Sequence[Factor]) -> pl.DataFrame:
    """The factors as stored: Float32, null during their warm-up and where they are not finite."""
    values = frame.select(
        k.BAR, *(factor.expression.cast(pl.Float32).alias(factor.name) for factor in factors)
    )
    return _finite(
        values.select(
            pl.when(pl.col(k.BAR) >= factor.warm_up_bars - 1).then(pl.col(factor.name)).alias(factor.name)
            for factor in factors
        )
    )


def _finite(values: pl.DataFrame) -> pl.DataFrame:
    return values.select(
        pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in values.columns
    )
