"""Files of events in a real S3: read, hashed and refused as those on disk are."""

from pathlib import Path

import pytest
from pyarrow import fs
from pydantic import ValidationError

from components.contracts.tick_days import read_day, tick_days
from components.contracts.tick_schemas import RAW_TICKS
from components.ticks.config import Settings
from components.ticks.errors import TicksError
from components.ticks.run import IngestOutputs, run_ingest
from components.ticks.source_hash import ticks_sha256
from tests.stores import BUCKET, Server
from tests.ticks.test_lobster import BOOK, MESSAGES, NAME


@pytest.fixture
def address(s3: Server, tmp_path, monkeypatch) -> str:
    """LOBSTER's own pair of files in the data folder and in the store; the address of the messages."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    store = fs.S3FileSystem(endpoint_override=s3.environment["AWS_ENDPOINT_URL"])
    for kind, text in (("message", MESSAGES), ("orderbook", BOOK)):
        (tmp_path / "data" / NAME.format(kind)).write_text(text)
        with store.open_output_stream(f"{BUCKET}/ticks/{NAME.format(kind)}") as stream:
            stream.write(text.encode())
    return f"s3://{BUCKET}/ticks/{NAME.format('message')}"


def lobster(path: str) -> Settings:
    return Settings(source="lobster", lobster={"path": path})


def ingested(tmp_path: Path, path: str) -> Path:
    outputs = IngestOutputs(raw=tmp_path / "raw", report=tmp_path / "report.json")
    run_ingest(outputs, settings=lobster(path).model_dump_json(), seed=0, code="c")
    return tmp_path / "raw"


def test_files_at_an_address_are_those_of_the_folder(tmp_path, address):
    (here,), (there,) = (
        [read_day(day, RAW_TICKS) for day in tick_days(ingested(tmp_path / kind, path))]
        for kind, path in (("folder", NAME.format("message")), ("store", address))
    )
    assert there.equals(here)
    data = tmp_path / "data"
    assert ticks_sha256(lobster(address), data, 0) == ticks_sha256(lobster(NAME.format("message")), data, 0)


def test_what_is_not_there_is_named_by_its_address(tmp_path, address):
    with pytest.raises(TicksError, match=r"messag\.csv \(ticks.lobster.path\) does not exist"):
        ingested(tmp_path, address.replace("message_1", "messag"))
    assert not (tmp_path / "raw").exists()


def test_a_file_that_can_not_be_understood_is_named_by_its_address(tmp_path, address, s3):
    store = fs.S3FileSystem(endpoint_override=s3.environment["AWS_ENDPOINT_URL"])
    with store.open_output_stream(f"{BUCKET}/ticks/broken.parquet") as stream:
        stream.write(b"PAR1 no more")
    with pytest.raises(TicksError, match=f"s3://{BUCKET}/ticks/broken.parquet"):
        ingested(tmp_path, f"s3://{BUCKET}/ticks/broken.parquet")


def test_other_addresses_are_refused_by_the_config():
    with pytest.raises(ValidationError, match="can't be read; give a path, or an address in S3"):
        lobster("gs://bucket/x.parquet")
