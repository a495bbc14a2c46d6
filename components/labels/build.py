"""Builds the labels: log return, direction and sector-neutral return over each horizon, entered one bar after the signal.

A signal at the close of bar t is entered at the first price after it. Over a horizon of h bars the return is
log(open[t+1+h] / open[t+1]) with `entry: next_open` and log(close[t+1+h] / close[t+1]) with `entry: next_close`. Bars
are counted on the panel's calendar, its sorted distinct timestamps. Where a symbol has no valid price at exactly bar
t+1 or bar t+1+h (a gap, the end of the data, a delisting), the row stays unlabelled: all its label columns are null.
A delisted symbol's last rows are therefore unlabelled, and what holders lost in the delisting itself is not in the labels.
"""

import numpy as np
import polars as pl

from components.contracts import LABELS
from components.labels.config import Settings
from components.progress import warn
from components.timeline import bar_index

ENTRY_LAG_BARS = 1
MIN_SECTOR_MEMBERS = 3
MIN_CROSS_SECTION = 2


def build_labels(panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Labels of every bar, symbol and horizon.

    Parameters
    ----------
    panel : columns `timestamp`, `symbol`, `sector` (as known at the timestamp), `open`, `close`; (timestamp, symbol) occurs once
    settings : horizons, entry and the threshold of `direction`

    Returns
    -------
    A `LABELS` table of len(panel) x len(horizons) rows, sorted by (timestamp, symbol, horizon).
    `label_end` is the close of bar t+1+h also with `entry: next_open`: an open is printed earlier, but a panel does not
    say whether `event_time` is the moment of that print or the start of a calendar day, and late is the safe side. A
    publication delay (`known_time`) is not added: purging counts bars.
    `direction` is -1, 0 or 1. `sector_neutral_return` is the log return minus its mean over the labelled symbols that
    have the same sector at t; where the sector is unknown or has fewer than 3 of them, over all labelled symbols of the
    bar; null where the bar has fewer than 2.

    An `open` column without a single price makes `next_open` fall back to `next_close`, with a warning.
    """
    rows = panel.select("timestamp", "symbol", "sector", "open", "close").sort("timestamp", "symbol")
    calendar, bars = bar_index(rows["timestamp"])
    prices = rows[_price_column(rows, settings)].cast(pl.Float64).to_numpy()
    symbols = rows["symbol"].rank("dense").to_numpy().astype(np.int64) - 1
    horizons = sorted(settings.horizons)
    returns = _forward_log_returns(prices, bars, symbols, horizons)
    neutral = _sector_neutral(returns, bars, rows["sector"])
    ends = np.stack([np.where(np.isfinite(returns[:, i]), bars + ENTRY_LAG_BARS + h, -1) for i, h in enumerate(horizons)], axis=1)
    return _long(rows, calendar, horizons, returns, neutral, ends, settings.direction_threshold_bps / 10_000)


def _price_column(rows: pl.DataFrame, settings: Settings) -> str:
    if settings.entry == "next_open":
        if rows["open"].is_not_null().any() or rows.is_empty():
            return "open"
        warn("labels", "The panel holds no open prices: labels are entered at the next close instead of the next open. Set labels.entry: next_close to say so.")
    return "close"


def _forward_log_returns(prices: np.ndarray, bars: np.ndarray, symbols: np.ndarray, horizons: list[int]) -> np.ndarray:
    """Log returns from bar t+1 to bar t+1+h, shape (rows, horizons); NaN where either price is missing or not positive."""
    n_bars, n_symbols = int(bars.max(initial=-1)) + 1, int(symbols.max(initial=-1)) + 1
    padded = np.full((n_bars + ENTRY_LAG_BARS + max(horizons), n_symbols), np.nan)
    valid = np.isfinite(prices) & (prices > 0)
    padded[bars[valid], symbols[valid]] = np.log(prices[valid])
    entry = padded[bars + ENTRY_LAG_BARS, symbols]
    return np.stack([padded[bars + ENTRY_LAG_BARS + h, symbols] - entry for h in horizons], axis=1)


def _sector_neutral(returns: np.ndarray, bars: np.ndarray, sectors: pl.Series) -> np.ndarray:
    """Returns minus the mean of their sector at the same bar (or of the whole bar); shape (rows, horizons)."""
    codes = sectors.rank("dense").cast(pl.Int64).fill_null(0).to_numpy()
    cells = bars * (int(codes.max(initial=0)) + 1) + codes
    neutral = np.empty_like(returns)
    for i in range(returns.shape[1]):
        labelled = np.isfinite(returns[:, i])
        values = np.where(labelled, returns[:, i], 0.0)
        sector_mean, sector_members = _group_mean(values, labelled, cells)
        bar_mean, bar_members = _group_mean(values, labelled, bars)
        mean = np.where((codes > 0) & (sector_members >= MIN_SECTOR_MEMBERS), sector_mean, bar_mean)
        neutral[:, i] = np.where(bar_members >= MIN_CROSS_SECTION, returns[:, i] - mean, np.nan)
    return neutral


def _group_mean(values: np.ndarray, labelled: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row, the mean over the labelled rows of its group and their number."""
    sums = np.bincount(groups, weights=values)
    members = np.bincount(groups, weights=labelled)
    means = np.divide(sums, members, out=np.full(len(sums), np.nan), where=members > 0)
    return means[groups], members[groups]


def _long(rows: pl.DataFrame, calendar: pl.Series, horizons: list[int], returns: np.ndarray, neutral: np.ndarray, ends: np.ndarray, threshold: float) -> pl.DataFrame:
    """One row a bar, symbol and horizon; NaN becomes null."""
    repeated = pl.Series(np.repeat(np.arange(len(rows)), len(horizons)))
    end_bars = pl.Series(ends.ravel()).replace(-1, None)
    log_return = pl.Series("log_return", returns.ravel()).fill_nan(None)
    table = pl.DataFrame(
        {
            "timestamp": rows["timestamp"].gather(repeated),
            "symbol": rows["symbol"].gather(repeated),
            "horizon": pl.Series(np.tile(np.array(horizons, dtype=np.int32), len(rows))),
            "label_end": calendar.gather(end_bars),
            "log_return": log_return,
            "sector_neutral_return": pl.Series(neutral.ravel()).fill_nan(None),
        }
    )
    size = pl.col("log_return")
    direction = pl.when(size.abs() <= threshold).then(0).otherwise(size.sign()).cast(pl.Int8)
    return table.with_columns(pl.when(size.is_not_null()).then(direction).alias("direction")).select(*LABELS.columns)
