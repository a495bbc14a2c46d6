"""The embedded store: bars by hand and by a slow oracle, rows that come twice, logs that are cut off."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.contracts.files import OutputError
from components.contracts.tick_days import write_day
from components.contracts.tick_schemas import DEPTH, EXECUTE, HIDDEN, TRADE
from components.tick_stores.embedded import EmbeddedStore
from components.tick_stores.errors import TickStoreError
from components.tick_stores.protocol import BAR_COLUMNS, MINUTE_NS, SECOND_NS
from pipelines.commands.tick_bars import stored_bars, write_bars
from tests.tick_stores.made_ticks import MIDNIGHT, TRADED, ticks


@pytest.fixture
def store(tmp_path) -> EmbeddedStore:
    return EmbeddedStore(tmp_path / "store")


def test_bars_by_hand(store):
    assert store.append(TRADED) == 5
    bars = store.bars("X", "a", SECOND_NS)
    assert bars.schema == pl.Schema(BAR_COLUMNS)
    assert bars.drop("symbol", "session").rows() == [
        (MIDNIGHT, 100, 100, 98, 98, 3, 298, 2),
        (MIDNIGHT + SECOND_NS, 101, 101, 101, 101, 4, 404, 1),
        (MIDNIGHT + 61 * SECOND_NS, 103, 103, 103, 103, 5, 515, 1),
    ]
    minutes = store.bars("X", "a", MINUTE_NS).drop("symbol", "session").rows()
    assert minutes[0] == (MIDNIGHT, 100, 101, 98, 101, 7, 702, 3)


def test_executions_are_trades_where_a_session_has_no_others(store):
    store.append(ticks((0, EXECUTE, 100, 2), (1, HIDDEN, 101, 3)))
    assert store.bars("X", "a", SECOND_NS)["volume"].to_list() == [5]
    store.append(ticks((2, TRADE, 102, 7), start=2))
    assert store.bars("X", "a", SECOND_NS)["volume"].to_list() == [7]


def test_rows_that_come_twice_count_once_sealed_or_not(store):
    once = TRADED.clone()
    store.append(once)
    store.seal("X", "a")
    assert not list(store.folder.glob("log/*/*"))
    store.append(once)
    store.append(once[:2])
    assert store.read("X", "a").equals(once)
    assert store.bars("X", "a", SECOND_NS)["volume"].sum() == 12
    store.seal("X", "a")
    assert store.read("X", "a").equals(once)


def test_one_sequence_with_two_contents_is_refused(store):
    store.append(TRADED)
    store.append(TRADED[:1].with_columns(price=pl.lit(7, pl.Int64)))
    with pytest.raises(TickStoreError, match="sequence 0 of X, session a, with 2 contents"):
        store.bars("X", "a", SECOND_NS)


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


def test_what_is_not_there_is_named(store):
    with pytest.raises(TickStoreError, match="no ticks of X in session b"):
        store.read("X", "b")


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 5 * SECOND_NS),
            st.sampled_from((TRADE, DEPTH, EXECUTE)),
            st.integers(1, 9),
            st.integers(1, 9),
        ),
        min_size=1,
        max_size=30,
    ),
    cut=st.integers(0, 30),
)
def test_bars_are_those_of_a_slow_loop(tmp_path_factory, rows, cut):
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    frame = ticks(*sorted(rows, key=lambda row: row[0]))
    store.append(frame[:cut] if cut else frame)
    store.seal("X", "a")
    store.append(frame[cut:] if cut < frame.height else frame)
    kinds = (TRADE,) if (frame["kind"] == TRADE).any() else (EXECUTE, HIDDEN)
    slow: dict[int, list[int]] = {}
    for row in frame.filter(pl.col("kind").is_in(kinds)).iter_rows(named=True):
        price, lots = row["price"], row["quantity"]
        start = row["ingest_ts"] // SECOND_NS * SECOND_NS
        bar = slow.setdefault(start, [price, price, price, price, 0, 0, 0])
        bar[1], bar[2], bar[3] = max(bar[1], price), min(bar[2], price), price
        bar[4], bar[5], bar[6] = bar[4] + lots, bar[5] + price * lots, bar[6] + 1
    bars = store.bars("X", "a", SECOND_NS).drop("symbol", "session").rows()
    assert bars == [(start, *bar) for start, bar in sorted(slow.items())]


def test_a_folder_of_ticks_gives_the_bars_of_all_its_sessions(tmp_path):
    for symbol in ("X", "Y"):
        frame = TRADED.with_columns(symbol=pl.lit(symbol))
        write_day(frame, tmp_path / "ticks", symbol, "a", code_version="c", config_hash="h")
    kept = EmbeddedStore(tmp_path / "store")
    bars = stored_bars(tmp_path / "ticks", kept, MINUTE_NS)
    assert bars["symbol"].to_list() == ["X", "X", "Y", "Y"]
    # A second time nothing is counted twice, and the command writes the same.
    said = write_bars(tmp_path / "ticks", tmp_path / "bars.parquet", str(tmp_path / "store"), minutes=True)
    assert said.startswith("Wrote 4 bars of 2 sessions")
    assert pl.read_parquet(tmp_path / "bars.parquet").equals(bars)


def test_other_ticks_of_a_session_leave_the_store_as_it_was(store, tmp_path):
    for folder, more in (("own", 0), ("other", 1)):
        frame = TRADED.with_columns(pl.col("quantity") + more)
        write_day(frame, tmp_path / folder, "X", "a", code_version="c", config_hash="h")
    expected = stored_bars(tmp_path / "own", store, SECOND_NS)
    with pytest.raises(TickStoreError, match="two recordings share the name of a session"):
        stored_bars(tmp_path / "other", store, SECOND_NS)
    assert stored_bars(tmp_path / "own", store, SECOND_NS).equals(expected)


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


@pytest.mark.parametrize("price", [1, 2_000])
def test_sums_beyond_64_bits_are_refused(store, price):
    store.append(ticks((0, TRADE, price, 2**62), (1, TRADE, price, 2**62)))
    with pytest.raises(TickStoreError, match="sum up to more than 64 bits hold"):
        store.bars("X", "a", SECOND_NS)
