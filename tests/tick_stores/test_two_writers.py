"""Two processes write one session of the embedded store at once, and one is killed while it writes."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from components.contracts.tick_schemas import TRADE
from components.tick_stores.embedded import EmbeddedStore
from tests.tick_stores.made_ticks import TRADED, ticks

HOUSE = Path(__file__).parents[2]
BATCHES = 40
PREPARE = """
import sys
from pathlib import Path
from components.tick_stores import embedded, log
from components.tick_stores.embedded import EmbeddedStore
from tests.tick_stores.made_ticks import TRADED, ticks
store = EmbeddedStore(Path(sys.argv[1]))
"""
WRITE = """
first = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for n in range(first, first + 40):
    store.append(ticks((n, 3, 100, 1), start=n))
    if n % 10 == 9:
        store.seal("X", "a")
"""
# As far as half a batch it comes, and then it hangs with the lock in its hand.
HANG = """
def hang(path, table):
    with open(path, "ab") as file:
        file.write(table.to_batches()[0].serialize().to_pybytes()[:300])
    print("half", flush=True)
    sys.stdin.readline()
store.append(TRADED[:2])
log._write = hang
store.append(TRADED[2:4])
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process with the store in a folder; all that were started end with the test."""
    begun = []

    def begin(code: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-c", PREPARE + code, str(tmp_path / "store"), *arguments]
        pipe = subprocess.PIPE
        begun.append(subprocess.Popen(command, cwd=HOUSE, stdin=pipe, stdout=pipe, text=True))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def test_two_writers_of_a_session_lose_and_break_nothing(start, tmp_path):
    writers = [start(WRITE, "0"), start(WRITE, f"{BATCHES}")]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    kept = EmbeddedStore(tmp_path / "store").read("X", "a")
    assert kept.equals(pl.concat(ticks((n, TRADE, 100, 1), start=n) for n in range(2 * BATCHES)))


def test_a_killed_writer_leaves_no_lock_and_no_half_batch(start, tmp_path):
    killed = start(HANG)
    assert killed.stdout.readline() == "half\n"
    waiting = start(WRITE, "2")
    assert waiting.stdout.readline() == "ready\n"
    waiting.stdin.write("go\n")
    waiting.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=0.5)
    killed.kill()
    assert waiting.wait(timeout=60) == 0
    kept = EmbeddedStore(tmp_path / "store").read("X", "a")
    assert kept[:2].equals(TRADED[:2])
    assert kept["sequence"].to_list() == list(range(2 + BATCHES))
