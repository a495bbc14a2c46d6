"""Adds the rows of new bars to a factors table, from as much history as each factor needs, with the bits that
a full build would give.

Windows carry no state (`kernels`), so the rows of the newest bars follow from a tail of the panel. Factors
are split by the history they need, so that most are made on a short tail. What a normalisation needs of the
past is read from the table itself.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import polars as pl

from components.contracts import FACTORS, REGIME_COLUMN, Stamp, read_stamp, read_table, write_table
from components.contracts.cut import SYMBOL, TIME
from components.features.build import coarser_inputs
from components.features.catalog import catalog, longest_warm_up, method_of, own_period
from components.features.config import Settings
from components.features.errors import FeatureError
from components.features.hidden_regime import MarketHistory, with_hidden_regime
from components.features.inputs import formula_values, with_ranks, with_scores
from components.features.known_times import known_times
from components.features.library import Factor, needed_measures
from components.features.places import SPARE_BARS, Places, TailTooShort, places_of, tail_start
from components.features.raw_values import arranged, by_symbol, market_values, own_blocks
from components.features.regime import HOLD_BARS, PERSIST_BARS
from components.features.stored import Stored, buildable, refuse_other_bars, refuse_revised
from components.features.support import panel_period
from components.settings import config_hash
from components.timeline.periods import LENGTHS

# Factors that need up to so many bars are made together; the last group takes the rest.
SHARED_TAILS = (26, 70, 130)


def append_factors(
    panel: pl.DataFrame, previous: pl.DataFrame | pl.LazyFrame, settings: Settings
) -> pl.DataFrame:
    """Rows of the factors table for the bars after the last timestamp of `previous`, bit for bit those of
    `build_factors` on the whole history.

    Parameters
    ----------
    panel : the whole PANEL table, or its newest bars from at least `bars_needed` timestamps before the first
        new one (more where symbols miss bars), with the fused columns that `settings` name
    previous : the whole FACTORS table so far, made with `settings` from the bars up to its last timestamp; of
        a LazyFrame only the newest rows are read

    Returns
    -------
    A table with the columns of `previous`; no rows where the panel has nothing new.

    Raises
    ------
    FeatureError
        If the panel's tail is too short, if its bars up to the last timestamp of `previous` aren't those that
        `previous` was built from (missing, added or revised bars: the newest old rows are made again and
        compared), or if `previous` has other columns than `settings` give.
    """
    panel = panel if panel["timestamp"].is_sorted() else panel.sort(*FACTORS.key)
    stored = Stored(previous)
    period = panel_period(panel)
    needed = bars_needed(settings, period)
    new = int(panel["timestamp"].search_sorted(stored.last, side="right"))
    if new == len(panel):
        return stored.frame.clear().collect()
    # Missing bars stretch windows: where the usual tail does not hold them, the whole panel does.
    moments = panel["timestamp"][:new].unique(maintain_order=True)
    usual = needed + SPARE_BARS
    if len(moments) > usual:
        try:
            return _appended(
                panel[int(panel["timestamp"].search_sorted(moments[-usual])) :], stored, settings, period
            )
        except TailTooShort:
            pass
    return _appended(panel, stored, settings, period)


def _appended(panel: pl.DataFrame, stored: "Stored", settings: Settings, period: str) -> pl.DataFrame:
    panel = panel.sort(*FACTORS.key)
    cut = int(panel["timestamp"].search_sorted(stored.last, side="right"))
    factors = buildable(stored, panel, settings, period)
    before = stored.symbols_before(panel["timestamp"][0])
    whole, settings = settings, own_period(settings)
    places = places_of(panel, before)
    old_times = int(places.time[cut - 1]) + 1 if cut else 0
    longest = longest_warm_up(catalog(settings, period))
    history = tail_start(places, old_times, 2 * longest)
    row = int(np.searchsorted(places.time, history))
    refuse_other_bars(panel[row:cut], stored)
    known_time, late = _known_times(panel, places, history, longest, period)
    # The newest old timestamp is made again, to compare it.
    begin = int(np.searchsorted(places.time, old_times - 1))
    own, market = _raw_values(panel, factors, settings, places, old_times, begin, late)
    known = known_time[begin - len(panel) :].alias("known_time").to_frame()
    newest = pl.concat([panel[begin:].select(*FACTORS.key), known, own], how="horizontal")
    refuse_revised(newest[: cut - begin], stored)
    new, bars = newest[cut - begin :], panel[cut:]
    since = panel["timestamp"][row]
    time = places.time[cut:] - places.time[cut]
    timestamps = bars["timestamp"].unique(maintain_order=True)
    market = _market_inputs(market, timestamps, stored, factors, settings, since)
    rows_late = None if late is None else late[cut:]
    own_factors = [factor for factor in factors if factor.scope != "market"]
    new = new.hstack(_own_scores(new, factors, stored, settings, since))
    new = with_ranks(new, own_factors, settings, time, rows_late).hstack(market[time])
    formulas, values = formula_values(bars, new.to_dict(), settings)
    if formulas:
        new = new.hstack(values)
        new = new.hstack(_own_scores(new, formulas, stored, settings, since))
        new = with_ranks(new, formulas, settings, time, rows_late)
    rows = new.select("timestamp", "symbol", "known_time")
    new = new.hstack(coarser_inputs(panel, rows, whole, period, newer=(bars["timestamp"][0], before)))
    made = new.to_dict()
    nothing = pl.Series([None], dtype=pl.Float32).new_from_index(0, len(new))
    return pl.DataFrame([made.get(name, nothing).alias(name) for name in stored.columns])


def bars_needed(settings: Settings, period: str) -> int:
    """Timestamps that a panel's tail must hold before its first new one, where no symbol misses bars."""
    return 2 * longest_warm_up(catalog(settings, period))


