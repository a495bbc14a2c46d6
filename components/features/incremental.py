"""Adds the rows of new bars to a factors table, from as much history as each factor needs, with the bits that
a full build would give.

Windows carry no state (`kernels`), so the rows of the newest bars follow from a tail of the panel. Factors
are split by the history they need, so that most are made on a short tail. What a normalisation needs of the
past is read from the table itself.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from components.contracts import FACTORS, REGIME_COLUMN, Stamp, read_stamp, read_table, write_table
from components.features import build
from components.features.config import Settings
from components.features.errors import FeatureError
from components.features.library import Factor
from components.features.regime import HOLD_BARS, PERSIST_BARS
from components.settings import config_hash
from components.timeline.periods import LENGTHS

# Factors that need up to so many bars are made together; the last group takes the rest.
SHARED_TAILS = (26, 70, 130)
# A window over one symbol's bars may stand on a window over timestamps and that on another symbol's: each can
# be stretched by missing bars.
CHAINED_WINDOWS = 3
# So many more timestamps than needed are looked at first, for bars that symbols miss.
SPARE_BARS = 32


class TailTooShort(FeatureError):
    """The panel's tail does not hold all bars that the new rows need."""


class Stored:
    """The factors table so far."""

    def __init__(self, previous: pl.DataFrame | pl.LazyFrame):
        self.frame = previous.lazy()
        self.columns = self.frame.collect_schema().names()
        self.eager = previous if isinstance(previous, pl.DataFrame) else None
        self.last = self.frame.select(pl.col("timestamp").max()).collect().item()
        if self.last is None:
            raise FeatureError(
                "The factors table holds no rows, so there is nothing to add to. Build the whole table."
            )

    def since(self, moment: datetime, columns: Sequence[str]) -> pl.DataFrame:
        """The rows from `moment` on."""
        if self.eager is not None and self.eager["timestamp"].is_sorted():
            return self.eager[int(self.eager["timestamp"].search_sorted(moment)) :].select(columns)
        return self.frame.filter(pl.col("timestamp") >= moment).select(columns).collect()

    def symbols_before(self, moment: datetime) -> pl.Series:
        """The symbols that had bars before `moment`."""
        return (
            self.frame.filter(pl.col("timestamp") < moment)
            .select(pl.col("symbol").unique())
            .collect()
            .to_series()
        )

    def series(self, columns: Sequence[str]) -> pl.DataFrame:
        """One row a timestamp, of columns that are equal for all symbols."""
        return (
            self.frame.select("timestamp", *columns)
            .unique("timestamp", keep="first")
            .sort("timestamp")
            .collect()
        )


@dataclass(frozen=True)
class Places:
    """Where the rows of a panel stand: number of their timestamp and of their symbol, (rows,), and each
    symbol's first timestamp, below 0 if before the panel.

    `complete` where nothing was stored before the panel's first bar.
    """

    time: np.ndarray
    symbol: np.ndarray
    first: np.ndarray
    complete: bool


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
    panel = panel if panel["timestamp"].is_sorted() else panel.sort(*build.KEY)
    stored = Stored(previous)
    period = build.panel_period(panel)
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
    panel = panel.sort(*build.KEY)
    cut = int(panel["timestamp"].search_sorted(stored.last, side="right"))
    factors = _buildable(stored, panel, settings, period)
    places = places_of(panel, stored.symbols_before(panel["timestamp"][0]))
    old_times = int(places.time[cut - 1]) + 1 if cut else 0
    longest = build.longest_warm_up(build.catalog(settings, period))
    history = tail_start(places, old_times, 2 * longest)
    row = int(np.searchsorted(places.time, history))
    _check_same_bars(panel[row:cut], stored)
    known_time, late = _known_times(panel, places, history, longest, period)
    # The newest old timestamp is made again, to compare it.
    begin = int(np.searchsorted(places.time, old_times - 1))
    own, market = _raw_values(panel, factors, settings, places, old_times, begin, late)
    newest = pl.concat(
        [
            panel[begin:].select(*build.KEY),
            known_time[begin - len(panel) :].alias("known_time").to_frame(),
            own,
        ],
        how="horizontal",
    )
    _check_unrevised(newest[: cut - begin], stored)
    new, bars = newest[cut - begin :], panel[cut:]
    since = panel["timestamp"][row]
    time = places.time[cut:] - places.time[cut]
    market = _market_inputs(
        market, bars["timestamp"].unique(maintain_order=True), stored, factors, settings, since
    )
    rows_late = None if late is None else late[cut:]
    new = new.hstack(_own_scores(new, factors, stored, settings, since))
    new = build.with_ranks(
        new, [factor for factor in factors if factor.scope != "market"], settings, time, rows_late
    ).hstack(market[time])
    formulas, values = build.formula_values(bars, {name: new[name] for name in new.columns}, settings)
    if formulas:
        new = new.hstack(values)
        new = build.with_ranks(
            new.hstack(_own_scores(new, formulas, stored, settings, since)),
            formulas,
            settings,
            time,
            rows_late,
        )
    return new.select(
        pl.col(name) if name in new.columns else pl.lit(None, pl.Float32).alias(name)
        for name in stored.columns
    )


