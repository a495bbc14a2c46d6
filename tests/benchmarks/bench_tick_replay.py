"""How fast events are replayed with one market maker in the queue, beside hftbacktest on the same events, and
whether both fill the same orders: those of one lot, which are filled as a whole, so that both must agree.

    python -m tests.benchmarks.bench_tick_replay --rows 2000000 --hftbacktest ~/hft/bin/python

`--hftbacktest` is the Python of an environment of its own with hftbacktest 2.4.2, numba and polars, which
need another NumPy than ours; without it only our own figures are told. The maker looks every 100 ms, and has
an order of a lot at both touches, moved when the touch has moved; nothing is late, queues lose cancels from
behind.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from components.contracts.tick_schemas import BUY, DEPTH, SELL, TRADE
from components.order_book import matching
from components.order_book.compiled import compiled
from components.order_book.desk import FILLS, LEFT, PRICE, new_desk
from components.order_book.state import apply, best, new_book

LOOKS_NS = 100_000_000
START = 1_700_000_000_000_000_000
MIDDLE, LEVELS = 100_000, 8
THEIRS = Path(__file__).with_name("hftbacktest_maker.py")


def market(rows: int, seed: int) -> np.ndarray:
    """(rows, 6) of time, kind, side, price, quantity, message: orders come, are cancelled and taken."""
    generator = np.random.default_rng(seed)
    found = np.zeros((rows + 2 * LEVELS, 6), np.int64)
    gaps = generator.exponential(2e6, size=rows).astype(np.int64) + 1
    draws = generator.random((rows, 4))
    levels = np.zeros((2, 4_096), np.int64)
    count = _fill(found, gaps, draws, levels, rows)
    return found[:count]


@compiled
def _fill(found, gaps, draws, levels, rows):
    """Write the market; `levels` holds lots by place, bids in row 0, around MIDDLE."""
    half, at, n, message = levels.shape[1] // 2, START, 0, 0
    bid, ask = half - 1, half
    for k in range(LEVELS):
        levels[0, bid - k] = levels[1, ask + k] = 20
        _row(found, n, at, DEPTH, BUY, bid - k, 20, half, message)
        _row(found, n + 1, at, DEPTH, SELL, ask + k, 20, half, message)
        n += 2
    for step in range(rows):
        if n + 4 > len(found):
            break
        at += gaps[step]
        message += 1
        what, where, size, way = draws[step]
        own = 0 if way < 0.5 else 1
        side, touch = (BUY, bid) if own == 0 else (SELL, ask)
        if what < 0.15:
            quantity = min(1 + np.int64(size * 9), levels[own, touch])
            _row(found, n, at, TRADE, -side, touch, quantity, half, message)
            levels[own, touch] -= quantity
            n += 1
            place = touch
        else:
            place = touch - side * np.int64(where * LEVELS)
            if what > 0.8 and ask - bid > 1:
                place = touch + side
            if not LEVELS < place < levels.shape[1] - LEVELS:
                continue
            change = 1 + np.int64(size * 9)
            levels[own, place] = max(levels[own, place] + (change if what > 0.55 else -change), 0)
        _row(found, n, at, DEPTH, side, place, levels[own, place], half, message)
        n += 1
        while levels[0, bid] == 0:
            bid -= 1
            if half - bid > half - LEVELS:
                return n
        while levels[1, ask] == 0:
            ask += 1
            if ask - half > half - LEVELS:
                return n
        while levels[0, bid + 1] > 0:
            bid += 1
        while levels[1, ask - 1] > 0:
            ask -= 1
    return n


@compiled
def _row(found, n, at, kind, side, place, quantity, half, message):
    row = found[n]
    row[0], row[1], row[2], row[3] = at, kind, side, MIDDLE + place - half
    row[4], row[5] = quantity, message


@compiled
def make_market(rows, book, desk, looks):
    """The maker over all rows; `looks` gets position and fills so far at each look. How many looks."""
    count, position, filled, n = 0, 0, 0, 0
    due = rows[0, 0] + LOOKS_NS
    while n < len(rows):
        at, message = rows[n, 0], rows[n, 5]
        while due <= at:
            if due < at:
                for slot in range(2):
                    side = BUY if slot == 0 else SELL
                    touch, lots = best(book, side)
                    if desk.orders[slot, LEFT] > 0 and desk.orders[slot, PRICE] != touch:
                        matching.cancel(desk, slot)
                    if desk.orders[slot, LEFT] == 0 and lots > 0:
                        matching.submit(desk, book, slot, side, touch, 1, True, 0)
                looks[count, 0], looks[count, 1] = position, filled
                count += 1
                due += LOOKS_NS
            else:
                break
        while n < len(rows) and rows[n, 5] == message:
            row = rows[n]
            matching.row_seen(desk, row[1], row[2], row[3], row[4], 0, at, 0)
            apply(book, row[1], row[2], row[3], row[4], 0, message)
            n += 1
        matching.message_seen(desk, book, at, False, 0)
        for fill in range(desk.counts[FILLS]):
            position += desk.fills[fill, 2] * (1 if desk.fills[fill, 0] == 0 else -1)
            filled += 1
        desk.counts[FILLS] = 0
    return count


def ours(rows: np.ndarray) -> tuple[float, np.ndarray]:
    """CPU seconds and the looks of our maker; the second of two runs, which compiles nothing."""
    seconds, looks = 0.0, np.zeros((0, 2), np.int64)
    for _ in range(2):
        looks = np.zeros(((rows[-1, 0] - rows[0, 0]) // LOOKS_NS + 2, 2), np.int64)
        begin = time.process_time()
        count = make_market(rows, new_book(), new_desk(2), looks)
        seconds, looks = time.process_time() - begin, looks[:count]
    return seconds, looks


def theirs(python: str, rows: np.ndarray) -> tuple[float, np.ndarray]:
    """The same of hftbacktest, in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "rows.npy"), Path(folder, "looks.npy")
        np.save(source, rows)
        run = [python, str(THEIRS), str(source), str(target)]
        told = subprocess.run(run, check=True, capture_output=True, text=True)
        return json.loads(told.stdout)["cpu_s"], np.load(target)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hftbacktest", help="Python of an environment that has it")
    given = parser.parse_args()
    rows = market(given.rows, given.seed)
    seconds, looks = ours(rows)
    print(f"{len(rows):,} rows, {len(looks):,} looks, {looks[-1, 1]:,} fills, position {looks[-1, 0]:,}")
    print(f"alphaloop    {len(rows) / seconds / 1e6:6.2f} M events/s of CPU (wanted 3)")
    if given.hftbacktest:
        seconds, other = theirs(given.hftbacktest, rows)
        both = min(len(looks), len(other))
        print(f"hftbacktest  {len(rows) / seconds / 1e6:6.2f} M events/s of CPU, {other[-1, 1]:,} fills")
        same = (looks[:both] == other[:both]).all(axis=1)
        print(f"position and fills are the same at {same.mean():.2%} of {both:,} looks")


if __name__ == "__main__":
    main()
