"""Builds the labels of bars: what a position entered one bar after the signal earns over each horizon, in the
forms that experts can learn.

A signal at the close of bar t is entered at the first price after it. Over a horizon of h bars the return is
log(open[t+1+h] / open[t+1]) with `entry: next_open` and log(close[t+1+h] / close[t+1]) with `entry:
next_close`. Bars are counted on the panel's calendar, its sorted distinct timestamps. Where a symbol has no
valid price at exactly bar t+1 or bar t+1+h (a gap, the end of the data, a delisting), or where no order
could be filled there (`unbuyable` or `unsellable`), the row stays unlabelled: all its label columns are null.
The last rows before a delisting or a suspension are therefore unlabelled, and what holders lost in it, or
while the price was locked at its limit, is not in the labels.

Horizons count bars of the panel's period. Labels of ticks (250 ms after a quote, against mid or VWAP) are not
made here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import LABELS, UNTRADABLE
from components.contracts.row_limit import refuse_too_many
from components.contracts.schemas import LABELS_OF_TICKS
from components.labels import past
from components.labels.config import Settings
from components.labels.costs import round_trip_cost, trade_class
from components.labels.cross_section import beta_neutral, return_quantile, sector_neutral
from components.labels.grid import Grid
from components.labels.path import LogPrices, realised_volatility, triple_barrier
from components.metrics.liquidity import one_bar_returns, shifted, volatility
from components.progress import warn
from components.timeline import bar_index
from components.timeline.entry import ENTRY_LAG_BARS


def build_labels(panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Labels of every bar, symbol and horizon.

    Parameters
    ----------
    panel : columns `timestamp`, `symbol`, `sector` (as known at the timestamp), `open`, `high`, `low`,
        `close`, `volume`, optionally `unbuyable`, `unsellable`, `level_step`; (timestamp, symbol) occurs once
    settings : horizons, entry, thresholds, barriers, betas and costs

    Returns
    -------
    A `LABELS` table of len(panel) x len(horizons) rows with all optional columns, sorted by (timestamp,
    symbol, horizon).

    - `label_end` is the close of bar t+1+h also with `entry: next_open`: an open is printed earlier, but a
      panel does not say whether `event_time` is the moment of that print or the start of a calendar day, and
      late is the safe side. A publication delay (`known_time`) is not added: purging counts bars.
    - `direction` is -1, 0 or 1; `trend` is 1 where the log return is above 0, else 0.
    - `sector_neutral_return` is the log return minus its mean over the labelled symbols that have the same
      sector at t; where the sector is unknown or has fewer than 3 of them, over all labelled symbols of the
      bar; null where the bar has fewer than 2.
    - `return_quantile` is the place of the log return among the labelled symbols of the bar, (mid-rank - 1/2)
      / their number.
    - `beta_neutral_return` is the log return minus beta times the market, the mean over the labelled symbols
      of the bar and horizon. Beta: `past.beta`, from closes up to t; null where it is unknown.
    - `realised_volatility` is sqrt(sum of the h squared one-bar returns from entry to exit / h), a bar, not
      annualised.
    - `barrier`, `barrier_return`, `barrier_end`: `path.triple_barrier` with its barriers at multiples of
      sqrt(h) times the volatility of closes up to t; null where that is unknown or 0. `barrier_end` is the
      close of the bar of the touch, at most `label_end`. A bar that could not be traded touches no barrier.
    - `cost` is the round trip's cost as known at t (`costs.round_trip_cost`); `trade_class` is 1 or -1 where
      a long or a short position earns more than it, else 0.

    Where validation could not explain a step in price (`level_step`, where the panel has it), no label spans
    it, and volatility and beta leave it out.

    An `open` column without a single price makes `next_open` fall back to `next_close`, with a warning.
    """
    refuse_too_many(len(panel) * len(settings.horizons), "The table of labels")
    about = About(panel["symbol"].unique().sort(), price_column(panel.lazy(), settings))
    return labels_of(panel, settings, about)


