"""Batches of windows without a model: the rate of our input pipeline against a torch Dataset and DataLoader
of one slice an item, in the same run.

`python -m tests.benchmarks.bench_batches [seconds a case]`: 60 bars of 5, 40 and 146 inputs, random batches
of 512 windows and whole days of 500 symbols, on one and two threads (the loader: no worker and two). Ours
makes whole batches (windows, begun bars, regime, sector, industry, places of the day); the loader's items are
windows alone, zero-copy slices of the same matrix. Then the ways to gather that were tried, on one thread.

Rates are windows a second of wall clock and, for a machine that others use too, windows a second of CPU,
worker processes included.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from components.experts.neural.arrays import PanelArrays
from components.experts.neural.panel import Panel, batches, epoch_batches

SYMBOLS, LOOKBACK, BATCH = 500, 60, 512
BARS_BY_INPUTS = {5: 1_000, 40: 600, 146: 300}
GATHERED_BATCHES = 40


class Windows(Dataset):
    """What a user would write: item i is the window that ends with row i."""

    def __init__(self, inputs_NF: torch.Tensor):
        self.inputs_NF = inputs_NF

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.inputs_NF[row - LOOKBACK + 1 : row + 1]


def synthetic_bars(bars: int, inputs: int) -> PanelArrays:
    """Noise of 500 symbols, no gaps."""
    generator, rows = np.random.default_rng(0), SYMBOLS * bars
    inputs_NF = generator.standard_normal((rows + 1, inputs), dtype=np.float32)
    inputs_NF[-1] = 0
    number = np.arange(rows)
    return PanelArrays(
        inputs_NF=inputs_NF,
        position_N=number % bars,
        regime_N=generator.integers(0, 4, rows),
        sector_N=number // bars % 11 + 1,
        industry_N=number // bars % 60 + 1,
        volatility_N=np.ones(rows),
        labels_NT=np.zeros((rows, 1)),
        weight_N=np.ones(rows, dtype=np.float32),
        day_N=number % bars,
        frame_row_N=number,
        part_N=pl.repeat("train", rows, eager=True),
        known_N=number < rows,
    )


def main() -> None:
    """Print a line a case."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    print(
        f"{'inputs':>6s} {'batch':>6s} {'threads':>7s} {'ours/s':>12s} {'loader/s':>10s} {'times':>6s}"
        f" {'ours/CPU s':>12s} {'loader/CPU s':>12s} {'times':>6s} {'GB/s':>6s}"
    )
    for inputs, bars in BARS_BY_INPUTS.items():
        table = synthetic_bars(bars, inputs)
        rows = np.flatnonzero(table.position_N >= LOOKBACK - 1)
        for whole_days in (False, True):
            lists = epoch_batches(
                rows,
                table.day_N,
                whole_days=whole_days,
                batch_windows=SYMBOLS if whole_days else BATCH,
                most_windows=len(rows),
                seed=0,
                epoch=0,
            )
            for threads in (1, 2):
                print_case(table, lists, whole_days, threads, seconds)
        print_gathers(table, rows)


def print_case(
    table: PanelArrays, lists: list[np.ndarray], whole_days: bool, threads: int, seconds: float
) -> None:
    """Both rates of one case, their ratio, and how many bytes of windows ours makes a second."""
    torch.set_num_threads(threads)
    ours, loader = (
        _rate(_ours(table, lists, whole_days), seconds),
        _rate(_theirs(table, lists, threads), seconds),
    )
    inputs = table.inputs_NF.shape[1]
    print(
        f"{inputs:6d} {'days' if whole_days else 'rows':>6s} {threads:7d} {ours[0]:12,.0f} {loader[0]:10,.0f}"
        f" {ours[0] / loader[0]:6.1f} {ours[1]:12,.0f} {loader[1]:12,.0f} {ours[1] / loader[1]:6.1f}"
        f" {ours[0] * LOOKBACK * inputs * 4 / 1e9:6.1f}",
        flush=True,
    )


