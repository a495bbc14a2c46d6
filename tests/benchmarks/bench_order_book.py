"""Updates of a book a second and CPU core, against hftbacktest's own two kinds of depth on the same rows.

`ALPHALOOP_HFTBACKTEST_PYTHON=/path/to/python python -m tests.benchmarks.bench_order_book` takes a session of
recorded depth in the folder ALPHALOOP_DATA, else rows that are made up; the variable names a Python that has
hftbacktest 2.4.2, whose book is then built from the same rows of depth: all for its local side, so that it
builds one book, its vector as wide as 99.8 % of the prices. The least CPU time of several runs, each into an
empty book; without the making of arrays and without compiling.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from components.contracts.tick_schemas import BUY, DEPTH, SELL
from components.order_book.compiled import compiled
from components.order_book.state import Book, apply, apply_rows, behind, best, new_book
from tests.order_book.recordings import EVENTS, LOBSTER, depth_messages, lobster_orders

SYMBOL, SESSION = "BTCUSDT.USDM", "2024-08-08"
RUNS = 10
MADE_UP = 500_000


def main() -> None:
    """Print millions of rows a second, one line a kind of rows or side."""
    recorded = EVENTS.exists()
    depth = depth_messages(SYMBOL, SESSION, quotes=False) if recorded else made_up()
    print(f"{SYMBOL + ' ' + SESSION if recorded else 'made-up rows'}: {depth.shape[1]:,} rows of depth")
    ours, touch = rate(depth, into)
    _print("depth", ours)
    _print("depth, ten levels a side read after each row", rate(depth, read_levels)[0])
    if recorded:
        _print("depth and quotes", rate(depth_messages(SYMBOL, SESSION), into)[0])
    if LOBSTER.exists():
        _print("orders by number (LOBSTER)", rate(lobster_orders(), into)[0])
    python = os.environ.get("ALPHALOOP_HFTBACKTEST_PYTHON")
    if not python:
        print("hftbacktest was not measured: ALPHALOOP_HFTBACKTEST_PYTHON names no Python that has it.")
        return
    for name, figures in theirs(depth, python).items():
        same = "the same touch" if figures["touch"] == touch else f"another touch, {figures['touch']}"
        _print(f"hftbacktest, {name} ({same})", depth.shape[1] / figures["cpu_s"])
        print(f"{'':50s} ours is {ours * figures['cpu_s'] / depth.shape[1]:.1f} times as fast")


def _print(what: str, rows_a_second: float) -> None:
    print(f"{what:50s} {rows_a_second / 1e6:8.1f} M/s")


def rate(rows: np.ndarray, use: Callable[[Book, np.ndarray], None]) -> tuple[float, list[int]]:
    """Rows a second of CPU, the best of RUNS, and the touch in the end."""
    use(new_book(), rows[:, :1])
    spent = []
    for _ in range(RUNS):
        book = new_book()
        start = time.process_time()
        use(book, rows)
        spent.append(time.process_time() - start)
    return rows.shape[1] / min(spent), [int(best(book, side)[0]) for side in (BUY, SELL)]


def into(book: Book, rows: np.ndarray) -> None:
    """Let all rows change the book."""
    apply_rows(book, *rows, 0, rows.shape[1])


@compiled
def fill_levels(book, side, prices, quantities):
    """Write the best levels of a side into two arrays of one length."""
    price, quantity = best(book, side)
    for n in range(len(prices)):
        prices[n], quantities[n] = price, quantity
        price, quantity = behind(book, side, price)


@compiled
def _read_levels(book, kinds, sides, prices, quantities, order_ids, messages, room):
    for row in range(len(kinds)):
        apply(book, kinds[row], sides[row], prices[row], quantities[row], order_ids[row], messages[row])
        fill_levels(book, BUY, room[0], room[1])
        fill_levels(book, SELL, room[2], room[3])


def read_levels(book: Book, rows: np.ndarray) -> None:
    """The same, reading the best ten levels of both sides after each row."""
    _read_levels(book, *rows, np.zeros((4, 10), np.int64))


def made_up() -> np.ndarray:
    """Depth around a touch that wanders, a third of it levels that go."""
    rng = np.random.default_rng(11)
    side = rng.choice((BUY, SELL), MADE_UP)
    middle = 500_000 + np.cumsum(rng.integers(-1, 2, MADE_UP))
    price = middle - side * (1 + rng.exponential(400, MADE_UP).astype(np.int64))
    quantity = rng.integers(1, 1_000, MADE_UP) * (rng.random(MADE_UP) > 1 / 3)
    return np.array(
        [np.full(MADE_UP, DEPTH), side, price, quantity, np.zeros(MADE_UP), np.arange(MADE_UP)], np.int64
    )


def theirs(rows: np.ndarray, python: str) -> dict[str, dict]:
    """hftbacktest's figures by kind of depth."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "rows.npy", Path(folder) / "figures.json"
        np.save(given, rows)
        script = Path(__file__).with_name("hftbacktest_book.py")
        subprocess.run([python, str(script), str(given), str(out)], check=True)
        return json.loads(out.read_text())


if __name__ == "__main__":
    main()
