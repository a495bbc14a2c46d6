"""The causal CNN by ONNX on one thread: one more sample with the past carried along, beside the whole window
of 512 samples anew; one symbol, and eight in a batch.

`python -m tests.benchmarks.bench_causal_cnn [calls]`. Weights are random: they cost what fitted ones cost.
Samples of 50 ms, 20 inputs, branches of 50 ms, 250 ms and 1 s, as the leaf causal_cnn/50ms/base says. Wall
clock of each call, and CPU time of its thread, which says what a machine without other work would take.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import pipelines
from components.contracts import REGIMES
from components.experts.families.causal_cnn import Settings, build
from components.experts.leaves import load_leaf
from components.experts.neural.arrays import Codes, Scalers
from components.experts.neural.batch import Layout
from components.experts.neural.export import window_graph
from components.experts.neural.heads import ForecastModel
from components.experts.neural.streaming import export_stream
from components.scoring.graph import open_session
from components.scoring.stream import STREAM_FILE, Stream

LEAF = Path(pipelines.__file__).parent / "configs" / "experts" / "causal_cnn" / "50ms" / "base.yaml"
INPUTS, LOOKBACK, CALLS = 20, 512, 2000
# Must reach: 95 of 100 calls, milliseconds, by symbols in a batch.
WANTED_MS = {1: 1.0, 8: 3.0}
LINE = "{:28s} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}"


def main() -> int:
    """A table; returns 1 where a streaming call takes longer than it may."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    torch.set_num_threads(1)
    settings = Settings.model_validate({**load_leaf(LEAF).settings, "lookback_bars": LOOKBACK})
    model = made(settings)
    weights = sum(one.numel() for one in model.parameters())
    print(f"{weights:,} parameters, a state of {model.network.state_size:,} numbers a symbol")
    print(LINE.format("", "symbols", "p50 ms", "p95 ms", "p99 ms", "p50 CPU", "p95 CPU"))
    told = (model, Scalers((0.0,) * INPUTS, (1.0,) * INPUTS, 1e-5), Codes((), ()), LOOKBACK, (0, 1, 2))
    late = False
    with tempfile.TemporaryDirectory() as folder:
        export_stream(Path(folder), *told)
        window = Path(folder) / "window.onnx"
        window.write_bytes(window_graph(*told))
        for symbols, wanted in WANTED_MS.items():
            stream = by_samples(Path(folder) / STREAM_FILE, symbols)
            late |= report("streaming", symbols, calls, stream) > wanted
            report("whole window, blocks once", symbols, calls // 4, by_windows(window, symbols))
    return int(late)


def made(settings: Settings) -> ForecastModel:
    """The model of the leaf with its heads: classes and their masks, and the conditional return."""
    layout = Layout(
        inputs={f"input_{number}": "book" for number in range(INPUTS)},
        means=(0.0,) * INPUTS,
        deviations=(1.0,) * INPUTS,
        lookback=LOOKBACK,
        regimes=len(REGIMES),
        tasks=(("trade_class", 20), ("log_return", 20)),
        sectors=0,
        industries=0,
        trading_days=7,
        period="50ms",
    )
    torch.manual_seed(0)
    masks = settings.dropout_sampling.masks
    return ForecastModel(build(settings, layout), 2, direction=True, masks=masks).eval()


def by_samples(path: Path, symbols: int) -> Callable[[int], None]:
    """A call with one more sample of each symbol."""
    stream, random = Stream(path, symbols), np.random.default_rng(0)
    samples = random.standard_normal((64, symbols, INPUTS)).astype(np.float32)
    begun, regime = np.ones(symbols, np.float32), np.eye(4, dtype=np.float32)[np.zeros(symbols, int)]

    def call(number: int) -> None:
        stream(sample=samples[number % 64], begun=begun, regime=regime)

    return call


def by_windows(path: Path, symbols: int) -> Callable[[int], None]:
    """A call with the whole window of each symbol."""
    session, random = open_session(path, 1), np.random.default_rng(0)
    window = random.standard_normal((symbols, LOOKBACK, INPUTS)).astype(np.float32)
    begun = np.ones((symbols, LOOKBACK), np.float32)
    regime = np.eye(4, dtype=np.float32)[np.zeros(symbols, int)]

    def call(number: int) -> None:
        del number
        session.run(None, {"window": window, "begun": begun, "regime": regime})

    return call


def report(name: str, symbols: int, calls: int, call: Callable[[int], None]) -> float:
    """Print a line; returns the p95 in milliseconds."""
    for number in range(50):
        call(number)
    took, used = [], []
    for number in range(calls):
        start, cpu = time.perf_counter(), time.thread_time()
        call(number)
        took.append(1e3 * (time.perf_counter() - start))
        used.append(1e3 * (time.thread_time() - cpu))
    figures = [*np.percentile(took, [50, 95, 99]), *np.percentile(used, [50, 95])]
    print(LINE.format(name, symbols, *(f"{value:.3f}" for value in figures)), flush=True)
    return float(figures[1])


if __name__ == "__main__":
    sys.exit(main())