def update_factors(
    factors_path: str | os.PathLike,
    panel: pl.DataFrame,
    settings: Settings,
    *,
    code_version: str,
    inputs: Mapping[str, str],
    target: str | os.PathLike | None = None,
) -> Stamp:
    """Add the rows of the panel's new bars to a stored factors table, atomically, and stamp it as a full
    build would.

    Parameters
    ----------
    factors_path : a table that `build_features` or this function wrote
    panel : as for `append_factors`
    inputs : content hashes of the tables that the new table comes from (`panel`, and `fused` where there is
        one)
    target : where the new table is written; over the old one where left out

    Returns
    -------
    The new table's stamp; that of the stored table where there was nothing to add and no other target.

    Raises
    ------
    FeatureError
        As `append_factors`, and where the table was built with other settings or by other code: then its old
        rows can't be kept.
    ContractError
        If the stored table is damaged.
    """
    stamp = read_stamp(factors_path)
    _refuse_other(factors_path, "settings", stamp.config_hash, config_hash(settings))
    _refuse_other(factors_path, "code", stamp.code_version, code_version)
    stored = read_table(factors_path, FACTORS)
    new = append_factors(panel, stored, settings)
    if new.is_empty() and target is None:
        return stamp
    return write_table(
        pl.concat([stored, new]),
        target or factors_path,
        FACTORS,
        code_version=code_version,
        config_hash=config_hash(settings),
        inputs=inputs,
    )


