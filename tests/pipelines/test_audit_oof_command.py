"""`alphaloop audit-oof`: every planted fault is found and named, clean tables of several calendars pass."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines.commands.audit import READERS, AuditRefused
from pipelines.commands.audit_oof import FaultsFound, audit_oof_command

SYMBOLS = ["A", "B", "C", "D"]


def table(moments: list[datetime] | None = None) -> pl.DataFrame:
    """Weekdays of half a year unless told otherwise."""
    days = [datetime(2024, 1, 1) + timedelta(days=day) for day in range(180)]
    bars = pl.DataFrame({"timestamp": moments or [day for day in days if day.weekday() < 5]})
    rows = bars.join(pl.DataFrame({"symbol": SYMBOLS}), how="cross")
    rng = np.random.default_rng(1)
    return rows.with_columns(
        horizon=pl.lit(5),
        label=pl.Series(rng.normal(size=len(rows))),
        label_end=pl.col("timestamp") + timedelta(days=8),
        score_trees=pl.Series(rng.normal(size=len(rows))),
        score_net=pl.Series(rng.normal(size=len(rows))),
    )


def audited(frame: pl.DataFrame, folder) -> str:
    frame.write_parquet(folder / "own.parquet")
    return audit_oof_command(folder / "own.parquet")


def trading_hours(days: int) -> list[datetime]:
    """Seven bars a weekday: nights and weekends are no gaps."""
    start = datetime(2024, 1, 1)
    dates = [start + timedelta(days=day) for day in range(days)]
    return [day + timedelta(hours=hour) for day in dates if day.weekday() < 5 for hour in range(14, 21)]


@pytest.mark.parametrize(
    "moments",
    [
        None,
        trading_hours(90),
        [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in range(500)],
        [day for number in range(200) if (day := datetime(2024, 1, 1) + timedelta(days=number)).weekday() < 5
         and not datetime(2024, 2, 9) <= day <= datetime(2024, 2, 16)],
    ],
    ids=["weekdays", "trading hours", "around the clock", "a week of holidays"],
)  # fmt: skip
def test_clean_tables_pass(moments, tmp_path):
    text = audited(table(moments), tmp_path)
    assert text.startswith("No fault found in")
    assert "2 experts (trees, net)" in text


def where(rows: pl.Expr, name: str, value) -> pl.Expr:
    return pl.when(rows).then(value).otherwise(name).alias(name)


FIFTH = pl.int_range(pl.len()) == 5


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: pl.concat([t, t.tail(1)]), "2 rows repeat a (timestamp, symbol, horizon)"),
        (lambda t: pl.concat([t.tail(4), t.head(len(t) - 4)]), "time goes back at 1 rows, first 2024-01-01"),
        (lambda t: t.with_columns(where(FIFTH, "score_net", None)), "score_net: 1 values are missing"),
        (lambda t: t.with_columns(where(FIFTH, "score_net", np.inf)), "first 2024-01-02 00:00:00 B"),
        (lambda t: t.with_columns(where(FIFTH, "score_net", np.nan)), "score_net: 1 values are missing"),
        (lambda t: t.filter(~pl.col("timestamp").is_between(datetime(2024, 3, 1), datetime(2024, 3, 22))),
         "1 odd gap in time, first from 2024-02-29"),
        (lambda t: t.filter((pl.col("timestamp") != datetime(2024, 3, 1)) | (pl.col("symbol") == "A")),
         "1 bars have fewer than half of the usual 4 rows, first 2024-03-01"),
        (lambda t: t.filter((pl.col("symbol") < "C") | (pl.col("timestamp").dt.day() < 9)
                            | (pl.col("timestamp").dt.day() > 29)), "rows between symbols' first"),
        (lambda t: t.rename({"score_net": "net", "score_trees": "trees"}), "no column score_<expert>"),
        (lambda t: t.with_columns(pl.col("score_net").cast(pl.String)), "score_net has type String"),
        (lambda t: t.with_columns(where(FIFTH, "label_end", pl.col("timestamp"))), "1 labels were known at"),
        (lambda t: t.with_columns(where(FIFTH, "label", np.inf)), "label: 1 values are NaN or infinite"),
        (lambda t: t.with_columns(where(FIFTH, "label", np.nan)), "first 2024-01-02 00:00:00 B: a label not"),
        (lambda t: t.rename({"score_net": "score_"}), "column score_ has no expert's name after score_"),
        (lambda t: t.with_columns(horizon=pl.lit("5 bars")), "column horizon has type String"),
        (lambda t: t.with_columns(horizon=pl.lit(0)), "horizon: 520 values are none, first 2024-01-01"),
        (lambda t: t.with_columns(horizon=pl.lit(np.nan)), "give a number of bars, 1 or more"),
        (lambda t: t.with_columns(where(FIFTH, "horizon", None)), "horizon: 1 values are none, first 2024-"),
        (lambda t: t.with_columns(sector_code=pl.lit("Tech")), "column sector_code has type String"),
        (lambda t: t.clear(), "the table has no rows"),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_first_place(spoil, words, tmp_path):
    with pytest.raises(FaultsFound) as found:
        audited(spoil(table()), tmp_path)
    assert words in str(found.value)
    assert found.value.exit_code == 2
    assert len(str(found.value).splitlines()) < 25


def test_notes_are_no_faults(tmp_path):
    text = audited(table().with_columns(score_flat=pl.lit(0.1)).drop("label"), tmp_path)
    assert "score_flat: the same for all symbols of every bar" in text
    assert "no column label" in text


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(AuditRefused, match=r"none.parquet does not exist. Give the file of the table"):
        audit_oof_command(tmp_path / "none.parquet")
    table().drop("symbol").write_parquet(tmp_path / "own.parquet")
    with pytest.raises(AuditRefused, match="no column 'symbol'"):
        audit_oof_command(tmp_path / "own.parquet")


def test_an_artifact_of_a_run_has_no_ending(tmp_path):
    table().write_parquet(tmp_path / "oof")
    assert "No fault found" in audit_oof_command(tmp_path / "oof")
    (tmp_path / "words").write_text("timestamp,symbol,score_a")
    with pytest.raises(AuditRefused, match="not a file that the audit reads"):
        audit_oof_command(tmp_path / "words")


def test_what_can_not_be_opened_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(AuditRefused, match="is not a file that the audit reads"):
        audit_oof_command(tmp_path / "pipe.parquet")
    with pytest.raises(AuditRefused, match="File name too long"):
        audit_oof_command(tmp_path / f"{'a' * 300}.parquet")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xff.parquet"))
    table().write_parquet(tmp_path / "own.parquet")
    os.rename(tmp_path / "own.parquet", odd)
    with pytest.raises(AuditRefused, match="plain name") as refusal:
        audit_oof_command(odd)
    str(refusal.value).encode()


def test_a_reader_that_panics_on_a_damaged_file_is_told(tmp_path, monkeypatch):
    def panics(path):
        raise pl.exceptions.PanicException("called `Option::unwrap()` on a `None` value")

    (tmp_path / "own.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(READERS, ".parquet", panics)
    with pytest.raises(AuditRefused, match=r"own.parquet can't be read: called"):
        audit_oof_command(tmp_path / "own.parquet")


def test_times_in_a_wrong_unit_are_refused(tmp_path):
    late = pl.col("timestamp").dt.epoch("us").cast(pl.Datetime("ms"))
    with pytest.raises(AuditRefused, match="timestamp holds years from 55"):
        audited(table().with_columns(late), tmp_path)
