"""Statistical checks for what no rebuild can show: factors that rank like the return that follows, and only
until they are delayed by one bar.

Rank correlation of a factor with the return from this close to the next is measured for the factor as it is
and delayed by some bars. Standard errors are Newey and West's (1987). A market whose own past predicts it
well raises the thresholds: there honest factors rank well too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.audit.columns import Table, columns_at, numbered_keys
from components.audit.result import Leak
from components.audit.too_good import TOO_GOOD_RANK_CORRELATION
from components.timeline import bar_index

BLOCKS, BLOCK_BARS = 6, 20
MAX_SYMBOLS = 200
MIN_SYMBOLS = 8
TIME_SERIES_BARS = 60
MIN_UNITS = 30
NEWEY_WEST_BARS = 5
SMALLEST_VARIANCE = 1e-12
HORIZONS = (1, 5)
LABEL_CORRELATION = 0.98
LABEL_HORIZONS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 21)
# Bars by which factors are delayed in the timing placebo.
PLACEBO_LAGS = (1, 2, 3, 5, 10, 20)
# Loss of |rank IC| from no delay to a delay of one bar above which only the future explains it.
PLACEBO_DROP = 0.15
# Newey-West t value that this loss must have besides.
PLACEBO_T = 8.0


@dataclass(frozen=True)
class Grid:
    """A panel as bars x symbols: the position of each row, and log closes of shape (bars, symbols), NaN where
    there is none.
    """

    bars: np.ndarray
    symbols: np.ndarray
    calendar: pl.Series
    names: pl.Series
    log_close: np.ndarray

    def spread(self, series: pl.Series) -> np.ndarray:
        """A column of the panel as (bars, symbols)."""
        out = np.full(self.log_close.shape, np.nan)
        out[self.bars, self.symbols] = series.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        return out

    def forward(self, horizon: int, entry_lag: int = 0) -> np.ndarray:
        """Log return from the close `entry_lag` bars ahead over `horizon` bars, in bars of the panel."""
        return _delayed(self.log_close, -horizon - entry_lag) - _delayed(self.log_close, -entry_lag)


def make_grid(panel: pl.DataFrame) -> Grid | None:
    """The grid of a panel; None where there is no numeric close, or not one row a (timestamp, symbol)."""
    if (
        "close" not in panel.columns
        or not panel.schema["close"].is_numeric()
        or panel.select(pl.struct("timestamp", "symbol").is_duplicated().any()).item()
    ):
        return None
    calendar, bars = bar_index(panel["timestamp"])
    names = panel["symbol"].unique().sort()
    symbols = panel["symbol"].rank("dense").to_numpy().astype(np.int64) - 1
    close = np.full((len(calendar), len(names)), np.nan)
    values = panel["close"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    close[bars, symbols] = np.log(np.where(values > 0, values, np.nan))
    return Grid(bars, symbols, calendar, names, close)


def label_columns(panel: pl.DataFrame, grid: Grid, columns: Sequence[str]) -> dict[str, int]:
    """Columns of the panel that are returns of the future, and the bars after which each is known."""
    found = {}
    numeric = [name for name in columns if panel.schema[name].is_numeric()]
    for bars, known in ((h, h + lag) for lag in (0, 1) for h in LABEL_HORIZONS):
        ahead = grid.forward(bars, known - bars)[grid.bars, grid.symbols]
        for name in numeric:
            if name in found:
                continue
            x = panel[name].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
            both = np.isfinite(x) & np.isfinite(ahead)
            if both.sum() < 100 or np.ptp(x[both]) == 0:
                continue
            signs = len(np.unique(x[both][:1000])) <= 3
            y = np.sign(ahead[both]) if signs else _ranked(ahead[both][None])[0]
            x = x[both] if signs else _ranked(x[both][None])[0]
            if np.ptp(x) and np.ptp(y) and abs(np.corrcoef(x, y)[0, 1]) > LABEL_CORRELATION:
                found[name] = known
    return found


def placebo(
    panel: pl.DataFrame, grid: Grid, table: Table, columns: Sequence[str]
) -> tuple[list[dict], list[Leak]]:
    """The rank IC of each factor with the next return by delay, and the findings `too_good` and `placebo`.

    `table` holds the factors sorted by (timestamp, symbol). Each dict of the result has `factor`, `horizon`
    (1), `lags`, `ic` (one a lag), `t` (of the loss from lag 0 to 1) and `loss`. Cross-sections of 8 symbols
    or more are ranked by bar; with fewer symbols each one's own 60-bar blocks.
    """
    lags = (0, *PLACEBO_LAGS)
    units = _units(grid, max(lags))
    ranked = {horizon: units.now(grid.forward(horizon)) for horizon in HORIZONS}
    usual = _usual(panel, grid, units, ranked)
    places = _Places(grid, panel, table, units)
    rows, leaks = [], []
    for column in columns_at(table, columns, places.rows):
        name, delayed = column.name, units.delayed(places.spread(column), lags)
        by_lag = [_correlations(values, ranked[1]) for values in delayed]
        enough = np.isfinite(by_lag[0]) & np.isfinite(by_lag[1])
        if enough.sum() < MIN_UNITS:
            continue
        ic = [float(np.nanmean(one)) if np.isfinite(one).any() else None for one in by_lag]
        sign = np.sign(ic[0]) or 1.0
        loss_by_unit = sign * (by_lag[0] - by_lag[1])[enough]
        loss, t = abs(ic[0]) - abs(ic[1] or 0.0), _newey_west_t(loss_by_unit)
        rows.append({"factor": name, "horizon": 1, "lags": list(lags), "ic": ic, "loss": loss, "t": t})
        leaks += _judged(name, grid, ic, loss, t, int(enough.sum()), usual)
        leaks += _too_good(name, grid, delayed[0], ranked, usual)
    return rows, leaks


def _judged(
    name: str,
    grid: Grid,
    ic: Sequence[float | None],
    loss: float,
    t: float,
    count: int,
    usual: float,
) -> Iterator[Leak]:
    if loss >= max(PLACEBO_DROP, 2 * usual) and t >= PLACEBO_T:
        detail = (
            f"Its rank correlation with the next return is {ic[0]:.2f}, and {ic[1]:.2f} when it is delayed by"
            f" one bar (t of the loss {t:.0f}); the market's own past reaches {usual:.2f}"
        )
        yield Leak("placebo", name, grid.calendar[0], rows=count, absolute=loss, detail=detail)


def _too_good(
    name: str,
    grid: Grid,
    values: np.ndarray,
    ranked: Mapping[int, np.ndarray],
    usual: float,
) -> Iterator[Leak]:
    for horizon, target in ranked.items():
        found = _correlations(values, target)
        usable = np.isfinite(found)
        mean = float(found[usable].mean()) if usable.sum() >= MIN_UNITS else 0.0
        if abs(mean) > max(TOO_GOOD_RANK_CORRELATION, 2 * usual):
            detail = (
                f"Its rank correlation with the return over the next {horizon} bars is {mean:.2f}; more than"
                f" {TOO_GOOD_RANK_CORRELATION:g} is too good to be true"
            )
            yield Leak(
                "too_good", name, grid.calendar[0], rows=int(usable.sum()), absolute=abs(mean), detail=detail
            )
            return


class _Places:
    """Spreads columns of a factor table over the chosen bars x symbols; all other places become NaN.

    `rows` are the numbers of the table's rows that stand there.
    """

    def __init__(self, grid: Grid, panel: pl.DataFrame, table: Table, units: "_Bars | _Stretches"):
        codes = pl.DataFrame(
            {"symbol": grid.names.gather(units.symbols), "__code": units.symbols},
            schema_overrides={"symbol": panel.schema["symbol"]},
        )
        bars = pl.DataFrame(
            {"timestamp": grid.calendar.gather(units.rows), "__bar": units.rows},
            schema_overrides={"timestamp": panel.schema["timestamp"]},
        )
        self.shape = grid.log_close.shape
        found = (
            numbered_keys(table, ("timestamp", "symbol"))
            .join(bars, on="timestamp", how="inner", maintain_order="left")
            .join(codes, on="symbol", how="inner", maintain_order="left")
        )
        self.rows, self.bars, self.codes = (
            found["__row"],
            found["__bar"].to_numpy(),
            found["__code"].to_numpy(),
        )

    def spread(self, column: pl.Series) -> np.ndarray:
        """A column at `rows` as (bars, symbols)."""
        out = np.full(self.shape, np.nan)
        out[self.bars, self.codes] = column.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        return out


@dataclass(frozen=True)
class _Bars:
    """Units that are bars: ranks among symbols in some blocks of bars.

    `rows` are those bars and the ones that lags reach back to.
    """

    chosen: np.ndarray
    rows: np.ndarray
    symbols: np.ndarray

    def now(self, values: np.ndarray) -> np.ndarray:
        return _ranked(values[np.ix_(self.chosen, self.symbols)])

    def delayed(self, values: np.ndarray, lags: Sequence[int]) -> list[np.ndarray]:
        ranks = _ranked(values[np.ix_(self.rows, self.symbols)])
        return [
            ranks[np.searchsorted(self.rows, np.maximum(self.chosen - lag, self.rows[0]))] for lag in lags
        ]


@dataclass(frozen=True)
class _Stretches:
    """Units that are 60 bars of one symbol, for panels of few symbols."""

    rows: np.ndarray
    symbols: np.ndarray

    def now(self, values: np.ndarray) -> np.ndarray:
        blocks = len(values) // TIME_SERIES_BARS
        kept = values[len(values) - blocks * TIME_SERIES_BARS :]
        return (
            _ranked(
                kept.reshape(blocks, TIME_SERIES_BARS, -1).transpose(0, 2, 1).reshape(-1, TIME_SERIES_BARS)
            )
            if blocks
            else np.empty((0, TIME_SERIES_BARS))
        )

    def delayed(self, values: np.ndarray, lags: Sequence[int]) -> list[np.ndarray]:
        return [self.now(_delayed(values, lag)) for lag in lags]


def _units(grid: Grid, longest: int) -> _Bars | _Stretches:
    """Where correlations are taken: bars with 8 symbols or more, else stretches of single symbols."""
    n_bars, n_symbols = grid.log_close.shape
    if n_symbols < MIN_SYMBOLS:
        return _Stretches(np.arange(n_bars), np.arange(n_symbols))
    first = min(longest, n_bars - 1)
    starts = np.linspace(first, max(n_bars - BLOCK_BARS - 1, first), BLOCKS).astype(int)
    chosen = np.unique((starts[:, None] + np.arange(BLOCK_BARS)).ravel())
    chosen = chosen[chosen < n_bars]
    rows = np.unique(np.maximum(chosen[:, None] - np.arange(longest + 1), 0))
    return _Bars(
        chosen, rows, np.unique(np.linspace(0, n_symbols - 1, min(MAX_SYMBOLS, n_symbols)).astype(int))
    )


def _usual(
    panel: pl.DataFrame, grid: Grid, units: _Bars | _Stretches, ranked: Mapping[int, np.ndarray]
) -> float:
    """The largest |mean rank IC| of plain honest factors: what this market's own past says about its next
    return.
    """
    returns = grid.log_close - _delayed(grid.log_close, 1)
    known = [
        returns,
        np.abs(returns),
        *(grid.log_close - _delayed(grid.log_close, bars) for bars in (2, 5, 20)),
        grid.log_close,
    ]
    for name in ("open", "high", "low"):
        if name in panel.columns and panel.schema[name].is_numeric():
            price = grid.spread(panel[name])
            known.append(grid.log_close - np.log(np.where(price > 0, price, np.nan)))
    found = [_correlations(units.now(values), target) for values in known for target in ranked.values()]
    return max(
        (abs(float(np.nanmean(one))) for one in found if np.isfinite(one).sum() >= MIN_UNITS), default=0.0
    )


def _delayed(values: np.ndarray, bars: int) -> np.ndarray:
    """Row t holds what row t - bars held; NaN where there was none."""
    out = np.full(values.shape, np.nan)
    if bars >= 0:
        out[bars:] = values[: len(values) - bars]
    else:
        out[:bars] = values[-bars:]
    return out


def _ranked(values: np.ndarray) -> np.ndarray:
    """Mean ranks within each row, NaN where the value is missing."""
    from scipy.stats import rankdata

    known = np.isfinite(values)
    return np.where(known, rankdata(np.where(known, values, np.inf), axis=1), np.nan)


def _correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlation of each row over the places that both have; NaN where fewer than 8, or one does
    not vary.
    """
    both = np.isfinite(x) & np.isfinite(y)
    members = both.sum(axis=1)
    with np.errstate(all="ignore"):
        x, y = (
            np.where(both, one - np.where(both, one, 0.0).sum(axis=1, keepdims=True) / members[:, None], 0.0)
            for one in (x, y)
        )
        spread = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
        return np.where((members >= MIN_SYMBOLS) & (spread > 1e-9), (x * y).sum(axis=1) / spread, np.nan)


def _newey_west_t(series: np.ndarray) -> float:
    """t value of the mean with Bartlett weights over 5 bars."""
    deviations = series - series.mean()
    variance = float(deviations @ deviations) / len(series)
    for lag in range(1, min(NEWEY_WEST_BARS, len(series) - 1) + 1):
        variance += (
            2 * (1 - lag / (NEWEY_WEST_BARS + 1)) * float(deviations[lag:] @ deviations[:-lag]) / len(series)
        )
    return float(series.mean() / np.sqrt(max(variance, SMALLEST_VARIANCE) / len(series)))
