"""Labels that depend on the way between entry and exit: realised volatility and the triple barrier."""

from dataclasses import dataclass

import numpy as np

from components.metrics.liquidity import shifted, trailing_sum


@dataclass(frozen=True)
class LogPrices:
    """Log prices by (bar, symbol), NaN where unknown.

    `high` and `low` are the close, and `coarse` true, where the bar has no range.
    """

    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    coarse: np.ndarray

    @classmethod
    def of(
        cls, log_open: np.ndarray, log_high: np.ndarray, log_low: np.ndarray, log_close: np.ndarray
    ) -> "LogPrices":
        """Bars whose range is unknown are seen through their close alone."""
        coarse = ~(np.isfinite(log_high) & np.isfinite(log_low))
        return cls(
            log_open,
            np.where(coarse, log_close, log_high),
            np.where(coarse, log_close, log_low),
            log_close,
            coarse,
        )

    def later(self, ahead: int) -> tuple[np.ndarray, ...]:
        """Open, high, low, close and coarse of the bar `ahead` bars after each, as far as there is one."""
        return tuple(matrix[ahead:] for matrix in (self.open, self.high, self.low, self.close, self.coarse))


def realised_volatility(log_price: np.ndarray, horizon: int, lag: int) -> np.ndarray:
    """sqrt(sum of squared returns / horizon) from bar t + lag to t + lag + horizon, a bar; shape (bars,
    symbols).

    Returns are between the prices at which one enters and leaves (open to open or close to close). Over a gap
    the return between the prices on both sides counts once. Only meaningful where both ends have a price.
    """
    steps = _filled(log_price)
    squares = (steps - shifted(steps, 1)) ** 2
    return np.sqrt(shifted(trailing_sum(squares, horizon), -(lag + horizon)) / horizon)


def triple_barrier(
    bars: LogPrices,
    log_entry: np.ndarray,
    log_exit: np.ndarray,
    up: np.ndarray,
    down: np.ndarray,
    horizon: int,
    *,
    at_open: bool,
    lag: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which barrier is touched first, the log return there, and how many bars after the signal this was
    known; three of shape (bars, symbols).

    Parameters
    ----------
    log_entry, log_exit : log prices at entry and at the end of the horizon of the signal at each bar
    up, down : distances of the barriers from the entry price in log return, above 0; the label is NaN where
        one is unknown
    at_open : entered at the open of bar t + lag, else at its close

    Returns
    -------
    1 up, -1 down, 0 none within the horizon. A bar that opens beyond a barrier is left at its open; where
    high and low of one bar touch both, the lower counts (the stop first); a touch is left at the barrier, and
    where a bar has no range at its close. A price at the end of the horizon beyond a barrier is a touch too.
    """
    upper, lower = log_entry + up, log_entry - down
    side, level, known = np.zeros(upper.shape), log_exit.copy(), np.full(upper.shape, float(lag + horizon))
    first = lag if at_open else lag + 1
    # A loop over the horizon's bars; each step looks at all symbols and all signals at once.
    for ahead in range(first, min(first + horizon, len(upper))):
        signals = slice(0, len(upper) - ahead)
        opened, high, low, close, coarse = bars.later(ahead)
        above, below = upper[signals], lower[signals]
        jump_up, jump_down = (opened >= above, opened <= below) if ahead > lag else (np.False_, np.False_)
        fell = low <= below
        down_first = jump_down | (fell & ~jump_up)
        hit = (side[signals] == 0) & (down_first | jump_up | (high >= above))
        at = np.where(
            jump_up | jump_down, opened, np.where(coarse, close, np.where(down_first, below, above))
        )
        np.copyto(side[signals], np.where(down_first, -1.0, 1.0), where=hit)
        np.copyto(level[signals], at, where=hit)
        np.copyto(known[signals], ahead, where=hit)
    last = (side == 0) & ((log_exit >= upper) | (log_exit <= lower))
    side[last] = np.where(log_exit >= upper, 1.0, -1.0)[last]
    valid = np.isfinite(upper) & np.isfinite(lower) & np.isfinite(log_exit) & (up > 0) & (down > 0)
    return tuple(np.where(valid, values, np.nan) for values in (side, level - log_entry, known))


def _filled(matrix: np.ndarray) -> np.ndarray:
    """The newest known value of each symbol."""
    newest = (
        np.maximum.accumulate(np.where(np.isfinite(matrix), np.arange(len(matrix))[:, None], 0), axis=0)
        if len(matrix)
        else np.zeros(matrix.shape, dtype=int)
    )
    return np.take_along_axis(matrix, newest, axis=0)
