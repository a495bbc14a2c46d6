"""Market data and slow tables in a real S3: read, hashed and refused as those on disk are."""

import gzip
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from pyarrow import fs
from typer.testing import CliRunner

from components.contracts import AlphaloopError
from components.fusion.config import Settings as FusionSettings
from components.fusion.errors import FusionError
from components.fusion.read import read_slow_tables
from components.fusion.source_hash import slow_tables_sha256
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.load import Market, load_panel
from components.market.source_hash import market_sha256
from components.reading import object_store
from components.settings import ConfigError, load_settings
from pipelines.commands.cli import app
from pipelines.config import Config
from tests.stores import BUCKET, Server

HEADER = "timestamp,symbol,open,high,low,close,volume"
ROWS = [f"2024-03-{day:02},{name},10,11,9,10.{day:02},1000" for day in range(4, 9) for name in ("AAA", "BBB")]
TEXT = "\n".join([HEADER, *ROWS]) + "\n"
DAILY = {"source": "csv", "stamp": "session_date"}
QLIB_DAYS = ["2020-01-02", "2020-01-03", "2020-01-06"]
SECTORS = "symbol,sector,first_seen,last_seen\nAAA,Energy,2023-01-02,\nBBB,Health,2023-01-02,\n"


@pytest.fixture
def store(s3: Server, monkeypatch) -> fs.S3FileSystem:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return fs.S3FileSystem(endpoint_override=s3.environment["AWS_ENDPOINT_URL"])


@pytest.fixture
def mirrored(store, request) -> Callable[[Path], str]:
    """Puts a folder of this disk into the bucket, under a prefix of the test's own; gives its address."""

    def put(folder: Path) -> str:
        prefix = f"{BUCKET}/{request.node.originalname}"
        for path in folder.rglob("*"):
            if path.is_file():
                with store.open_output_stream(f"{prefix}/{path.relative_to(folder)}") as stream:
                    stream.write(path.read_bytes())
        return f"s3://{prefix}"

    return put


def load(folder: Path, **changes) -> Market:
    return load_panel(Settings(**{**DAILY, **changes}), data_folder=folder, seed=0)


def write_files(folder: Path) -> None:
    """The same bars in every form that is read, a folder of one file a symbol, and a Qlib folder."""
    bars = pl.read_csv(TEXT.encode(), try_parse_dates=True)
    (folder / "by symbol" / "deep").mkdir(parents=True)
    (folder / "p.csv").write_text(TEXT)
    (folder / "p.csv.gz").write_bytes(gzip.compress(TEXT.encode(), mtime=0))
    (folder / "p-utf16.csv").write_bytes(TEXT.encode("utf-16"))
    bars.write_parquet(folder / "p.parquet")
    for symbol, place in (("AAA", "AAA.csv"), ("BBB", "deep/BBB.csv")):
        rows = bars.filter(pl.col("symbol") == symbol).drop("symbol")
        rows.write_csv(folder / "by symbol" / place)
    (folder / "by symbol" / "notes.txt").write_text("not bars")
    write_qlib(folder / "cn")


def write_qlib(folder: Path) -> None:
    for name in ("calendars", "instruments", "features/sh1"):
        (folder / name).mkdir(parents=True)
    (folder / "calendars" / "day.txt").write_text("\n".join(QLIB_DAYS) + "\n")
    (folder / "instruments" / "all.txt").write_text("SH1\t2020-01-02\t2020-01-06\n")
    for field in ("open", "high", "low", "close", "volume"):
        values = np.array([0, 1.0, 2.0, 3.0], dtype="<f4")
        (folder / "features" / "sh1" / f"{field}.day.bin").write_bytes(values.tobytes())


QLIB = {"source": "qlib", "exchange_timezone": "Asia/Shanghai", "stamp": "bar_close"}
FORMS = {
    "p.csv": {},
    "p.csv.gz": {},
    "p-utf16.csv": {},
    "p.parquet": {"source": "parquet"},
    "by symbol": {},
    "by symbol/**/*.csv": {},
    "by symbol/*.csv": {},
    "cn": QLIB,
}


