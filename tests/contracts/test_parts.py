"""A table that is written and read in parts is the one that is written and read whole."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest

from components.contracts import FACTORS, ContractError, content_sha256, write_table
from components.contracts import parts as parts_module
from components.contracts.parts import parts_sha256, scan_table, write_parts

STAMPED = {"code_version": "c", "config_hash": "s", "inputs": {"panel": "p"}}


@pytest.fixture
def factors() -> pl.DataFrame:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [(start + timedelta(days=day), name) for day in range(60) for name in ("A", "BÄ", "C")]
    frame = pl.DataFrame(
        rows, schema={"timestamp": pl.Datetime("us", "UTC"), "symbol": pl.String}, orient="row"
    )
    value = pl.int_range(pl.len()).cast(pl.Float32)
    return frame.with_columns(
        known_time="timestamp", x=pl.when(value % 7 > 0).then(value), empty=pl.lit(None, pl.Float32)
    )


def put(parts: list[pl.DataFrame], folder) -> list:
    files = [folder / f"part_{number}" for number in range(len(parts))]
    for part, file in zip(parts, files, strict=True):
        part.write_ipc(file)
    return files


@pytest.mark.parametrize("borders", [(0, 180), (0, 1, 50, 50, 180), tuple(range(0, 181, 20))])
def test_the_file_does_not_depend_on_the_parts(factors, borders, tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "ROW_GROUP_ROWS", 64)
    monkeypatch.setattr("components.contracts.tables.ROW_GROUP_ROWS", 64)
    whole = write_table(factors, tmp_path / "whole", FACTORS, **STAMPED)
    files = put([factors[a:b] for a, b in pairwise(borders)], tmp_path)
    assert write_parts(files, tmp_path / "parts", FACTORS, **STAMPED) == whole
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()


def test_the_hash_of_parts_is_that_of_the_whole(monkeypatch):
    frame = pl.DataFrame(
        {
            "text": ["a", None, "", "ü", "b"],
            "bytes": [b"a", b"", None, b"xyz", b"b"],
            "flag": [True, None, False, True, True],
            "number": [1.5, float("nan"), None, -0.0, 2.0],
            "none": [None, None, None, None, None],
        },
        schema_overrides={"none": pl.Int8},
    )
    for cut in (0, 2, 5):
        for held in (1, 10, 1 << 24):
            monkeypatch.setattr(parts_module, "HELD_VALUES", held)
            parts = [frame[:cut].lazy(), frame[cut:].lazy()]
            assert parts_sha256(pl.concat(parts), parts) == content_sha256(frame)
    moved = frame.with_columns(text=pl.Series(["", "a", None, "ü", "b"]))
    assert parts_sha256(moved.lazy(), [moved[:2].lazy(), moved[2:].lazy()]) != content_sha256(frame)


def test_a_table_is_scanned_only_as_it_was_written(factors, tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "ROW_GROUP_ROWS", 50)
    write_table(factors, tmp_path / "table", FACTORS, **STAMPED)
    assert scan_table(tmp_path / "table", FACTORS).collect().equals(factors)
    metadata = pl.read_parquet_metadata(tmp_path / "table")
    changed = factors.with_columns(x=pl.col("x") + 1)
    changed.write_parquet(tmp_path / "table", metadata={"alphaloop.stamp": metadata["alphaloop.stamp"]})
    with pytest.raises(ContractError, match="was changed after it was written"):
        scan_table(tmp_path / "table", FACTORS)


@pytest.mark.parametrize(
    ("borders", "said"),
    [
        (((0, 60), (59, 180)), "repeat"),
        (((0, 60), (60, 60), (59, 180)), "repeat"),
        (((60, 120), (0, 60)), "not sorted"),
    ],
)
def test_parts_that_do_not_follow_on_each_other_are_refused(factors, borders, said, tmp_path):
    files = put([factors[a:b] for a, b in borders], tmp_path)
    with pytest.raises(ContractError, match=said):
        write_parts(files, tmp_path / "parts", FACTORS, **STAMPED)
    assert not (tmp_path / "parts").exists()