def bars_needed(settings: Settings, period: str) -> int:
    """Timestamps that a panel's tail must hold before its first new one, where no symbol misses bars."""
    return 2 * build.longest_warm_up(build.catalog(settings, period))


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
    for name, found, wanted in (
        ("settings", stamp.config_hash, config_hash(settings)),
        ("code", stamp.code_version, code_version),
    ):
        if found != wanted:
            raise FeatureError(
                f"{factors_path} was built with other {name} ({found[:12]}, now {wanted[:12]}), so its rows"
                " can't be kept. Build the whole table again."
            )
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


def _buildable(stored: Stored, panel: pl.DataFrame, settings: Settings, period: str) -> list[Factor]:
    """The factors that the panel supports; refused where the stored table has others than these settings
    give.
    """
    expected = {entry.column: entry.factor for entry in build.catalog(settings, period)}
    surplus = [name for name in stored.columns if name not in expected and name not in FACTORS.columns]
    if surplus:
        raise FeatureError(
            f"The factors table has a column {surplus[0]!r} that these settings do not give. Build the whole"
            " table with these settings."
        )
    unsupported = build.unsupported(panel, settings)
    added = [
        factor
        for column, factor in expected.items()
        if column not in stored.columns and factor not in unsupported
    ]
    if added:
        raise FeatureError(
            f"The factors table lacks {added[0]!r}, which these settings and this panel give. Build the whole"
            " table again, so that its history has the column too."
        )
    return [factor for factor in build.declared_factors(settings, period) if factor.name not in unsupported]


def places_of(panel: pl.DataFrame, known_before: pl.Series) -> Places:
    """Where the rows of a panel, sorted by time and symbol, stand; `known_before` are the symbols with bars
    before its first timestamp.
    """
    time = panel["timestamp"].rle_id().to_numpy().astype(np.int64)
    names = panel["symbol"].unique().sort()
    symbol = build.codes(panel["symbol"]).astype(np.int64) - 1
    first = np.full(len(names), int(time[-1]) + 1)
    np.minimum.at(first, symbol, time)
    return Places(
        time,
        symbol,
        np.where(names.is_in(known_before.implode()).to_numpy(), -1, first),
        known_before.is_empty(),
    )


def tail_start(places: Places, old_times: int, bars: int) -> int:
    """The timestamp from which on the panel gives every window of `bars` bars that ends at the newest old
    timestamp or later.
    """
    start = old_times - bars
    while start > 0:
        row = int(np.searchsorted(places.time, start))
        time, symbol = places.time[row:], places.symbol[row:]
        rows = np.bincount(symbol, minlength=len(places.first))
        last = np.zeros(len(places.first), dtype=np.int64)
        last[symbol] = time
        missed = int(np.max(np.where(rows > 0, last - np.maximum(places.first, start) + 1 - rows, 0)))
        wanted = old_times - bars - CHAINED_WINDOWS * missed
        if wanted >= start:
            return start
        start = wanted
    if start < 0 and not places.complete:
        raise TailTooShort(
            f"The panel's tail begins {old_times} bars before the first new one; {old_times - start} are"
            " needed, because a factor looks back that far and symbols miss bars. Give a longer tail, or the"
            " whole panel."
        )
    return 0