def test_each_form_in_s3_gives_the_panel_and_the_hash_of_the_same_form_on_disk(mirrored, tmp_path):
    write_files(tmp_path)
    address = mirrored(tmp_path)
    for path, changes in FORMS.items():
        here, there = (load(tmp_path, path=place, **changes) for place in (path, f"{address}/{path}"))
        assert there.panel.equals(here.panel), path
        assert there.source_sha256 == here.source_sha256, path
        asked = Settings(**{**DAILY, "path": f"{address}/{path}", **changes})
        assert market_sha256(asked, tmp_path, 0) == here.source_sha256, path
    assert load(tmp_path, path=f"{address}/by symbol/").panel["symbol"].n_unique() == 2
    assert load(tmp_path, path=f"{address}/by symbol/*.csv").panel["symbol"].unique().to_list() == ["AAA"]


def test_sectors_in_s3_count_in_the_panel_and_in_the_hash(mirrored, tmp_path, store):
    (tmp_path / "p.csv").write_text(TEXT)
    (tmp_path / "sectors.csv").write_text(SECTORS)
    address = mirrored(tmp_path)
    asked = {"path": "p.csv", "sectors": {"path": f"{address}/sectors.csv"}}
    market = load(tmp_path, **asked)
    assert market.panel["sector"].unique().sort().to_list() == ["Energy", "Health"]
    assert market.source_sha256 == load(tmp_path, path="p.csv", sectors={"path": "sectors.csv"}).source_sha256
    assert market_sha256(Settings(**DAILY, **asked), tmp_path, 0) == market.source_sha256
    with store.open_output_stream(f"{address.removeprefix('s3://')}/sectors.csv") as stream:
        stream.write(SECTORS.replace("Energy", "Utilities").encode())
    assert market_sha256(Settings(**DAILY, **asked), tmp_path, 0) != market.source_sha256


def slow_settings(table: str, identity: str) -> FusionSettings:
    """A slow table of one value with a file of identities."""
    return FusionSettings.model_validate(
        {
            "tables": [
                {
                    "name": "slow",
                    "path": table,
                    "observed": "day",
                    "release_lag_days": 1,
                    "columns": [{"name": "x", "column": "value"}],
                    "identity": {"path": identity, "start": "day", "end": "gone"},
                }
            ]
        }
    )


def test_slow_tables_and_identities_in_s3_are_those_on_disk(mirrored, tmp_path):
    (tmp_path / "slow.csv").write_text("symbol,day,value\nAAA,2024-03-01,1.5\nBBB,2024-03-01,2.5\n")
    (tmp_path / "members.csv").write_text("symbol,day,gone\nAAA,2023-01-02,\nBBB,2023-01-02,\n")
    address = mirrored(tmp_path)
    there = slow_settings(f"{address}/slow.csv", f"{address}/members.csv")
    (stored,) = read_slow_tables(there, tmp_path)
    (on_disk,) = read_slow_tables(slow_settings("slow.csv", "members.csv"), tmp_path)
    assert stored.raw.equals(on_disk.raw)
    assert stored.settings == there.tables[0]
    assert list(stored.hashes) == [f"{address}/slow.csv", f"{address}/members.csv"]
    assert list(stored.hashes.values()) == list(on_disk.hashes.values())
    assert len(slow_tables_sha256(there, tmp_path)) == 64
    absent = slow_settings(f"{address}/slov.csv", f"{address}/members.csv")
    for read in (read_slow_tables, slow_tables_sha256):
        with pytest.raises(FusionError, match=r"slov.csv \(fusion table 'slow'\).*Did you mean 'slow.csv'"):
            read(absent, tmp_path)
    with pytest.raises(FusionError, match=r"\(identity of fusion table 'slow'\) names 2 files.*Give the"):
        read_slow_tables(slow_settings(f"{address}/slow.csv", f"{address}/*.csv"), tmp_path)


