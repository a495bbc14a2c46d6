"""The embedded store: bars by hand and by a slow oracle, rows that come twice, logs that are cut off."""

import polars as pl
import pytest

from components.contracts.files import OutputError
from components.contracts.tick_schemas import TRADE
from components.tick_stores.embedded import EmbeddedStore
from components.tick_stores.errors import TickStoreError
from tests.tick_stores.made_ticks import TRADED, ticks


@pytest.fixture
def store(tmp_path) -> EmbeddedStore:
    return EmbeddedStore(tmp_path / "store")


def test_a_session_across_midnight_has_a_file_a_day(store):
    rows = ticks((-5, TRADE, 100, 1), (5, TRADE, 101, 1))
    store.append(rows)
    store.seal("X", "a")
    days = sorted(path.parts[-3] for path in store.folder.glob("days/*/X/a.parquet"))
    assert days == ["2024-07-18", "2024-07-19"]
    assert store.read("X", "a").equals(rows)


def test_a_log_that_was_cut_off_keeps_its_whole_batches_and_grows_on(store):
    store.append(TRADED[:2])
    path = store.folder / "log" / "X" / "a.arrows"
    whole = path.read_bytes()
    store.append(TRADED[2:])
    both = path.read_bytes()
    for cut in range(len(whole), len(both), 97):
        path.write_bytes(both[:cut])
        assert store.read("X", "a").equals(TRADED[:2]), cut
        store.append(TRADED[2:])
        assert path.read_bytes() == both
    for cut in (0, 1, 100):
        path.write_bytes(whole[:cut])
        with pytest.raises(TickStoreError, match="holds no ticks of X"):
            store.read("X", "a")
        store.append(TRADED)
        assert store.read("X", "a").equals(TRADED)


def _without_price(path):
    pl.read_parquet(path).drop("price").write_parquet(path)


@pytest.mark.parametrize(
    "spoil", [lambda path: path.write_bytes(b"PAR1cut"), _without_price], ids=["cut", "column"]
)
def test_a_broken_file_of_the_store_is_named(store, spoil):
    store.append(TRADED)
    store.seal("X", "a")
    spoil(next(store.folder.rglob("*.parquet")))
    with pytest.raises(TickStoreError, match=r"/2024-07-19/X/a.parquet can't be read as ticks of a store"):
        store.read("X", "a")


def test_a_store_that_can_not_be_written_says_so(tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(OutputError, match=r"locks/X/a could not be written: Not a directory"):
        EmbeddedStore(tmp_path / "store").append(TRADED)
