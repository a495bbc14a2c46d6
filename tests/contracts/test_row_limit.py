"""A table of more rows than Polars counts is refused before it is read or made."""

import polars as pl
import pyarrow.parquet
import pytest

from components.contracts import FACTORS, PANEL, ContractError, read_table, row_limit, write_table
from components.contracts.parts import scan_table, write_parts
from components.labels.build import build_labels
from components.labels.config import Settings

STAMPED = {"code_version": "c", "config_hash": "s"}


def test_the_limit_is_that_of_the_runtime():
    assert {pl.UInt32: 2**32 - 1, pl.UInt64: 2**64 - 1}[pl.get_index_type()] == row_limit.MOST_ROWS
    row_limit.refuse_too_many(row_limit.MOST_ROWS, "It")
    with pytest.raises(ContractError, match=r"It has 4,294,967,296 rows, .*polars\[rt64\]"):
        row_limit.refuse_too_many(row_limit.MOST_ROWS + 1, "It")


@pytest.fixture
def factors(tmp_path):
    key = {"timestamp": pl.Series([0, 1]).cast(pl.Datetime("us", "UTC")), "symbol": ["A", "A"]}
    table = pl.DataFrame(key).with_columns(known_time="timestamp", x=pl.lit(1.0, pl.Float32))
    write_table(table, tmp_path / "factors", FACTORS, **STAMPED)
    return tmp_path / "factors"


@pytest.mark.parametrize("read", [read_table, scan_table])
def test_a_file_whose_footer_tells_of_too_many_rows_is_not_read(read, factors, monkeypatch):
    read(factors, FACTORS)
    assert row_limit.table_rows(factors) == 2
    footer = pyarrow.parquet.read_metadata(factors)

    class Footer:
        num_rows = 2**32 + footer.num_rows

    monkeypatch.setattr(row_limit, "SHORTEST_FOOTER", 0)
    monkeypatch.setattr(pyarrow.parquet, "read_metadata", lambda path: Footer)
    monkeypatch.setattr(pl, "read_parquet", None)
    with pytest.raises(ContractError, match="has 4,294,967,298 rows"):
        read(factors, FACTORS)


def test_parts_that_are_too_many_together_are_not_written(factors, tmp_path, monkeypatch):
    table = read_table(factors, FACTORS)
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        table.write_ipc(file)
    monkeypatch.setattr(row_limit, "MOST_ROWS", 3)
    with pytest.raises(ContractError, match="has 4 rows"):
        write_parts(files, tmp_path / "both", FACTORS, inputs={}, **STAMPED)


def test_labels_of_too_many_rows_are_not_made():
    class Panel:
        """As many rows as are told, and none that could be read."""

        columns = tuple(PANEL.columns)

        def __len__(self):
            return 2**31

    assert len(Settings().horizons) > 2
    with pytest.raises(ContractError, match="The table of labels has"):
        build_labels(Panel(), Settings())