def print_gathers(table: PanelArrays, rows: np.ndarray) -> None:
    """Windows a second of each way to gather 512 of them, on one thread, new rows each time."""
    torch.set_num_threads(1)
    inputs_NF = torch.from_numpy(table.inputs_NF)
    inputs = inputs_NF.shape[1]
    halved_NF = inputs_NF.bfloat16()
    numpy_views = np.lib.stride_tricks.as_strided(
        table.inputs_NF, (len(inputs_NF) - LOOKBACK + 1, LOOKBACK, inputs), (inputs * 4, inputs * 4, 4)
    )
    by_symbol = inputs_NF[:-1].view(SYMBOLS, -1, inputs).unfold(1, LOOKBACK, 1)
    ways: dict[str, Callable[[torch.Tensor], object]] = {
        "views, index_select (in use)": (
            lambda last_B: _views(inputs_NF).index_select(0, last_B - LOOKBACK + 1)
        ),
        "rows, index_select": lambda last_B: inputs_NF.index_select(0, _numbers(last_B).flatten()),
        "rows, embedding": lambda last_B: functional.embedding(_numbers(last_B), inputs_NF),
        "unfolded by symbol, indexed": (
            lambda last_B: (
                by_symbol[last_B // by_symbol_bars, last_B % by_symbol_bars - LOOKBACK + 1]
                .transpose(1, 2)
                .contiguous()
            )
        ),
        "views, NumPy's index": lambda last_B: numpy_views[last_B.numpy() - LOOKBACK + 1],
        "bfloat16 views, index_select": (
            lambda last_B: _views(halved_NF).index_select(0, last_B - LOOKBACK + 1)
        ),
        "bfloat16 views, then float32": (
            lambda last_B: _views(halved_NF).index_select(0, last_B - LOOKBACK + 1).float()
        ),
    }
    by_symbol_bars = (len(inputs_NF) - 1) // SYMBOLS
    drawn = torch.from_numpy(np.random.default_rng(1).choice(rows, (GATHERED_BATCHES, BATCH)))
    for name, way in ways.items():
        way(drawn[0])
        start = time.thread_time()
        for last_B in drawn:
            way(last_B)
        print(
            f"       {name:30s} {drawn.numel() / (time.thread_time() - start):14,.0f} windows a CPU second",
            flush=True,
        )


def _views(table_NK: torch.Tensor) -> torch.Tensor:
    return table_NK.as_strided(
        (len(table_NK) - LOOKBACK + 1, LOOKBACK * table_NK.shape[1]), (table_NK.shape[1], 1)
    )


def _numbers(last_B: torch.Tensor) -> torch.Tensor:
    return last_B[:, None] + torch.arange(1 - LOOKBACK, 1)


def _ours(table: PanelArrays, lists: list[np.ndarray], whole_days: bool) -> Iterator[int]:
    panel = Panel(table, lookback=LOOKBACK, device=torch.device("cpu"), whole_days=whole_days)
    for _, batch in batches(panel, lists):
        yield len(batch.inputs_BLF)


def _theirs(table: PanelArrays, lists: list[np.ndarray], threads: int) -> Iterator[int]:
    loader = DataLoader(
        Windows(torch.from_numpy(table.inputs_NF)),
        batch_sampler=[part.tolist() for part in lists],
        num_workers=0 if threads == 1 else threads,
    )
    for batch in loader:
        yield len(batch)


def _rate(source: Iterator[int], seconds: float) -> tuple[float, float]:
    """Windows a second of wall clock and of CPU, counted from the first batch on."""
    windows = 0
    next(source)
    wall, cpu = time.perf_counter(), _cpu()
    for found in source:
        windows += found
        if time.perf_counter() - wall > seconds:
            break
    wall = time.perf_counter() - wall
    source.close()
    return windows / wall, windows / (_cpu() - cpu)


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
