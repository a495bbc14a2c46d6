"""Speed of the backtest on 2,600 daily bars of 503 names with stops and costs, against the same on arrays.

`python -m tests.benchmarks.bench_backtest` takes about a minute on one thread. Milliseconds of CPU, the least
of five runs; results are compared to the bit. Compiling is counted by itself: in a process that finds no
compiled code, and in one that finds it on disk.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import polars as pl

from components.backtest.config import Settings
from components.backtest.engine import run_backtest
from components.backtest.prices import market_prices
from components.backtest.sized_by import STRATEGIES
from components.contracts import TIME
from tests.backtest.array_engine import array_backtest, array_prices

BARS, NAMES, HORIZON, RUNS = 2600, 503, 5, 5
FIRST_CALL = """
import time
started = time.process_time()
from tests.benchmarks.bench_backtest import first_call
imported = time.process_time()
first_call()
print(f"import {imported - started:.1f} s, first call {time.process_time() - imported:.1f} s")
"""


def main() -> None:
    """Print one line for each part, and whether results are equal."""
    panel, predictions = market(BARS, NAMES)
    settings, prices = Settings(), market_prices(panel)
    old = array_prices(panel)
    print(f"{'part':<34}{'compiled':>10}{'on arrays':>11}")
    row("arrange prices", lambda: market_prices(panel), lambda: array_prices(panel))
    scores, uncertainty = (
        predictions[name].to_numpy().reshape(BARS, NAMES) for name in ("score", "uncertainty")
    )
    for strategy, weights in STRATEGIES.items():
        if strategy != "universe":
            row(f"weights, {strategy}", lambda weights=weights: weights(scores, uncertainty, settings))

        def compiled(strategy=strategy) -> pl.DataFrame:
            return run_backtest(prices, predictions, settings, horizon=HORIZON, strategy=strategy).returns

        def arrays(weights=weights) -> np.ndarray:
            targets = weights(scores, uncertainty, settings).weights
            return array_backtest(old, targets, settings, HORIZON, 1, 252.0)[0]

        row(f"scores to returns, {strategy}", compiled, arrays)
        np.testing.assert_array_equal(compiled().select(pl.nth(range(2, 10))).to_numpy(), arrays())
    print("all returns equal to the bit")
    with tempfile.TemporaryDirectory() as folder:
        for said in ("nothing compiled yet", "compiled code on disk"):
            print(f"{said}: {in_a_new_process(folder)}")


def row(name: str, compiled: Callable, arrays: Callable | None = None) -> None:
    slow = f"{least(arrays, 1):.0f}" if arrays else ""
    print(f"{name:<34}{least(compiled):>10.0f}{slow:>11}", flush=True)


def least(call: Callable, runs: int = RUNS) -> float:
    """Milliseconds of CPU, after one run that warms up where there are several."""
    if runs > 1:
        call()
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return 1e3 * min(seconds)


def market(bars: int, names: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Panel and predictions, 2 % of the prices missing."""
    random = np.random.default_rng(0)
    steps = random.normal(0, 0.012, (2 * bars, names))
    prices = 100 * np.exp(np.cumsum(steps, axis=0))
    prices[random.random(prices.shape) < 0.02] = np.nan
    key = {
        "timestamp": pl.Series(np.repeat(np.arange(bars) * 86_400_000_000, names)).cast(TIME),
        "symbol": [f"S{number:04d}" for number in range(names)] * bars,
    }
    panel = pl.DataFrame({**key, "open": prices[0::2].ravel(), "close": prices[1::2].ravel()})
    score, uncertainty = random.normal(size=bars * names), random.uniform(0.5, 2, bars * names)
    return panel, pl.DataFrame({**key, "score": score, "uncertainty": uncertainty})


def first_call() -> None:
    """A backtest so small that compiling is all that it costs."""
    panel, predictions = market(40, 20)
    run_backtest(market_prices(panel), predictions, Settings(), horizon=HORIZON)


def in_a_new_process(cache: str) -> str:
    """What importing and the first call take, CPU seconds."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", FIRST_CALL]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