@dataclass(frozen=True)
class About:
    """What a part of a panel does not tell: all `symbols`, in alphabetical order, and the column of the
    `price` at which positions are entered and left.
    """

    symbols: pl.Series
    price: str


def columns_read(names: Iterable[str]) -> list[str]:
    """The columns that labels are made from, of those that a panel has."""
    optional = [name for name in (*UNTRADABLE, "level_step") if name in names]
    return ["timestamp", "symbol", "sector", "open", "high", "low", "close", "volume", *optional]


def labels_of(
    panel: pl.DataFrame, settings: Settings, about: About, asked: slice = slice(None)
) -> pl.DataFrame:
    """As `build_labels`, of all or of a part of the panel: labels of the rows that are `asked`, in the order
    of time and symbol, which may look at all that are there.
    """
    rows = panel.select(columns_read(panel.columns)).sort("timestamp", "symbol")
    calendar, bars = bar_index(rows["timestamp"])
    symbols = about.symbols.search_sorted(rows["symbol"]).to_numpy().astype(np.int64)
    grid = Grid(bars, symbols, len(calendar), len(about.symbols), asked)
    horizons = sorted(settings.horizons)
    columns = _columns(rows, grid, horizons, settings, about.price)
    threshold = settings.direction_threshold_bps / 10_000
    return _long(rows[asked], calendar, bars[asked], horizons, columns, threshold)


def _columns(
    rows: pl.DataFrame, grid: Grid, horizons: list[int], settings: Settings, price: str
) -> dict[str, np.ndarray]:
    """Every number of the labels, shape (rows that are asked, horizons), NaN where unknown.

    The `_bars` columns count bars after the signal.
    """
    logs = {name: grid.logs(rows[name]) for name in ("open", "high", "low", "close")}
    tradable = grid.matrix(_tradable(rows))
    filled = {name: matrix * tradable for name, matrix in logs.items()}
    entry = shifted(filled[price], -ENTRY_LAG_BARS)
    stepped = _steps(rows, grid)
    one_bar = np.where(stepped, np.nan, one_bar_returns(logs["close"]))
    size = volatility(one_bar, settings.barriers.volatility_bars)
    beta = grid.rows(past.beta(one_bar, settings.betas.window_bars, settings.betas.weight))
    value = grid.matrix((rows["close"] * rows["volume"]).cast(pl.Float64).fill_null(np.nan).to_numpy())
    cost = grid.rows(round_trip_cost(one_bar, size, value, settings.costs))
    path = LogPrices.of(**{f"log_{name}": matrix for name, matrix in filled.items()})
    exits = [shifted(filled[price], -(ENTRY_LAG_BARS + horizon)) for horizon in horizons]
    sure = _believed(stepped, horizons)
    moved = [np.where(known, leave - entry, np.nan) for known, leave in zip(sure, exits, strict=True)]
    returns = np.stack([grid.rows(matrix) for matrix in moved], axis=1)
    on_the_way = ("realised_volatility", "barrier", "barrier_return", "barrier_bars")
    found = {"log_return": returns, **{name: [] for name in on_the_way}}
    for horizon, leave in zip(horizons, exits, strict=True):
        found["realised_volatility"].append(
            grid.rows(realised_volatility(logs[price], horizon, ENTRY_LAG_BARS))
        )
        up, down = (
            size * np.sqrt(horizon) * width
            for width in (settings.barriers.up_volatilities, settings.barriers.down_volatilities)
        )
        touched = triple_barrier(
            path, entry, leave, up, down, horizon, at_open=price == "open", lag=ENTRY_LAG_BARS
        )
        for name, matrix in zip(("barrier", "barrier_return", "barrier_bars"), touched, strict=True):
            found[name].append(grid.rows(matrix))
    found = {
        name: values if name == "log_return" else np.stack(values, axis=1) for name, values in found.items()
    }
    bars, sectors = grid.bars[grid.asked], rows["sector"][grid.asked]
    found["sector_neutral_return"] = sector_neutral(returns, bars, sectors)
    found["beta_neutral_return"] = beta_neutral(returns, bars, beta)
    found["return_quantile"] = return_quantile(returns, bars)
    found["trade_class"] = trade_class(returns, cost[:, None], settings.classes.margin_bps / 10_000)
    found["cost"] = np.repeat(cost[:, None], len(horizons), axis=1)
    return {name: np.where(np.isfinite(returns), values, np.nan) for name, values in found.items()}