def _check_same_bars(panel: pl.DataFrame, stored: Stored) -> None:
    """Refuse a panel that has lost or gained bars since the table was built."""
    old, known = panel.select(*build.KEY), stored.since(panel["timestamp"][0], build.KEY)
    if old.equals(known):
        return
    lost, gained = known.join(old, on=build.KEY, how="anti"), old.join(known, on=build.KEY, how="anti")
    what, rows = (
        ("has no bar for", lost)
        if len(lost)
        else ("has a bar that the factors table does not know for", gained)
    )
    if rows.is_empty():
        raise FeatureError(
            "The factors table or the panel is out of order or repeats rows. Build the whole table again."
        )
    row = rows.sort(*build.KEY).row(0, named=True)
    raise FeatureError(
        f"The panel {what} {row['symbol']} at {row['timestamp']:%Y-%m-%d %H:%M} ({len(rows):,} such bars), so"
        " it isn't the one that the factors table was built from. Build the whole table again."
    )


def _known_times(
    panel: pl.DataFrame, places: Places, history: int, longest: int, period: str
) -> tuple[pl.Series, np.ndarray | None]:
    """Known times and late rows in the order of the panel; right from `longest` bars after the timestamp
    `history` on.
    """
    begin = int(np.searchsorted(places.time, history))
    symbol = places.symbol[begin:]
    order = np.argsort(symbol, kind="stable")
    helpers = {build.SYMBOL: symbol[order], build.TIME: places.time[begin:][order] - history}
    frame = (
        panel[begin:]
        .select("timestamp", "known_time")[order]
        .with_columns(pl.Series(name, values) for name, values in helpers.items())
    )
    known_time, late = build.known_times(frame, longest, LENGTHS[period])
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
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
    shortest = 0
    for bars in (*SHARED_TAILS, max((_bars(factor, settings) for factor in factors), default=1)):
        group = [factor for factor in factors if shortest < _bars(factor, settings) <= bars]
        shortest = max(bars, shortest)
        if not group:
            continue
        start = int(
            np.searchsorted(
                places.time,
                tail_start(places, old_times, max(_bars(factor, settings) for factor in group) + 1),
            )
        )
        made = build.arranged(panel[start:], group, settings)
        made.late = None if late is None else late[start:][made.order]
        if any(factor.scope == "market" for factor in group):
            market.append(build.market_values(made, group))
        wanted = made.back[begin - start :]
        own += [
            block[wanted]
            for block in build.own_blocks(made, [factor for factor in group if factor.scope != "market"])
        ]
    return pl.concat(own, how="horizontal"), market


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
    found = build.with_scores(both, factors, settings, np.arange(len(both)))[len(old) :]
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
    before = build.MarketHistory(
        pl.concat([history.select("timestamp"), timestamps.to_frame("timestamp")]).hstack(series)[
            : len(history)
        ]
    )
    hidden = build.with_hidden_regime(series[len(history) :], timestamps, settings, before)
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


def _check_unrevised(table: pl.DataFrame, stored: Stored) -> None:
    """Refuse a panel whose newest old rows come out otherwise than stored."""
    known = stored.since(stored.last, [name for name in table.columns if name in stored.columns])
    for name in known.columns:
        differs = table[name].ne_missing(known[name])
        if differs.any():
            row = int(differs.arg_true()[0])
            raise FeatureError(
                f"A bar was revised: {name} of {table['symbol'][row]} at"
                f" {table['timestamp'][row]:%Y-%m-%d %H:%M} is stored as {known[name][row]}, the panel now"
                f" gives {table[name][row]}. Build the whole table again, so that no row rests on the old"
                " bar."
            )


def _own_scores(
    new: pl.DataFrame, factors: Sequence[Factor], stored: Stored, settings: Settings, since: datetime
) -> pl.DataFrame:
    """Inputs of the new rows normalised by their own past, which is stored."""
    scored = [
        factor
        for factor in factors
        if factor.scope != "market" and build.method_of(factor, settings) in ("zscore", "minmax", "robust")
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
    made = build.with_scores(both.drop("symbol"), scored, settings, bar)
    return made.sort("_row")[len(old) :].drop("_row", *names)
