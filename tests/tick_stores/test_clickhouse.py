"""ClickHouse as the store of ticks: bars as the embedded store has them, row by row, and what counts where
writers are killed, come twice or overlap.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.contracts.tick_schemas import ADD, DEPTH, EXECUTE, HIDDEN, TICKS, TRADE
from components.tick_stores.clickhouse import ClickHouseStore
from components.tick_stores.embedded import EmbeddedStore
from components.tick_stores.errors import TickStoreError
from components.tick_stores.protocol import MINUTE_NS, SECOND_NS
from tests.stores import clickhouse_server
from tests.tick_stores.made_ticks import MIDNIGHT, TRADED, ticks
from tests.tick_stores.stores import client, database, store_at

HOUSE = Path(__file__).parents[2]
STEPS = (SECOND_NS, MINUTE_NS, 7 * SECOND_NS)
WRITE = """
import sys
from components.tick_stores.address import open_store
from tests.tick_stores.made_ticks import TRADED, ticks
store = open_store(sys.argv[1])
"""
# As far as the rows it comes, and hangs before it says that they count.
HANG = """
put = store.connection.put
def only_rows(self, table, rows):
    if table == "batches":
        print("rows", flush=True)
        sys.stdin.readline()
    put(table, rows)
type(store.connection).put = only_rows
store.append(TRADED)
"""
TURNS = """
first = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for n in range(first, first + 60, 2):
    store.append(ticks((n * 400_000_000, 3, 100 + n, 1), start=n))
"""


def random_session(seed: int) -> pl.DataFrame:
    """TICKS of half an hour around midnight, UTC, trades and executions among them."""
    rng = np.random.default_rng(seed)
    count = 3_000
    at = np.sort(rng.integers(-900 * SECOND_NS, 900 * SECOND_NS, count))
    kinds = (TRADE, DEPTH, EXECUTE, HIDDEN, ADD) if seed % 2 else (DEPTH, EXECUTE, HIDDEN)
    rows = np.stack([at, rng.choice(kinds, count), rng.integers(1, 900, count), rng.integers(1, 99, count)])
    return ticks(*rows.T.tolist())


@pytest.fixture
def place(clickhouse) -> str:
    return database(clickhouse)


@pytest.fixture
def store(clickhouse, place) -> ClickHouseStore:
    return store_at(clickhouse, place)


@pytest.fixture
def asked(clickhouse, place):
    """Asks the server itself."""
    direct = client(clickhouse)
    direct.execute(f"USE {place}")
    yield direct.execute
    direct.disconnect()


@pytest.fixture
def start(clickhouse, place):
    """Starts a process with the store; all that were started end with the test."""
    begun = []

    def begin(code: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-c", WRITE + code, f"{clickhouse.address}/{place}", *arguments]
        environment = {**os.environ, **clickhouse.environment}
        begun.append(
            subprocess.Popen(
                command,
                cwd=HOUSE,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("seed", [1, 2])
def test_both_stores_give_the_same_ticks_and_bars_row_by_row(store, tmp_path, seed):
    session, embedded = random_session(seed), EmbeddedStore(tmp_path)
    rng = np.random.default_rng(seed)
    cuts = [0, *np.sort(rng.choice(session.height, 9, replace=False)).tolist(), session.height]
    for first, last in itertools.pairwise(cuts):
        for kept in (store, embedded):
            # What came just before comes again, as from a collector that starts anew.
            kept.append(session[max(first - 40, 0) : last])
    for kept in (store, embedded):
        kept.append(session.with_columns(symbol=pl.lit("Y")))
    assert store.read("X", "a").equals(session)
    for step in STEPS:
        bars = store.bars("X", "a", step)
        assert bars.equals(embedded.bars("X", "a", step))
        assert bars.height > 3


def test_bars_of_a_second_and_a_minute_are_those_of_the_views(store, monkeypatch):
    store.append(TRADED)
    expected = {step: store.bars("X", "a", step) for step in STEPS}
    monkeypatch.setattr(ClickHouseStore, "read", lambda *_: pytest.fail("read rows instead of a view"))
    for step in STEPS[:2]:
        assert store.bars("X", "a", step).equals(expected[step])
    with pytest.raises(pytest.fail.Exception):
        store.bars("X", "a", STEPS[2])


def test_days_are_those_of_utc(store, asked):
    store.append(ticks((-5, TRADE, 100, 1), (5, TRADE, 101, 1)))
    found = asked(
        "SELECT DISTINCT partition FROM system.parts WHERE database = currentDatabase() AND table = 'ticks'"
    )
    assert sorted(found) == [("2024-07-18",), ("2024-07-19",)]


def test_a_killed_writer_leaves_nothing_that_counts(store, start, asked):
    writer = start(HANG)
    assert writer.stdout.readline() == "rows\n"
    writer.kill()
    assert asked("SELECT count() FROM ticks") == [(TRADED.height,)]
    with pytest.raises(TickStoreError, match="holds no ticks of X in session a"):
        store.read("X", "a")
    store.append(TRADED)
    # The view by itself counts the killed one's trades as well.
    assert asked("SELECT countMerge(trades) FROM bars_1s") == [(8,)]
    assert store.bars("X", "a", MINUTE_NS)["trades"].to_list() == [3, 1]
    assert store.read("X", "a").equals(TRADED)


def test_batches_of_two_that_wrote_the_same_count_once(store, asked):
    """Both had looked before either wrote: what a check beforehand can't see."""
    store._write("X", "a", TRADED[:4])
    store._write("X", "a", TRADED[2:])
    assert asked("SELECT countMerge(trades) FROM bars_1s") == [(6,)]
    assert store.bars("X", "a", MINUTE_NS)["trades"].to_list() == [3, 1]
    assert store.bars("X", "a", SECOND_NS)["volume"].sum() == 12
    assert store.read("X", "a").equals(TRADED)