def test_what_is_wrong_with_a_file_is_said_of_its_address(mirrored, tmp_path):
    (tmp_path / "bad.csv").write_text(TEXT.replace("10.04", "ten", 1))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(TEXT.encode())[:-9])
    (tmp_path / "empty.csv").touch()
    address = mirrored(tmp_path)
    said = {
        "bad.csv": rf"{address}/bad\.csv: column 'close' holds 1 values that are no numbers",
        "cut.csv.gz": rf"{address}/cut\.csv\.gz: can't be unpacked",
        "empty.csv": rf"{address}/empty\.csv \(market\.path\) is empty",
        "bade.csv": rf"{address}/bade\.csv \(market\.path\) does not exist\. Did you mean 'bad\.csv'\?",
        "none/*.csv": rf"{address}/none/\*\.csv \(market\.path\) matches no file",
    }
    for name, message in said.items():
        with pytest.raises(MarketError, match=message):
            load(tmp_path, path=f"{address}/{name}")
    with pytest.raises(MarketError, match=r"is a folder without such files \(\.parquet, \.pq\)"):
        load(tmp_path, path=address, source="parquet")
    with pytest.raises(MarketError, match=r"sectors.path\) names \d+ files.*Give the address of one"):
        load(tmp_path, path=f"{address}/bad.csv", sectors={"path": f"{address}/[bc]*"})


def silent_server() -> socket.socket:
    """A port that takes connections and never answers."""
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(16)
    return silent


def test_a_store_that_refuses_or_is_gone_is_told_within_seconds(mirrored, tmp_path, monkeypatch):
    (tmp_path / "p.csv").write_text(TEXT)
    address = f"{mirrored(tmp_path)}/p.csv"
    silent = silent_server()
    monkeypatch.setattr(object_store, "ANSWER_S", 1.0)
    cases = [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "is refused by http.*Check AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "is refused by http.*Check AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, r"no S3 server answers at http://127\.0\.0\.1:1"),
        ({"AWS_ENDPOINT_URL": "127.0.0.1:1"}, "does not begin with http:// or https://"),
        ({"AWS_ENDPOINT_URL": ""}, r"no S3 server answers at AWS \(AWS_ENDPOINT_URL is not set\)"),
        (
            {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"},
            "no S3 server answers.*too slow",
        ),
    ]
    for environment, message in cases:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            started = time.monotonic()
            with pytest.raises(MarketError, match=message) as refused:
                load(tmp_path, path=address)
            assert time.monotonic() - started < 30
            assert str(refused.value).startswith(f"{address} (market.path) ")
            assert len(str(refused.value)) < 500
    silent.close()
    with pytest.raises(MarketError, match="there is no bucket 'elsewhere' at http"):
        load(tmp_path, path="s3://elsewhere/p.csv")


def test_names_that_lead_out_of_their_folder_are_refused(tmp_path):
    asked = object_store.Address("s3://b/x", "market.path", MarketError)
    for key in ("b/../../x.csv", "b/.."):
        with pytest.raises(MarketError, match="leads out of its folder"):
            object_store.Desk(tmp_path).place_of(object_store.StoredFile(key, asked))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gs://bucket/p.csv", "gs:// can't be read; give a path, or an address in S3"),
        ("s3:///p.csv", "names no bucket"),
        ("s3://", "names no bucket"),
        ("s3://key:secret@bucket/p.csv", "keys don't belong into an address"),
    ],
)
def test_an_address_of_another_kind_is_refused_by_the_config(path, message, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"market": {**DAILY, "path": path}}))
    with pytest.raises(ConfigError, match=message):
        load_settings(Config, tmp_path / "c.yaml", [])


def test_data_check_takes_an_address(mirrored, tmp_path, monkeypatch):
    (tmp_path / "p.csv").write_text(TEXT)
    address = mirrored(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = ["--set", "market.stamp=session_date", "--set", "market.end=null"]
    said = CliRunner().invoke(app, ["data", "check", f"{address}/p.csv", *options])
    assert f"panel: market.path={address}/p.csv" in said.output, said.output
    assert "rows: 10 in, 10 out" in said.output
    with pytest.raises(AlphaloopError, match=rf"{address}/q\.csv \(market\.path\) does not exist"):
        CliRunner().invoke(app, ["data", "check", f"{address}/q.csv", *options], catch_exceptions=False)
