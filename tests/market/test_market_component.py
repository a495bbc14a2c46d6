"""The door of the market stage, called as the local runner calls it: with paths for its artifacts."""

from types import SimpleNamespace

import polars as pl
import pytest

from components.contracts import RAW_PANEL, read_stamp, read_table
from components.market.component import find_source, ingest
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.source_hash import market_sha256


def run(folder, config: Settings, sha256: str) -> tuple[str, str]:
    panel, truth = (SimpleNamespace(path=str(folder / name)) for name in ("panel", "truth"))
    ingest.python_func(
        settings=config.model_dump_json(), seed=3, source=sha256, code="code-1", panel=panel, truth=truth
    )
    return panel.path, truth.path


def test_ingest_writes_a_stamped_panel_and_the_truth(tmp_path, capsys):
    config = Settings(simulator={"symbols": 12, "bars": 60})
    sha256 = market_sha256(config, tmp_path, 3)
    panel, truth = run(tmp_path, config, sha256)
    table = read_table(panel, RAW_PANEL)
    assert read_stamp(panel).inputs == {"source": sha256}
    assert pl.read_parquet(truth).schema.names() == ["timestamp", "symbol", "expected_return_5"]
    assert len(pl.read_parquet(truth)) == len(table)
    assert f"{len(table):,} rows, 12 symbols, 2021-01-04 to 2021-03-26" in capsys.readouterr().err


def test_ingest_of_files_writes_an_empty_truth_and_reads_the_data_folder_from_the_environment(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path))
    (tmp_path / "bars.csv").write_text(
        "timestamp,symbol,open,high,low,close,volume\n2024-07-01,AAA,1,2,1,2,100\n"
    )
    config = Settings(source="csv", path="bars.csv", stamp="session_date")
    panel, truth = run(tmp_path / "out", config, "")
    assert len(read_table(panel, RAW_PANEL)) == 1
    assert read_stamp(panel).inputs == {"source": market_sha256(config, tmp_path, 3)}
    assert pl.read_parquet(truth).is_empty()


def test_data_that_changed_after_they_were_hashed_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path))
    bars = tmp_path / "bars.csv"
    bars.write_text("timestamp,symbol,open,high,low,close,volume\n2024-07-01,AAA,1,2,1,2,100\n")
    config = Settings(source="csv", path="bars.csv", stamp="session_date")
    found = find_source.python_func(settings=config.model_dump_json(), seed=3)
    assert found == market_sha256(config, tmp_path, 3)
    run(tmp_path / "out", config, found)
    bars.write_text(bars.read_text() + "2024-07-02,AAA,1,2,1,2,100\n")
    with pytest.raises(MarketError, match=f"changed since this run began: it was {found[:12]} then"):
        run(tmp_path / "again", config, found)
    assert not (tmp_path / "again").exists()


def test_a_failure_leaves_nothing_half_written(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path))
    with pytest.raises(MarketError, match="does not exist"):
        run(tmp_path / "out", Settings(source="csv", path="absent.csv"), "")
    assert not (tmp_path / "out").exists()
