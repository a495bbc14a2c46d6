"""Builds the factors table from a panel, and the catalog that says what each of its columns is."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from components.contracts import REGIME_COLUMN, VOLATILITY_COLUMN, CatalogEntry
from components.features.config import Settings
from components.features.errors import FeatureError
from components.features.library import EVERY_PERIOD, Factor, Measure, Normalisation, needed_measures, wanted_factors
from components.features.normalise import MINIMUM_SYMBOLS, against_own_past, cross_sectional_ranks

CONTEXT = (REGIME_COLUMN, VOLATILITY_COLUMN)
PRICES = ("open", "high", "low", "close")
# Helper columns beside the bars: numbers of symbol, timestamp and (timestamp, sector), and the bar's place in its symbol's history.
SYMBOL, TIME, TIME_SECTOR, BAR = "_symbol", "_time", "_time_sector", "_bar"
GROUP_OF_SCOPE = {"symbol": SYMBOL, "market_mean": TIME, "sector_mean": TIME_SECTOR}


def build_factors(panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Raw factors and models' inputs at every bar, as declared in the library and normalised by `settings`.

    Parameters
    ----------
    panel : a PANEL table of one period; further columns are ignored

    Returns
    -------
    A FACTORS table with the panel's rows, and the columns of `catalog` in its order. `known_time` is the latest known
    time of the symbol's bars within the longest warm-up. Values that are not finite are null.

    Raises
    ------
    FeatureError
        If the panel holds no rows, several periods, or a period that the library does not know.
    """
    period = panel_period(panel)
    factors = _factors(settings, period)
    panel = panel.sort("timestamp", "symbol")
    bars, back = _by_symbol(panel)
    known_time = _known_time(bars, longest_bars=max(entry.warm_up_bars for entry in catalog(settings, period)))
    bars = _with_measures(bars, needed_measures(factors))
    own = [factor for factor in factors if factor.scope != "market"]
    market = _market_columns(bars, [factor for factor in factors if factor.scope == "market"], settings)
    values = bars.select(_value(factor, BAR) for factor in own)
    places = bars.select(SYMBOL, BAR)
    del bars
    scored = _scored(places.hstack(values), own, settings, by=SYMBOL, bar=BAR)
    table = pl.concat([known_time, values, scored], how="horizontal")[back]
    del values, scored
    time = panel["timestamp"].rle_id().alias(TIME)
    table = pl.concat([panel.select("timestamp", "symbol"), time.to_frame(), table, market[time]], how="horizontal")
    ranked = [factor.name for factor in own if _method(factor, settings) == "rank"]
    table = table.hstack(cross_sectional_ranks(table, ranked, TIME))
    return table.select("timestamp", "symbol", "known_time", *(entry.column for entry in catalog(settings, period)))


def catalog(settings: Settings, period: str) -> list[CatalogEntry]:
    """One entry for each column that `build_factors` gives for this period, in its order."""
    entries = []
    for factor in _factors(settings, period):
        method = _method(factor, settings)
        context = factor.name in CONTEXT
        role = "context" if context else "input" if method == "none" else "raw"
        shared = {"factor": factor.name, "group": factor.group, "expression": _formula(factor), "source": factor.source}
        entries.append(CatalogEntry(column=factor.name, role=role, normalisation="none", warm_up_bars=factor.warm_up_bars, **shared))
        if method != "none":
            warm_up = factor.warm_up_bars + (0 if method == "rank" else settings.window_bars)
            entries.append(CatalogEntry(column=f"{factor.name}_{method}", role="input", normalisation=method, warm_up_bars=warm_up, **shared))
    return entries


def panel_period(panel: pl.DataFrame) -> str:
    """The one period of a panel, refused where it has none, several, or one that no factor is declared for."""
    periods = panel["period"].unique().sort().to_list()
    if not periods:
        raise FeatureError("The panel holds no rows, so there is nothing to build factors from. Check market.path and the validation report.")
    if len(periods) > 1:
        raise FeatureError(f"The panel holds the periods {', '.join(periods)}; windows count bars of one period. Build factors for each period from its own panel.")
    if periods[0] not in EVERY_PERIOD:
        raise FeatureError(f"The panel's period is {periods[0]!r}; factors are declared for {', '.join(EVERY_PERIOD)}. Resample the bars to one of these.")
    return periods[0]


def thin_cross_section(panel: pl.DataFrame, settings: Settings) -> str | None:
    """A warning where ranks would be empty because the panel never has MINIMUM_SYMBOLS symbols at once; None where all is well."""
    symbols = panel["symbol"].n_unique()
    if settings.normalisation in ("auto", "rank") and symbols < MINIMUM_SYMBOLS:
        return f"{symbols} symbols are too few to rank ({MINIMUM_SYMBOLS} are needed), so ranked inputs are all 0. Set features.normalisation to zscore."
    return None


def _formula(factor: Factor) -> str:
    """The factor's expression and those of the measures it reads, as Polars writes them."""
    measures = [f"{measure.name} ({measure.scope}) = {measure.expression}" for measure in needed_measures([factor])]
    return "; ".join([str(factor.expression), *measures])


def _factors(settings: Settings, period: str) -> tuple[Factor, ...]:
    groups = [name for name, on in settings.groups if on]
    return wanted_factors(period, groups, settings.factors.exclude)