def test_two_writers_of_a_session_at_once(store, start, tmp_path):
    writers = [start(TURNS, "0"), start(TURNS, "1"), start(TURNS, "0")]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    session = pl.concat(ticks((n * 400_000_000, TRADE, 100 + n, 1), start=n) for n in range(60))
    embedded = EmbeddedStore(tmp_path)
    embedded.append(session)
    assert store.read("X", "a").equals(session)
    assert store.bars("X", "a", SECOND_NS).equals(embedded.bars("X", "a", SECOND_NS))


def test_bars_while_another_writes_are_read_again(store, monkeypatch):
    store.append(TRADED[:3])
    viewed = ClickHouseStore._viewed

    def meanwhile(self, *arguments):
        bars = viewed(self, *arguments)
        monkeypatch.undo()
        store.append(TRADED[3:])
        return bars

    monkeypatch.setattr(ClickHouseStore, "_viewed", meanwhile)
    assert store.bars("X", "a", SECOND_NS)["volume"].to_list() == [3, 4, 5]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE ticks DROP PARTITION '2024-07-19'", "5 rows of X, session a, .* not in `ticks`"),
        ("ALTER TABLE `.inner.bars_1s` DROP PARTITION '2024-07-19'", "4 trades of X.* not in `bars_1s`"),
    ],
)
def test_rows_that_somebody_removed_are_missed(store, asked, statement, said):
    store.append(TRADED)
    asked(statement)
    with pytest.raises(TickStoreError, match=said):
        store.bars("X", "a", SECOND_NS if "inner" in statement else STEPS[2])


def test_a_server_that_comes_back_is_written_on(store_of_its_own):
    server, store = store_of_its_own
    store.append(TRADED[:2])
    server.kill()
    with pytest.raises(TickStoreError, match=r"can't be reached .*Start the server"):
        store.append(TRADED[2:])
    server.start()
    store.append(TRADED[1:])
    assert store.read("X", "a").equals(TRADED)


def test_a_full_disk_is_said_and_leaves_nothing_that_counts(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        with clickhouse_server(disk / "data") as server:
            store = store_at(server, database(server))
            store.append(TRADED)
            rng = np.random.default_rng(7)
            drawn = pl.DataFrame({name: rng.integers(0, 2**62, 400_000) for name in TICKS.columns})
            large = drawn.with_columns(
                symbol=pl.lit("X"),
                session=pl.lit("a"),
                sequence=pl.int_range(100, 400_100),
                ingest_ts=pl.lit(MIDNIGHT),
                kind=pl.lit(DEPTH, pl.Int8),
                side=pl.lit(0, pl.Int8),
            )
            with pytest.raises(TickStoreError, match="Make room on the server's disk"):
                store.append(large)
            assert store.read("X", "a").equals(TRADED)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.fixture
def store_of_its_own():
    with clickhouse_server() as server:
        yield server, store_at(server, database(server))