def _refuse_other(path: str | os.PathLike, what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise FeatureError(
            f"{path} was built with other {what} ({found[:12]}, now {wanted[:12]}), so its rows can't be"
            " kept. Build the whole table again."
        )


def _known_times(
    panel: pl.DataFrame, places: Places, history: int, longest: int, period: str
) -> tuple[pl.Series, np.ndarray | None]:
    """Known times and late rows in the order of the panel; right from `longest` bars after the timestamp
    `history` on.
    """
    begin = int(np.searchsorted(places.time, history))
    symbol = places.symbol[begin:]
    order, back = by_symbol(symbol)
    helpers = {SYMBOL: symbol[order], TIME: places.time[begin:][order] - history}
    frame = (
        panel[begin:]
        .select("timestamp", "known_time")[order]
        .with_columns(pl.Series(name, values) for name, values in helpers.items())
    )
    known_time, late = known_times(frame, longest, LENGTHS[period])
    marks = None if late is None else np.concatenate([np.zeros(begin, dtype=bool), late[back]])
    return known_time.gather(back), marks


def _raw_values(
    panel: pl.DataFrame,
    factors: Sequence[Factor],
    settings: Settings,
    places: Places,
    old_times: int,
    begin: int,
    late: np.ndarray | None,
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Raw columns of the rows from `begin` on, and the market's: one row a timestamp, ending at the newest.

    Each group of factors is made on its own tail.
    """
    own, market = [], []
    for group in _groups(factors, settings):
        needed = max(_bars(factor, settings) for factor in group) + 1
        start = int(np.searchsorted(places.time, tail_start(places, old_times, needed)))
        made = arranged(panel[start:], group, settings)
        made.late = None if late is None else late[start:][made.order]
        if any(factor.scope == "market" for factor in group):
            market.append(market_values(made, group))
        wanted = made.back[begin - start :]
        own_factors = [factor for factor in group if factor.scope != "market"]
        own += own_blocks(made, own_factors, wanted)
    return pl.concat(own, how="horizontal"), market


def _groups(factors: Sequence[Factor], settings: Settings) -> list[list[Factor]]:
    """The factors that are made on one tail each; no group is empty.

    A factor of single bars joins a group with a longer tail where all measures that it reads are made anyway.
    """
    reads = {factor.name: {measure.name for measure in needed_measures([factor])} for factor in factors}
    tails = (*SHARED_TAILS, max((_bars(factor, settings) for factor in factors), default=1))
    groups: dict[int, list[Factor]] = {}
    shortest = [0, *SHARED_TAILS]
    for above, tail in reversed(list(zip(shortest, tails, strict=True))):
        made = {
            longer: set().union(*(reads[factor.name] for factor in group)) for longer, group in groups.items()
        }
        groups[tail] = []
        for factor in factors:
            if above < _bars(factor, settings) <= tail:
                read = reads[factor.name] if factor.scope == "row" else set()
                joined = [longer for longer in made if read and read <= made[longer]]
                groups[min(joined, default=tail)].append(factor)
    return [group for group in groups.values() if group]


def _market_inputs(
    tails: Sequence[pl.DataFrame],
    timestamps: pl.Series,
    stored: Stored,
    factors: Sequence[Factor],
    settings: Settings,
    since: datetime,
) -> pl.DataFrame:
    """The market's columns at the new timestamps; `tails` end at the newest."""
    if not tails:
        return pl.DataFrame()
    factors = [factor for factor in factors if factor.scope == "market"]
    new = pl.concat([tail[-len(timestamps) :] for tail in tails], how="horizontal")
    old = (
        stored.since(since, ["timestamp", *new.columns])
        .unique("timestamp", keep="first", maintain_order=True)
        .drop("timestamp")
    )
    both = pl.concat([old, new])
    found = with_scores(both, factors, settings, np.arange(len(both)))[len(old) :]
    if settings.regimes.model != "hmm":
        return found
    history = stored.series(new.columns)
    series = pl.concat([history.drop("timestamp"), new])
    # The stored regime is the model's; the thresholds' is needed as far back as it is smoothed.
    thresholds = next(tail[REGIME_COLUMN] for tail in tails if REGIME_COLUMN in tail.columns)[
        -len(timestamps) - PERSIST_BARS - HOLD_BARS :
    ]
    series = series.with_columns(
        pl.concat([series[REGIME_COLUMN][: -len(thresholds)], thresholds]).alias(REGIME_COLUMN)
    )
    before = MarketHistory(
        pl.concat([history.select("timestamp"), timestamps.to_frame("timestamp")]).hstack(series)[
            : len(history)
        ]
    )
    hidden = with_hidden_regime(series[len(history) :], timestamps, settings, before)
    return found.drop(REGIME_COLUMN).hstack(
        hidden.select(name for name in hidden.columns if name == REGIME_COLUMN or name not in new.columns)
    )


def _bars(factor: Factor, settings: Settings) -> int:
    """Bars that the factor needs; the hidden regime is smoothed over some values of the
    thresholds' regime.
    """
    smoothing = (
        PERSIST_BARS + HOLD_BARS if factor.name == REGIME_COLUMN and settings.regimes.model == "hmm" else 0
    )
    return factor.warm_up_bars + smoothing


def _own_scores(
    new: pl.DataFrame, factors: Sequence[Factor], stored: Stored, settings: Settings, since: datetime
) -> pl.DataFrame:
    """Inputs of the new rows normalised by their own past, which is stored."""
    scored = [
        factor
        for factor in factors
        if factor.scope != "market" and method_of(factor, settings) in ("zscore", "minmax", "robust")
    ]
    if not scored:
        return pl.DataFrame()
    names = [factor.name for factor in scored]
    longest = max(factor.warm_up_bars for factor in scored) + settings.window_bars
    old = stored.since(since, ["symbol", *names]).group_by("symbol", maintain_order=True).tail(longest)
    both = (
        pl.concat([old, new.select(old.columns)]).with_row_index("_row").sort("symbol", maintain_order=True)
    )
    bar = both.select(pl.int_range(pl.len()).over("symbol")).to_series().to_numpy()
    made = with_scores(both.drop("symbol"), scored, settings, bar)
    return made.sort("_row")[len(old) :].drop("_row", *names)