def _method(factor: Factor, settings: Settings) -> Normalisation:
    """How the factor's input is made; settings override the rank only, for what the whole market shares has none."""
    if not getattr(settings.groups, factor.group):
        return "none"
    return settings.normalisation if factor.normalisation == "rank" and settings.normalisation != "auto" else factor.normalisation


def _by_symbol(panel: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray]:
    """The bars sorted by symbol and time with their helper columns, and the rows' way back to the panel's order."""
    numbered = panel.select(
        "event_time",
        "known_time",
        *(pl.when(pl.col(name).is_finite() & (pl.col(name) > 0)).then(pl.col(name)).alias(name) for name in PRICES),
        pl.when(pl.col("volume").is_finite() & (pl.col("volume") >= 0)).then(pl.col("volume")).alias("volume"),
        pl.col("timestamp").rle_id().alias(TIME),
        _codes(panel["sector"]).cast(pl.UInt64).alias("_sector"),
        _codes(panel["symbol"]).alias("symbol"),
    )
    # The panel is sorted by time, so a stable sort by symbol alone keeps each symbol's bars in order.
    order = np.argsort(numbered["symbol"].to_numpy(), kind="stable")
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    bars = numbered[order].with_columns(
        pl.col("symbol").rle_id().alias(SYMBOL),
        (pl.col(TIME).cast(pl.UInt64) * (pl.col("_sector").max() + 1) + pl.col("_sector")).alias(TIME_SECTOR),
    )
    return bars.with_columns(pl.int_range(pl.len()).over(SYMBOL).alias(BAR)).drop("symbol", "_sector"), back


def _codes(names: pl.Series) -> pl.Series:
    """Numbers of the names in alphabetical order, from 1; 0 for null."""
    known = names.drop_nulls().unique().sort()
    return names.replace_strict(known, pl.int_range(1, len(known) + 1, eager=True), default=0, return_dtype=pl.UInt32)


def _with_measures(bars: pl.DataFrame, measures: Sequence[Measure]) -> pl.DataFrame:
    """Add the measures level by level: a window inside another window's input is materialised first, Polars gives nulls otherwise."""
    level: dict[str, int] = {}
    for measure in measures:
        if measure.scope != "market":
            level[measure.name] = 1 + max((level.get(column, 0) for column in measure.columns), default=0)
    by_name = {measure.name: measure for measure in measures}
    for number in range(1, max(level.values(), default=0) + 1):
        bars = bars.with_columns(_windowed(by_name[name]).alias(name) for name in level if level[name] == number)
    return bars


def _windowed(declared: Measure | Factor) -> pl.Expr:
    group = GROUP_OF_SCOPE.get(declared.scope)
    return declared.expression.over(group) if group else declared.expression


def _market_columns(bars: pl.DataFrame, factors: Sequence[Factor], settings: Settings) -> pl.DataFrame:
    """Values and scores of the market's factors: one row a timestamp, in order; their bars are the panel's timestamps."""
    measures = needed_measures(factors)
    means = [measure.name for measure in measures if measure.scope == "market_mean"]
    series = bars.select(TIME, *means).unique(TIME, keep="first", maintain_order=True).sort(TIME)
    for measure in measures:
        if measure.scope == "market":
            series = series.with_columns(measure.expression.alias(measure.name))
    values = series.select(TIME, pl.lit(0).alias(SYMBOL), *(_value(factor, TIME) for factor in factors))
    scores = _scored(values, factors, settings, by=SYMBOL, bar=TIME)
    return pl.concat([values.drop(TIME, SYMBOL), scores], how="horizontal")


def _known_time(bars: pl.DataFrame, longest_bars: int) -> pl.DataFrame:
    """The latest known time of the symbol's last `longest_bars` bars. Other symbols' bars count as known at their timestamp."""
    latest = pl.col("known_time").to_physical().rolling_max(longest_bars, min_samples=1).over(SYMBOL)
    return bars.select(latest.cast(pl.Int64).cast(bars.schema["known_time"]).alias("known_time"))


def _value(factor: Factor, bar: str) -> pl.Expr:
    """The factor as stored: Float32, null during its warm-up and where it is not finite."""
    value = _windowed(factor).cast(pl.Float32)
    return pl.when((pl.col(bar) >= factor.warm_up_bars - 1) & value.is_finite()).then(value).alias(factor.name)


def _scored(values: pl.DataFrame, factors: Sequence[Factor], settings: Settings, *, by: str, bar: str) -> pl.DataFrame:
    """Inputs normalised by their own past, blank until the factor's warm-up and the window are complete."""
    parts = []
    for method in ("zscore", "minmax", "robust"):
        chosen = [factor for factor in factors if _method(factor, settings) == method]
        scores = against_own_past(values, [factor.name for factor in chosen], method, settings.window_bars, by) if chosen else pl.DataFrame()
        ready = {f"{factor.name}_{method}": values[bar] >= factor.warm_up_bars - 1 + settings.window_bars for factor in chosen}
        parts.append(scores.select(pl.when(pl.lit(mask)).then(pl.col(name)).alias(name) for name, mask in ready.items()))
    return pl.concat([part for part in parts if part.width], how="horizontal") if any(part.width for part in parts) else pl.DataFrame()
