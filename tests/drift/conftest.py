"""A small made market: ranks within a bar, factors over time, one that the market shares, a calendar, a score
and labels.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.contracts import CatalogEntry
from components.contracts.documents.drift_reference import DriftReference
from components.drift.config import Settings
from components.drift.reference import make_reference
from components.timeline import Settings as TimelineSettings

SYMBOLS, BARS, WINDOW = 30, 300, 40
GROUPS = {
    "rank_a": "trend",
    "rank_b": "style",
    "value": "volatility",
    "sparse": "bars",
    "market": "regime",
    "weekday": "calendar",
    "regime_state": "regime",
}


@dataclass(frozen=True)
class Made:
    """All bars, the ones before the newest, and the newest; their labels; what the stack said out of sample;
    the catalog; the reference of the past in `folder`.
    """

    rows: pl.DataFrame
    labels: pl.DataFrame
    past: pl.DataFrame
    said: pl.DataFrame
    entries: list[CatalogEntry]
    folder: Path
    about: DriftReference
    current: pl.DataFrame


@pytest.fixture(scope="session")
def drift_settings() -> Settings:
    """Small windows for a small market."""
    return Settings(
        window_bars=WINDOW, min_bars=10, min_rows=100, sample_rows=3000, auc_windows=6, page_columns=4
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory, drift_settings) -> Made:
    """A market with a reference of all but its newest bars."""
    rows, labels = market(0)
    cut = rows["timestamp"].unique().sort()[BARS - WINDOW]
    past = rows.filter(pl.col("timestamp") < cut)
    folder = tmp_path_factory.mktemp("reference")
    about = make_reference(
        past.drop("score"),
        labels.filter(pl.col("timestamp") < cut),
        said(past),
        ENTRIES,
        drift_settings,
        TimelineSettings(),
        folder,
    )
    return Made(
        rows=rows,
        labels=labels,
        past=past,
        said=said(past),
        entries=ENTRIES,
        folder=Path(folder),
        about=about,
        current=rows.filter(pl.col("timestamp") >= cut),
    )


def market(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Stationary rows and labels."""
    rng = np.random.default_rng(seed)
    start = datetime(2020, 1, 1, 21, tzinfo=UTC)
    moments = [start + timedelta(days=k) for k in range(BARS)]
    ranks = [
        (np.argsort(np.argsort(rng.normal(size=(BARS, SYMBOLS)), axis=1), axis=1) / (SYMBOLS - 1) - 0.5)
        .astype(np.float32)
        .reshape(-1)
        for _ in range(2)
    ]
    noise = rng.normal(size=(BARS, SYMBOLS))
    columns = {
        "rank_a": ranks[0],
        "rank_b": ranks[1],
        "value": (noise + 0.2 * rng.normal(size=(BARS, 1))).astype(np.float32).reshape(-1),
        "sparse": (
            np.where(rng.random(BARS * SYMBOLS) < 0.9, 0, rng.normal(size=BARS * SYMBOLS)).astype(np.float32)
        ),
        "market": np.repeat(rng.normal(size=BARS).astype(np.float32), SYMBOLS),
        "weekday": np.repeat((np.arange(BARS) % 7).astype(np.float32), SYMBOLS),
        "regime_state": np.repeat((np.arange(BARS) // 15 % 3).astype(np.float32), SYMBOLS),
    }
    score = 0.01 * ranks[0] + 0.002 * rng.normal(size=BARS * SYMBOLS)
    keys = {
        "timestamp": np.repeat(
            np.array([m.replace(tzinfo=None) for m in moments], dtype="datetime64[us]"), SYMBOLS
        ),
        "symbol": [f"S{k:02d}" for k in range(SYMBOLS)] * BARS,
    }
    rows = pl.DataFrame({**keys, **columns, "score": score}).with_columns(
        pl.col("timestamp").dt.replace_time_zone("UTC")
    )
    labels = rows.select(
        "timestamp",
        "symbol",
        horizon=pl.lit(2, dtype=pl.Int32),
        log_return=pl.Series(2 * score + 0.02 * rng.normal(size=len(score))),
    )
    return rows, labels


def said(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows' scores as the stack's predictions of the later two thirds."""
    cut = rows["timestamp"].unique().sort()[BARS // 3]
    about = {
        "expert": pl.lit("stack"),
        "period": pl.lit("1d"),
        "horizon": pl.lit(2, dtype=pl.Int32),
        "target": pl.lit("log_return"),
    }
    return rows.filter(pl.col("timestamp") >= cut).select("timestamp", "symbol", "score", **about)


ENTRIES = [
    CatalogEntry(name, name, group, "context" if name == "regime_state" else "input", "none", 1, "", "")
    for name, group in GROUPS.items()
]
