"""Tables of a small panel with a planted signal as the files of a run, for work outside of the pipeline."""

from pathlib import Path

import polars as pl

from components.contracts import LABELS, PANEL, TRAINING_SET, write_catalog, write_table
from components.experts.studies.judging import StudyInputs
from components.timeline import Settings as TimelineSettings
from components.timeline import bar_index, resolve_windows
from tests.experts.market import panel, training_tables

TIMELINE = TimelineSettings(
    train_share=0.5, validation_share=0.25, fold_bars=15, purge_bars=3, embargo_bars=2
)
HORIZON = 2


def write_inputs(
    folder: Path,
    *,
    bars: int = 120,
    symbols: int = 12,
    seed: int = 1,
    change=lambda training_set, labels, begins: (training_set, labels),
) -> StudyInputs:
    """Write the tables below `folder`; `change` may alter them, knowing when the test window begins."""
    rows = panel(bars, symbols, seed=seed)
    training_set, labels, catalog = training_tables(rows, horizon=HORIZON)
    training_set, labels = change(training_set, labels, begin_of_test(training_set))
    folder.mkdir(parents=True, exist_ok=True)
    about = {"code_version": "v1", "config_hash": ""}
    write_table(training_set, folder / "training_set.parquet", TRAINING_SET, **about)
    write_table(labels, folder / "labels.parquet", LABELS, **about)
    write_table(prices(rows), folder / "panel.parquet", PANEL, **about)
    write_catalog(catalog, folder / "catalog.json")
    paths = {
        "training_set": str(folder / "training_set.parquet"),
        "labels": str(folder / "labels.parquet"),
        "catalog": str(folder / "catalog.json"),
        "panel": str(folder / "panel.parquet"),
    }
    return StudyInputs(
        **paths, timeline=TIMELINE, period="1d", horizon=HORIZON, target="log_return", seed=3, code="v1"
    )


def prices(rows: pl.DataFrame) -> pl.DataFrame:
    """A PANEL whose prices follow the labels of the rows."""
    close = (100 * pl.col("label").cum_sum().over("symbol").exp()).round(6)
    moment = pl.col("timestamp")
    about = {"period": pl.lit("1d"), "event_time": moment, "known_time": moment, "volume": pl.lit(1e6)}
    return rows.with_columns(close=close, **about).select(
        "timestamp",
        "symbol",
        "period",
        "event_time",
        "known_time",
        *(pl.col("close").alias(name) for name in ("open", "high", "low", "close")),
        "volume",
        "sector",
    )


def begin_of_test(training_set: pl.DataFrame):
    """When the test window begins."""
    calendar, _ = bar_index(training_set["timestamp"])
    return calendar[resolve_windows(calendar, TIMELINE).test[0]]


def ruin_the_test_window(
    training_set: pl.DataFrame, labels: pl.DataFrame, begins
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Other inputs in every row of the test window, and other labels wherever one was not known before it."""
    inside = pl.col("timestamp") >= begins
    inputs = [name for name, dtype in training_set.schema.items() if dtype == pl.Float32]
    unknown = pl.col("label_end").is_null() | (pl.col("label_end") >= begins)
    targets = ("log_return", "sector_neutral_return")
    return (
        training_set.with_columns(
            pl.when(inside).then(-3 * pl.col(name) + 1).otherwise(name).cast(pl.Float32).alias(name)
            for name in inputs
        ),
        labels.with_columns(
            pl.when(unknown)
            .then(-7 * pl.col(name) + 0.5 * pl.col("timestamp").dt.day())
            .otherwise(name)
            .alias(name)
            for name in targets
        ),
    )
