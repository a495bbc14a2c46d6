"""Panels made of random walks, for the tests of the features stage."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import PANEL, check_table


def _random_panel(
    seed: int = 0, *, bars: int = 330, symbols: int = 9, period: str = "1d", missing: float = 0.02
) -> pl.DataFrame:
    """Random walks in three sectors; the last symbol lists late, the first delists early, some bars are
    missing.
    """
    rng = np.random.default_rng(seed)
    step = timedelta(hours=1) if period == "1h" else timedelta(days=1)
    returns = 0.01 * rng.standard_normal((bars, 1)) + 0.015 * rng.standard_normal((bars, symbols))
    close = 50 * np.exp(np.cumsum(returns, axis=0))
    opened = np.vstack([close[:1], close[:-1]]) * np.exp(0.004 * rng.standard_normal(close.shape))
    high = np.maximum(opened, close) * np.exp(np.abs(0.004 * rng.standard_normal(close.shape)))
    low = np.minimum(opened, close) * np.exp(-np.abs(0.004 * rng.standard_normal(close.shape)))
    volume = np.exp(12 + 0.5 * rng.standard_normal(close.shape))
    keep = rng.random(close.shape) >= missing
    keep[: bars // 4, -1] = False
    keep[-bars // 4 :, 0] = False
    row, column = np.nonzero(keep)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    event_time = [start + step * int(r) for r in row]
    frame = pl.DataFrame(
        {
            "event_time": event_time,
            "symbol": [f"S{c:02d}" for c in column],
            "sector": [("energy", "banks", "health")[c % 3] for c in column],
            **{
                name: values[row, column]
                for name, values in (
                    ("open", opened),
                    ("high", high),
                    ("low", low),
                    ("close", close),
                    ("volume", volume),
                )
            },
        }
    )
    times = {
        "event_time": pl.col("event_time").cast(pl.Datetime("us", "UTC")),
        "timestamp": (pl.col("event_time") + step).cast(pl.Datetime("us", "UTC")),
    }
    frame = frame.with_columns(**times).with_columns(
        known_time=pl.col("timestamp") + timedelta(minutes=5), period=pl.lit(period)
    )
    return check_table(frame.sort("timestamp", "symbol"), PANEL)


@pytest.fixture(scope="session")
def random_panel():
    """The function `(seed, *, bars, symbols, period, missing) -> panel`."""
    return _random_panel
