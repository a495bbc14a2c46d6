"""A table that is mapped is the one that is read, checked as much; its memory can be taken back."""

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import (
    FACTORS,
    ContractError,
    OutputError,
    map_table,
    mapped,
    mapped_array,
    mapped_parts,
    mapped_rows,
    read_table,
    write_table,
)

STAMPED = {"code_version": "c", "config_hash": "s"}


def factors(bars: int = 60, columns: int = 3) -> pl.DataFrame:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    moments = pl.DataFrame({"timestamp": [start + timedelta(days=bar) for bar in range(bars)]})
    rows = moments.cast(pl.Datetime("us", "UTC")).join(
        pl.DataFrame({"symbol": ["A", "BÄ", "C"]}), how="cross"
    )
    value = np.random.default_rng(3).standard_normal((len(rows), columns), dtype=np.float32)
    names = [f"x{number}" for number in range(columns)]
    drawn = pl.DataFrame(value, schema=names).with_columns(
        x0=pl.when(pl.int_range(pl.len()) % 7 > 0).then("x0"), empty=pl.lit(None, pl.Float32)
    )
    return pl.concat([rows.with_columns(known_time="timestamp"), drawn], how="horizontal")


@pytest.mark.parametrize("held", [1, 3000, mapped.BATCH_BYTES])
def test_it_is_the_table_in_one_chunk_however_many_columns_are_unpacked_at_a_time(
    held, tmp_path, monkeypatch
):
    monkeypatch.setattr(mapped, "BATCH_BYTES", held)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(write_table.__globals__, "ROW_GROUP_ROWS", 50)
    write_table(factors(), tmp_path / "table", FACTORS, **STAMPED)
    found = map_table(tmp_path / "table", FACTORS)
    assert found.equals(read_table(tmp_path / "table", FACTORS))
    assert found.schema == factors().schema
    assert found.n_chunks("all") == [1] * found.width
    assert os.listdir(tmp_path) == ["table"], "its file has no name"


def test_of_other_columns_than_the_wanted_nothing_stays(tmp_path):
    write_table(factors(), tmp_path / "table", FACTORS, **STAMPED)
    found = map_table(tmp_path / "table", FACTORS, columns=("x1", "of another table"))
    assert found.equals(factors().select(*FACTORS.columns, "x1"))
    assert map_table(tmp_path / "table", FACTORS, columns=()).equals(factors().select(*FACTORS.columns))


def test_a_table_without_rows_is_mapped(tmp_path):
    write_table(factors().clear(), tmp_path / "table", FACTORS, **STAMPED)
    assert map_table(tmp_path / "table", FACTORS).equals(factors().clear())


@pytest.mark.parametrize("wanted", [None, ()])
def test_what_was_changed_is_refused_in_columns_that_nobody_asked_for_too(wanted, tmp_path):
    write_table(factors(), tmp_path / "table", FACTORS, **STAMPED)
    metadata = pl.read_parquet_metadata(tmp_path / "table")
    changed = factors().with_columns(x2=pl.col("x2") + 1)
    changed.write_parquet(tmp_path / "table", metadata={"alphaloop.stamp": metadata["alphaloop.stamp"]})
    with pytest.raises(ContractError, match="was changed after it was written"):
        map_table(tmp_path / "table", FACTORS, wanted)


def test_a_column_of_another_type_is_refused(tmp_path):
    write_table(factors(), tmp_path / "table", FACTORS, **STAMPED)
    metadata = pl.read_parquet_metadata(tmp_path / "table")
    changed = factors().with_columns(pl.col("x2").cast(pl.Float64))
    changed.write_parquet(tmp_path / "table", metadata={"alphaloop.stamp": metadata["alphaloop.stamp"]})
    with pytest.raises(ContractError, match="column 'x2' has type Float64"):
        map_table(tmp_path / "table", FACTORS, ())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what no file backs")
def test_what_a_mapped_table_takes_the_system_can_take_back(tmp_path):
    """80 MiB of values: who reads them holds as much of its own, who maps them a few columns."""
    write_table(factors(bars=35_000, columns=200), tmp_path / "table", FACTORS, **STAMPED)
    grown = {}
    for read in ("read_table", "map_table"):
        code = (
            "import sys, pyarrow\n"
            "from components.contracts import FACTORS, map_table, mapped, read_table\n"
            "mapped.BATCH_BYTES = 2**22\n"
            "def own(): return int(open('/proc/self/status').read().split('RssAnon:')[1].split()[0]) >> 10\n"
            f"before = own(); table = {read}(sys.argv[1], FACTORS); print(own() - before)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "table")], capture_output=True, text=True, check=True
        )
        grown[read] = int(done.stdout)
    assert grown["read_table"] >= 80
    assert grown["map_table"] < 40


@pytest.mark.parametrize("small", [0, mapped.SMALL_BYTES])
def test_rows_that_are_kept_are_those_of_a_filter_mapped_or_not(small, monkeypatch):
    monkeypatch.setattr(mapped, "SMALL_BYTES", small)
    monkeypatch.setattr(mapped, "BATCH_BYTES", 3000)
    frame = pl.concat([factors(30), factors(40)], rechunk=False)
    kept = pl.col("x0").is_not_null() & (pl.col("symbol") != "C")
    assert mapped_rows(frame, kept).equals(frame.filter(kept))
    assert mapped_rows(frame, pl.col("symbol") == "D").equals(frame.clear())


@pytest.mark.parametrize("small", [0, mapped.SMALL_BYTES])
def test_parts_stand_one_below_the_other(small, monkeypatch):
    monkeypatch.setattr(mapped, "SMALL_BYTES", small)
    frame = factors(30).rechunk()
    found = mapped_parts(frame[first : first + 40] for first in range(0, 90, 40))
    assert found.equals(frame)
    assert found["x1"].n_chunks() == found["symbol"].n_chunks() == 3


@pytest.mark.parametrize("small", [0, mapped.SMALL_BYTES])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_zeros_that_can_be_written_mapped_or_not(small, order, monkeypatch):
    monkeypatch.setattr(mapped, "SMALL_BYTES", small)
    found = mapped_array(50, 3, order)
    assert type(found) is np.ndarray
    assert found.dtype == np.float32
    assert found.flags[f"{order}_CONTIGUOUS"]
    assert not found.any()
    found[:, 1] = np.arange(50)
    assert found.sum() == 49 * 25
    assert mapped_array(0, 3, order).shape == (0, 3)


def test_an_array_is_mapped_too_where_no_room_can_be_kept_for_it(monkeypatch):
    monkeypatch.setattr(mapped, "SMALL_BYTES", 0)
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    assert not mapped_array(50, 3).any()


def test_a_full_disk_is_said_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "SMALL_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OutputError, match=r"has no room .* set TMPDIR"):
        mapped_array(2**40, 100)
    assert not os.listdir(tmp_path)
