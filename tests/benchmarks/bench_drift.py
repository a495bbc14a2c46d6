"""Drift of 60 columns, reference of 1 M rows, current 100 k rows: the reference once, then a whole check with
both pages, and Evidently's preset on the same tables. And the reference of 0.4 M rows of few symbols and
many bars, where windows are what costs.

python -m tests.benchmarks.bench_drift
"""

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts import REGIME_COLUMN, CatalogEntry
from components.drift.config import Settings
from components.drift.detect import detect
from components.drift.reference import make_reference
from components.drift.report import write_reports
from components.timeline import Settings as TimelineSettings

COLUMNS, SYMBOLS, REFERENCE_BARS, CURRENT_BARS = 60, 1667, 600, 60
LONG_SYMBOLS, LONG_BARS = 18, 23_400


def main() -> None:
    """Seconds of each step, and the ratio."""
    rows = tables()
    cut = rows["timestamp"].unique().sort()[REFERENCE_BARS]
    past, now = rows.filter(pl.col("timestamp") < cut), rows.filter(pl.col("timestamp") >= cut)
    names = [name for name in rows.columns if name.startswith("f")]
    print(f"{len(names)} columns, reference {len(past):,} rows, current {len(now):,} rows")
    with tempfile.TemporaryDirectory() as scratch:
        folder, settings = Path(scratch), Settings()
        labels = outcomes(rows)
        print("reference, once after training:      ", reference_of(past, labels, folder / "reference"))
        long = tables(LONG_BARS, LONG_SYMBOLS)
        print(
            f"of {len(long):,} rows of {LONG_BARS:,} bars:   ",
            reference_of(long, outcomes(long), folder / "long"),
        )
        start = time.perf_counter()
        result = detect(folder / "reference", now, labels, settings)
        found = time.perf_counter() - start
        write_reports(folder / "pages", result, folder / "reference", now, settings)
        whole = time.perf_counter() - start
        print(
            f"check: numbers and classifier:        {found:6.1f} s, verdict {result.verdict}, AUC"
            f" {result.adversarial.auc:.2f}"
        )
        print(f"check with both pages, all imports:   {whole:6.1f} s (wanted: at most 20)")
        preset = timed(lambda: evidently_preset(past, now, names, folder))
        print(
            f"Evidently's DataDriftPreset and page: {preset:6.1f} s, {preset / whole:.1f} times as long"
            " (wanted: at least 5)"
        )


def reference_of(rows: pl.DataFrame, labels: pl.DataFrame, folder: Path) -> str:
    """Seconds that the reference of all rows takes."""
    names = [name for name in rows.columns if name.startswith("f")]
    entries = [
        CatalogEntry(name, name, "made", "context" if name == REGIME_COLUMN else "input", "none", 1, "", "")
        for name in (*names, REGIME_COLUMN)
    ]
    known, cpu = labels.filter(pl.col("timestamp") <= rows["timestamp"].max()), time.process_time()
    wall = timed(
        lambda: make_reference(
            *(rows.drop("score"), known, predictions(rows), entries, Settings(), TimelineSettings(), folder)
        )
    )
    return f"{wall:6.1f} s, {time.process_time() - cpu:.1f} s of CPU"


def tables(bars: int = REFERENCE_BARS + CURRENT_BARS, symbols: int = SYMBOLS) -> pl.DataFrame:
    """Factors with a slow part that a bar's symbols share and a slow part of each symbol's own, a score and a
    regime.
    """
    rng = np.random.default_rng(0)
    start = datetime(2015, 1, 2, 21, tzinfo=UTC)
    moments = np.array(
        [(start + timedelta(days=k)).replace(tzinfo=None) for k in range(bars)], dtype="datetime64[us]"
    )
    columns = {}
    for k in range(COLUMNS):
        values = (
            rng.standard_normal((bars, symbols), dtype=np.float32)
            + 0.02 * rng.standard_normal((bars, 1), dtype=np.float32)
            + rng.standard_normal(symbols, dtype=np.float32)
        )
        columns[f"f{k:02d}"] = values.reshape(-1)
    frame = pl.DataFrame(
        {
            "timestamp": np.repeat(moments, symbols),
            "symbol": [f"S{k:04d}" for k in range(symbols)] * bars,
            **columns,
            REGIME_COLUMN: np.repeat((np.arange(bars) // 40 % 4).astype(np.float32), symbols),
        }
    )
    return frame.with_columns(
        pl.col("timestamp").dt.replace_time_zone("UTC"),
        score=(0.01 * pl.col("f00") + 0.005 * pl.col("f01")).cast(pl.Float64),
    )


def outcomes(rows: pl.DataFrame) -> pl.DataFrame:
    """Labels that the score says a little about."""
    noise = np.random.default_rng(1).standard_normal(len(rows))
    return rows.select(
        "timestamp",
        "symbol",
        horizon=pl.lit(5, dtype=pl.Int32),
        sector_neutral_return=pl.col("score") * 0.2 + 0.04 * pl.Series(noise),
    )


def predictions(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows as if the stack had said their score out of sample."""
    return rows.select(
        "timestamp",
        "symbol",
        "score",
        expert=pl.lit("stack"),
        period=pl.lit("1d"),
        horizon=pl.lit(5, dtype=pl.Int32),
        target=pl.lit("sector_neutral_return"),
    )


def evidently_preset(past: pl.DataFrame, now: pl.DataFrame, names: list[str], folder: Path) -> None:
    """What Evidently does by itself with the same rows."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=names)
    current, reference = (
        Dataset.from_pandas(frame.select(names).to_pandas(), data_definition=definition)
        for frame in (now, past)
    )
    Report([DataDriftPreset()]).run(current, reference).save_html(str(folder / "preset.html"))


def timed(work) -> float:
    """Seconds of wall clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