def _believed(stepped: np.ndarray, horizons: list[int]) -> list[np.ndarray]:
    """For each horizon whether no price step that nobody explains lies between entry and exit; shape as
    `stepped`, (bars, symbols).
    """
    crossed = np.cumsum(stepped, axis=0).astype(float)
    at_entry = shifted(crossed, -ENTRY_LAG_BARS)
    return [shifted(crossed, -(ENTRY_LAG_BARS + horizon)) == at_entry for horizon in horizons]


def _tradable(rows: pl.DataFrame) -> np.ndarray:
    """1 where an order could be filled in both directions, else NaN; shape (rows,)."""
    blocked = np.zeros(len(rows), dtype=bool)
    for name in set(UNTRADABLE) & set(rows.columns):
        blocked |= rows[name].fill_null(False).to_numpy()
    return np.where(blocked, np.nan, 1.0)


def _steps(rows: pl.DataFrame, grid: Grid) -> np.ndarray:
    """Whether the way from the bar before to each bar can't be trusted, (bars, symbols), bool."""
    if "level_step" not in rows.columns:
        return np.zeros((grid.n_bars, grid.n_symbols), dtype=bool)
    return grid.matrix(rows["level_step"].fill_null(False).cast(pl.Float64).to_numpy()) == 1


def price_column(panel: pl.LazyFrame, settings: Settings) -> str:
    """The price at which positions are entered and left; warns where it is not the one that is set."""
    if settings.entry == "next_open":
        opens = panel.select(pl.col("open").is_not_null().any(), rows=pl.len()).collect(engine="streaming")
        if opens["open"].item() or opens["rows"].item() == 0:
            return "open"
        warn(
            "labels",
            "The panel holds no open prices: labels are entered at the next close instead of the next open."
            " Set labels.entry: next_close to say so.",
        )
    return "close"


def _long(
    rows: pl.DataFrame,
    calendar: pl.Series,
    bars: np.ndarray,
    horizons: list[int],
    columns: dict[str, np.ndarray],
    threshold: float,
) -> pl.DataFrame:
    """One row a bar, symbol and horizon; NaN becomes null."""
    repeated = pl.Series(np.repeat(np.arange(len(rows)), len(horizons)))
    end_bars = bars[:, None] + ENTRY_LAG_BARS + np.array(horizons)
    ends = {
        "label_end": np.where(np.isfinite(columns["log_return"]), end_bars, np.nan),
        "barrier_end": bars[:, None] + columns.pop("barrier_bars"),
    }
    table = pl.DataFrame(
        {
            "timestamp": rows["timestamp"].gather(repeated),
            "symbol": rows["symbol"].gather(repeated),
            "horizon": pl.Series(np.tile(np.array(horizons, dtype=np.int32), len(rows))),
            **{
                name: calendar.gather(pl.Series(at.ravel()).fill_nan(None).cast(pl.Int64))
                for name, at in ends.items()
            },
            **{name: pl.Series(values.ravel()).fill_nan(None) for name, values in columns.items()},
        }
    )
    size = pl.col("log_return")
    direction = pl.when(size.abs() <= threshold).then(0).otherwise(size.sign()).cast(pl.Int8)
    table = table.with_columns(
        pl.when(size.is_not_null()).then(direction).alias("direction"),
        (size > 0).cast(pl.Int8).alias("trend"),
        pl.col("barrier", "trade_class").cast(pl.Int8),
    )
    optional = [name for name in LABELS.optional if name not in LABELS_OF_TICKS]
    return table.select(*LABELS.columns, *optional)
