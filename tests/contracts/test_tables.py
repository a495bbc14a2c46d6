"""The contracts: what is accepted, refused, stamped and detected as changed."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.contracts import (
    FACTORS,
    LABELS,
    RAW_PANEL,
    TIME,
    ContractError,
    check_table,
    content_sha256,
    read_stamp,
    read_table,
    require_one_origin,
    tables,
    write_table,
)

ABOUT = {"code_version": "code", "config_hash": "config"}


def factors(rows: int = 6) -> pl.DataFrame:
    moments = (
        pl.datetime_range(
            datetime(2024, 1, 1, tzinfo=UTC),
            datetime(2024, 3, 1, tzinfo=UTC),
            "1d",
            time_unit="us",
            eager=True,
        )
        .head(rows // 2)
        .cast(TIME)
    )
    frame = (
        pl.DataFrame({"timestamp": moments})
        .join(pl.DataFrame({"symbol": ["A", "B"]}), how="cross")
        .with_columns(known_time=pl.col("timestamp"))
    )
    return frame.with_columns(momentum=pl.Series(np.arange(len(frame)), dtype=pl.Float32))


def test_round_trip_keeps_values_and_stamp(tmp_path):
    stamp = write_table(
        factors(), tmp_path / "f.parquet", FACTORS, inputs={"panel": "abc"}, train_window="w", **ABOUT
    )
    assert read_table(tmp_path / "f.parquet", FACTORS).equals(factors())
    assert read_stamp(tmp_path / "f.parquet") == stamp
    assert (stamp.inputs, stamp.train_window, stamp.schema_version) == ({"panel": "abc"}, "w", 1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: f.drop("known_time"), "column 'known_time' is missing"),
        (
            lambda f: f.with_columns(pl.col("momentum").cast(pl.Float64)),
            "column 'momentum' has type Float64, expected Float32",
        ),
        (lambda f: f.reverse(), "not sorted by timestamp, symbol"),
        (lambda f: pl.concat([f.head(1), f]), "1 rows repeat a (timestamp, symbol)"),
        (lambda f: f.with_columns(pl.col("timestamp").dt.replace_time_zone(None)), "has type Datetime"),
    ],
)
def test_a_table_that_breaks_its_contract_is_refused(spoil, words):
    with pytest.raises(ContractError) as caught:
        check_table(spoil(factors()), FACTORS)
    assert words in str(caught.value)


@pytest.mark.parametrize("looked_at", [1, 2, 3, 5])
def test_rows_are_compared_across_the_borders_of_the_parts_that_are_looked_at(looked_at, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_LOOKED_AT", looked_at)
    good = factors()
    assert check_table(good, FACTORS).equals(good)
    for row in range(len(good)):
        with pytest.raises(ContractError, match="1 rows repeat"):
            check_table(pl.concat([good[: row + 1], good[row:]]), FACTORS)
        if row:
            order = [*range(row - 1), row, row - 1, *range(row + 1, len(good))]
            with pytest.raises(ContractError, match="not sorted"):
                check_table(good[order], FACTORS)


def test_surplus_columns_are_refused_where_none_are_allowed():
    frame = pl.DataFrame(schema={**LABELS.columns, "extra": pl.Float64})
    with pytest.raises(ContractError, match="'extra' does not belong in a labels table"):
        check_table(frame, LABELS)


def test_the_raw_panel_may_hold_duplicates_in_any_order():
    frame = pl.DataFrame(schema=dict(RAW_PANEL.columns))
    row = {name: [None] for name in RAW_PANEL.columns} | {
        "timestamp": [datetime(2024, 1, 2, tzinfo=UTC)],
        "symbol": ["A"],
    }
    twice = pl.concat([frame, *(pl.DataFrame(row, schema=dict(RAW_PANEL.columns)) for _ in range(2))])
    assert len(check_table(twice, RAW_PANEL)) == 2


def test_a_changed_value_a_cut_file_and_a_missing_stamp_are_found(tmp_path):
    path = tmp_path / "f.parquet"
    write_table(factors(), path, FACTORS, **ABOUT)
    metadata = pl.read_parquet_metadata(path)
    factors().with_columns(momentum=pl.col("momentum") + 1).write_parquet(
        path, metadata={k: v for k, v in metadata.items() if k.startswith("alphaloop")}
    )
    with pytest.raises(ContractError, match="was changed after it was written"):
        read_table(path, FACTORS)
    factors().write_parquet(path)
    with pytest.raises(ContractError, match="carries no stamp"):
        read_table(path, FACTORS)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ContractError, match="not a whole Parquet file"):
        read_table(path, FACTORS)
    path.write_bytes(b"")
    with pytest.raises(ContractError, match="is empty"):
        read_table(path, FACTORS)
    with pytest.raises(ContractError, match="does not exist"):
        read_table(tmp_path / "none.parquet", FACTORS)


def test_another_kind_of_table_is_refused(tmp_path):
    write_table(factors(), tmp_path / "f.parquet", FACTORS, **ABOUT)
    with pytest.raises(ContractError, match="is a factors table of schema 1; expected labels"):
        read_table(tmp_path / "f.parquet", LABELS)


def test_a_table_of_another_schema_version_is_refused(tmp_path):
    write_table(factors(), tmp_path / "f.parquet", FACTORS, **ABOUT)
    newer = replace(FACTORS, version=FACTORS.version + 1)
    with pytest.raises(ContractError, match="is a factors table of schema 1; expected factors of schema 2"):
        read_table(tmp_path / "f.parquet", newer)


def test_mixed_origins_are_refused_by_file(tmp_path):
    for name, origin in (("a", "1" * 64), ("b", "1" * 64), ("c", "2" * 64)):
        write_table(factors(), tmp_path / name, FACTORS, inputs={"panel": origin}, **ABOUT)
    assert require_one_origin([tmp_path / "a", tmp_path / "b"], "panel") == "1" * 64
    with pytest.raises(
        ContractError, match=r"/c was made from panel 222222222222, but .*/a from 111111111111"
    ):
        require_one_origin([tmp_path / "a", tmp_path / "b", tmp_path / "c"], "panel")
    with pytest.raises(ContractError, match="unknown"):
        require_one_origin([tmp_path / "a"], "labels")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.floats(width=32)), st.one_of(st.none(), st.text())), max_size=20
    )
)
def test_the_content_hash_sees_values_only(rows):
    frame = pl.DataFrame(
        {"x": [r[0] for r in rows], "s": [r[1] for r in rows]}, schema={"x": pl.Float32, "s": pl.String}
    )
    chunked = pl.concat([frame[: len(frame) // 2], frame[len(frame) // 2 :]], rechunk=False)
    assert content_sha256(frame) == content_sha256(chunked)
    if len(frame):
        other = frame.with_columns(s=pl.col("s").fill_null("") + "!")
        assert content_sha256(frame) != content_sha256(other)


def test_the_content_hash_tells_null_from_zero_and_where_text_is_cut():
    def hash_of(values, dtype):
        return content_sha256(pl.DataFrame({"x": values}, schema={"x": dtype}))

    assert hash_of([None, 1.0], pl.Float32) != hash_of([0.0, 1.0], pl.Float32)
    assert hash_of(["ab", "c"], pl.String) != hash_of(["a", "bc"], pl.String)
    assert hash_of([1], pl.Int32) != hash_of([1], pl.Int64)
