"""Recordings of `alphaloop ticks collect` as a source: sessions that are over are read, others are named."""

import polars as pl
import pytest

from components.contracts.documents.instruments import Instrument, Instruments
from components.contracts.tick_days import INSTRUMENTS, read_day, tick_days
from components.contracts.tick_schemas import RAW_TICKS
from components.tick_stores.embedded import EmbeddedStore
from components.ticks.config import Settings
from components.ticks.errors import TicksError
from components.ticks.run import IngestOutputs, run_ingest
from components.ticks.source_hash import ticks_sha256
from components.ticks.sources.recorded import read

CENTS = Instrument(tick_size=0.01, lot_size=1.0)


def rows(symbol: str, session: str, first: int = 0) -> pl.DataFrame:
    """Two quotes of a symbol."""
    frame = pl.DataFrame({"sequence": [first, first + 1], "side": [1, -1], "price": [100, 101]})
    known = {"symbol": symbol, "session": session, "kind": 2, "message": first, "quantity": 5}
    times = dict.fromkeys(("exchange_ts", "ingest_ts"), 1_700_000_000_000_000_000 + first)
    zeros = dict.fromkeys(("order_id", "update_id", "previous_update_id"), 0)
    frame = frame.with_columns(**{name: pl.lit(value) for name, value in {**known, **times, **zeros}.items()})
    return frame.select(pl.col(name).cast(kind) for name, kind in RAW_TICKS.columns.items())


@pytest.fixture
def recording(tmp_path):
    """A session of two symbols that is over, one of a symbol that is not."""
    folder = tmp_path / "recorded"
    store = EmbeddedStore(folder)
    for symbol in ("A", "B"):
        store.append(rows(symbol, "2026-01-05"))
        store.seal(symbol, "2026-01-05")
    store.append(rows("A", "2026-01-06"))
    Instruments(symbols={"A": CENTS, "B": CENTS}).write(folder / INSTRUMENTS)
    return folder


def settings(folder, **given) -> Settings:
    return Settings(source="recorded", recorded={"folder": str(folder)}, **given)


def test_sessions_that_are_over_are_read_and_the_other_is_named(recording, tmp_path, capsys):
    asked = settings(recording).model_dump_json()
    outputs = IngestOutputs(tmp_path / "raw", tmp_path / "report")
    run_ingest(outputs, settings=asked, seed=1, code="test")
    found = {(day.symbol, day.session): read_day(day, RAW_TICKS) for day in tick_days(tmp_path / "raw")}
    assert set(found) == {("A", "2026-01-05"), ("B", "2026-01-05")}
    assert found["A", "2026-01-05"].equals(rows("A", "2026-01-05"))
    assert "A 2026-01-06 is still being recorded" in capsys.readouterr().err


def test_a_session_that_goes_on_after_a_stop_is_left_out_whole(recording, tmp_path):
    EmbeddedStore(recording).append(rows("B", "2026-01-05", first=2))
    found = read(settings(recording), tmp_path, 1)
    assert [(day.symbol, day.session) for day in found.days] == [("A", "2026-01-05")]
    assert len(found.notes) == 2


def test_symbols_and_sessions_may_be_chosen_and_must_be_there(recording, tmp_path):
    found = read(settings(recording, symbols=("B",)), tmp_path, 1)
    assert [day.symbol for day in found.days] == ["B"]
    assert set(found.instruments.symbols) == {"B"}
    with pytest.raises(TicksError, match=r"no 'C' \(ticks\.symbols\); it has A, B"):
        read(settings(recording, symbols=("C",)), tmp_path, 1)
    with pytest.raises(TicksError, match=r"no '2026-01-06' \(ticks\.sessions\)"):
        read(settings(recording, sessions=("2026-01-06",)), tmp_path, 1)


def test_what_is_recorded_more_is_another_source(recording, tmp_path):
    before = ticks_sha256(settings(recording), tmp_path, 1)
    assert ticks_sha256(settings(recording), tmp_path, 2) == before
    EmbeddedStore(recording).seal("A", "2026-01-06")
    assert ticks_sha256(settings(recording), tmp_path, 1) != before


def test_a_folder_that_is_none_of_a_recording_is_refused(recording, tmp_path):
    with pytest.raises(
        TicksError, match=r"elsewhere \(ticks\.recorded\.folder\) holds no recording that is over"
    ):
        ticks_sha256(settings(tmp_path / "elsewhere"), tmp_path, 1)
    Instruments(symbols={"A": CENTS}).write(recording / INSTRUMENTS)
    with pytest.raises(TicksError, match=r"instruments\.json knows no B"):
        read(settings(recording), tmp_path, 1)


def test_a_broken_file_is_named(recording, tmp_path):
    next(recording.glob("days/*/B/*.parquet")).write_bytes(b"nothing")
    with pytest.raises(TicksError, match=r"B/2026-01-05\.parquet can't be read"):
        list(read(settings(recording), tmp_path, 1).days)
