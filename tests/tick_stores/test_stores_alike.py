"""What every store of ticks does alike: bars by hand and by a slow oracle, rows that come twice, and what is
refused.
"""

import itertools

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.contracts.tick_days import write_day
from components.contracts.tick_schemas import DEPTH, EXECUTE, HIDDEN, TRADE
from components.tick_stores.errors import TickStoreError
from components.tick_stores.protocol import BAR_COLUMNS, MINUTE_NS, SECOND_NS
from pipelines.commands.tick_bars import stored_bars, write_bars
from tests.tick_stores.made_ticks import MIDNIGHT, TRADED, ticks

SESSIONS = itertools.count()


def _bars_with(store, more):
    """One store refuses to take rows, another to read them."""
    store.append(more)
    return store.bars("X", "a", SECOND_NS)


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


def test_one_sequence_with_two_contents_is_refused(store):
    store.append(TRADED)
    with pytest.raises(TickStoreError, match="sequence 0 of X, session a, with 2 contents"):
        store.require_same(TRADED[:1].with_columns(price=pl.lit(7, pl.Int64)))
    with pytest.raises(TickStoreError, match="sequence 0 of X, session a, with 2 contents"):
        _bars_with(store, TRADED[:1].with_columns(price=pl.lit(7, pl.Int64)))


def test_what_is_not_there_is_named(store):
    with pytest.raises(TickStoreError, match="no ticks of X in session b"):
        store.read("X", "b")


def test_rows_that_come_twice_count_once_sealed_or_not(store):
    once = TRADED.clone()
    store.append(once)
    store.seal("X", "a")
    store.append(once)
    store.append(once[:2])
    assert store.read("X", "a").equals(once)
    assert store.bars("X", "a", SECOND_NS)["volume"].sum() == 12
    store.seal("X", "a")
    assert store.read("X", "a").equals(once)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
def test_bars_are_those_of_a_slow_loop(store, rows, cut):
    session = f"s{next(SESSIONS)}"
    frame = ticks(*sorted(rows, key=lambda row: row[0])).with_columns(session=pl.lit(session))
    store.append(frame[:cut] if cut else frame)
    store.seal("X", session)
    store.append(frame[cut:] if cut < frame.height else frame)
    kinds = (TRADE,) if (frame["kind"] == TRADE).any() else (EXECUTE, HIDDEN)
    slow: dict[int, list[int]] = {}
    for row in frame.filter(pl.col("kind").is_in(kinds)).iter_rows(named=True):
        price, lots = row["price"], row["quantity"]
        start = row["ingest_ts"] // SECOND_NS * SECOND_NS
        bar = slow.setdefault(start, [price, price, price, price, 0, 0, 0])
        bar[1], bar[2], bar[3] = max(bar[1], price), min(bar[2], price), price
        bar[4], bar[5], bar[6] = bar[4] + lots, bar[5] + price * lots, bar[6] + 1
    bars = store.bars("X", session, SECOND_NS).drop("symbol", "session").rows()
    assert bars == [(start, *bar) for start, bar in sorted(slow.items())]


def test_a_folder_of_ticks_gives_the_bars_of_all_its_sessions(store, tmp_path):
    for symbol in ("X", "Y"):
        frame = TRADED.with_columns(symbol=pl.lit(symbol))
        write_day(frame, tmp_path / "ticks", symbol, "a", code_version="c", config_hash="h")
    bars = stored_bars(tmp_path / "ticks", store, MINUTE_NS)
    assert bars["symbol"].to_list() == ["X", "X", "Y", "Y"]
    # A second time nothing is counted twice, and the command writes the same.
    assert stored_bars(tmp_path / "ticks", store, MINUTE_NS).equals(bars)
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


@pytest.mark.parametrize("price", [1, 2_000])
def test_sums_beyond_64_bits_are_refused(store, price):
    store.append(ticks((0, TRADE, price, 2**62), (1, TRADE, price, 2**62)))
    with pytest.raises(TickStoreError, match="sum up to more than 64 bits hold"):
        store.bars("X", "a", SECOND_NS)


@pytest.mark.parametrize("name", ["O'Neill", "a\\b", "50% off", "x; DROP TABLE ticks"])
def test_names_are_taken_as_they_are(store, name):
    rows = TRADED.with_columns(symbol=pl.lit(name), session=pl.lit(name))
    store.append(rows)
    store.append(rows)
    assert store.read(name, name).equals(rows)
    assert store.bars(name, name, SECOND_NS)["volume"].sum() == 12


def test_a_session_without_trades_has_no_bars(store):
    store.append(ticks((0, DEPTH, 100, 1)))
    assert store.bars("X", "a", SECOND_NS).schema == pl.Schema(BAR_COLUMNS)
    assert store.bars("X", "a", SECOND_NS).is_empty()
