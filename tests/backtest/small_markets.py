"""Small markets for the backtest's tests."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from components.contracts import TIME


def long_table(symbols: list[str] | None = None, **values: np.ndarray) -> pl.DataFrame:
    """Arrays of shape (bars, symbols) as one long frame; NaN rows stay."""
    bars, count = next(iter(values.values())).shape
    days = pl.Series(
        [datetime(2024, 1, 1, 21, tzinfo=UTC) + timedelta(days=bar) for bar in range(bars)], dtype=TIME
    )
    symbols = symbols or [f"S{number:0{max(len(str(count - 1)), 2)}d}" for number in range(count)]
    return pl.DataFrame(
        {
            "timestamp": days.gather(np.repeat(np.arange(bars), count)),
            "symbol": symbols * bars,
            **{name: np.asarray(array, dtype=float).ravel() for name, array in values.items()},
        }
    ).sort("timestamp", "symbol")


def random_market(
    seed: int, bars: int = 25, count: int = 7, missing: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Open, close and score, each (bars, symbols)."""
    random = np.random.default_rng(seed)
    steps = random.normal(0, 0.05, (2 * bars, count))
    prices = 100 * np.exp(np.cumsum(steps, axis=0))
    opening, close, score = prices[0::2].copy(), prices[1::2].copy(), random.normal(size=(bars, count))
    opening[random.random((bars, count)) < missing] = np.nan
    close[random.random((bars, count)) < missing] = np.nan
    score[random.random((bars, count)) < missing] = np.nan
    return opening, close, score
