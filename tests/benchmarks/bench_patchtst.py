"""The PatchTST: its plain form against neuralforecast's of equal size, and the default leaf's training,
prediction and served graph.

`ALPHALOOP_NEURALFORECAST_PYTHON=/path/to/python python -m tests.benchmarks.bench_patchtst [threads] [rounds]
[bars]`; the variable names a Python that has neuralforecast (3.3.0). Equal size: same layers, width, heads,
feed-forward step, patches and their length, batch and dropout rate, one channel, as neuralforecast has it,
and parameters within 10 %. neuralforecast repeats the last bar of a window for one more patch; ours has that
patch as more bars. Both sides work in turn, round by round, on steps (forward, loss, backward, optimiser;
windows ready in memory) and on whole fits of as many windows from a table of noise, where ours also measures
its early-stopping rows. `bars` is the length of the default leaf's panel of 500 symbols; 0 leaves it out.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl

from components.experts.families.patchtst import Expert, Settings, build
from components.experts.protocol import Task

WORKER = Path(__file__).with_name("neuralforecast_speed.py")
EQUAL_SIZE = {
    "layers": 3,
    "width": 64,
    "heads": 4,
    "feed_forward": 128,
    "patch_bars": 16,
    "stride_bars": 8,
    "lookback": 60,
    "steps_ahead": 5,
    "batch": 512,
}
TABLE = {"symbols": 200, "bars": 300}
STEPS_A_ROUND, STEPS_A_FIT = 4, 40
SYMBOLS, INPUTS_A_GROUP = (
    500,
    {
        "trend": 12,
        "mean_reversion": 8,
        "volatility": 9,
        "volume_liquidity": 9,
        "microstructure": 8,
        "style": 6,
        "calendar": 3,
        "regime": 7,
        "bars": 5,
    },
)
DEFAULT_INPUTS = {f"{group}_{i}": group for group, count in INPUTS_A_GROUP.items() for i in range(count)}


class Ours:
    """A network with its heads, the losses of score and quantiles, and the optimiser; and the expert of the
    same settings.
    """

    def __init__(
        self, settings: Settings, inputs: dict[str, str], batch: int, table: pl.DataFrame | None, threads: int
    ):
        import torch

        from components.experts.neural.batch import Batch, Layout
        from components.experts.neural.heads import ForecastModel
        from components.experts.neural.optim import make_optimiser

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.settings, self.groups, self.table, self.threads, lookback = (
            settings,
            inputs,
            table,
            threads,
            settings.lookback_bars,
        )
        layout = Layout(
            inputs, (0.0,) * len(inputs), (1.0,) * len(inputs), lookback, 4, (("return", 5),), 0, 0, 5, "1d"
        )
        self.model = ForecastModel(
            build(settings, layout), 1, dropout=settings.regularisation.dropout
        ).train()
        self.optimiser = make_optimiser(self.model, settings.optimiser)
        begun, nothing = torch.ones(batch, lookback, dtype=torch.bool), torch.zeros(batch, dtype=torch.long)
        self.batch = Batch(
            torch.randn(batch, lookback, len(inputs)),
            begun,
            torch.eye(4)[torch.arange(batch) % 4],
            nothing,
            nothing,
        )
        self.target = torch.randn(batch, 1)
        self.levels = torch.tensor([0.1, 0.5, 0.9])

    def train(self, steps: int) -> None:
        """So many steps on one batch."""
        import torch

        for _ in range(steps):
            outputs = self.model(self.batch)
            error = self.target[..., None] - outputs.quantiles_BT3
            pinball = torch.maximum(self.levels * error, (self.levels - 1) * error).mean()
            loss = pinball + (outputs.score_BT - self.target).square().mean() + outputs.encoded.penalty
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()

    def fit(self, steps: int) -> None:
        """A whole fit of one epoch of so many steps."""
        training = self.settings.training.model_copy(
            update={"epochs": 1, "max_train_windows": steps * self.settings.training.batch_windows}
        )
        expert = Expert(self.settings.model_copy(update={"training": training}))
        expert.fit(
            self.table,
            Task("1d", 5, "log_return", self.groups, seed=0, threads=self.threads),
            advance=lambda share, what: None,
        )

    def predict(self, times: int) -> None:
        """The batch without gradients, as many times."""
        import torch

        self.model.eval()
        with torch.inference_mode():
            for _ in range(times):
                self.model(self.batch)
        self.model.train()

    @property
    def parameters(self) -> int:
        """Weights that training moves."""
        return sum(weight.numel() for weight in self.model.parameters())


def main() -> None:
    """Print rates, parameter counts and ratios."""
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    bars = int(sys.argv[3]) if len(sys.argv) > 3 else 2_000
    python = os.environ.get("ALPHALOOP_NEURALFORECAST_PYTHON")
    if python:
        for dropout in (0.0, 0.1):
            compare(EQUAL_SIZE | TABLE | {"dropout": dropout}, python, threads, rounds)
    else:
        print(
            "neuralforecast was not measured: ALPHALOOP_NEURALFORECAST_PYTHON does not name a Python that"
            " has it."
        )
    default = Ours(Settings(), DEFAULT_INPUTS, 512, None, threads)
    for what, run in (("training steps", default.train), ("predictions", default.predict)):
        run(1)
        taken = [timed(lambda run=run: run(STEPS_A_ROUND)) for _ in range(rounds)]
        print(
            f"default leaf, {len(DEFAULT_INPUTS)} inputs, {default.parameters:,} parameters, {what}:"
            f" {rates(taken, 512 * STEPS_A_ROUND)}"
        )
    serve(default, rounds)
    if bars:
        fit_default(bars, threads)


def compare(sizes: dict, python: str, threads: int, rounds: int) -> None:
    """Both sides in turn, steps and fits; medians."""
    lookback = sizes["lookback"] + sizes["stride_bars"]
    encoder = {
        name: sizes[name]
        for name in ("layers", "width", "heads", "feed_forward", "patch_bars", "stride_bars")
    }
    plain = {
        "encoder": "plain",
        "feature_gate": False,
        "regime_gate": False,
        "raw_branch": False,
        "lookback_bars": lookback,
    }
    settings = Settings(
        **plain,
        **encoder,
        embedding=sizes["steps_ahead"],
        regularisation={"dropout": sizes["dropout"]},
        training={"batch_windows": sizes["batch"]},
    )
    with neuralforecast(sizes, python, threads) as (figures, ask):
        ours = Ours(
            settings,
            {"x": "trend"},
            sizes["batch"],
            synthetic_frame(sizes["bars"], {"x": "trend"}, sizes["symbols"]),
            threads,
        )
        share = ours.parameters / figures["parameters"]
        print(
            f"equal size, dropout {sizes['dropout']}, {threads} threads: neuralforecast {figures['version']}"
            f" {figures['parameters']:,} parameters, ours {ours.parameters:,} ({share:.1%})"
        )
        for what, own, steps in (("steps", ours.train, STEPS_A_ROUND), ("fit", ours.fit, STEPS_A_FIT)):
            ask(what, 1)
            own(1)
            theirs, mine = [], []
            for _ in range(rounds):
                theirs.append(ask(what, steps))
                mine.append(timed(lambda own=own, steps=steps: own(steps)))
            windows = sizes["batch"] * steps
            ratios = [
                median(other[clock] / one[clock] for one, other in zip(mine, theirs, strict=True))
                for clock in ("wall_s", "cpu_s")
            ]
            print(
                f"  {what} of {windows:,} windows: neuralforecast {rates(theirs, windows)}; ours"
                f" {rates(mine, windows)}; {ratios[0]:.2f} and {ratios[1]:.2f} times"
            )


@contextmanager
def neuralforecast(sizes: dict, python: str, threads: int):
    """What the other interpreter says of itself, and a function that has it work."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [python, str(WORKER), "patchtst", json.dumps(sizes), str(threads)]
    worker = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )

    def answer() -> dict:
        for line in worker.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(
            f"{WORKER.name} ended without an answer, with exit code {worker.wait()}; run it by hand:"
            f" {' '.join(command[:3])} '{command[3]}' {threads}"
        )

    def ask(what: str, steps: int) -> dict:
        worker.stdin.write(f"{what} {steps}\n")
        worker.stdin.flush()
        return answer()

    try:
        yield answer(), ask
    finally:
        worker.stdin.close()
        worker.wait(timeout=60)


def serve(default: Ours, rounds: int) -> None:
    """The served graph of the default leaf on 500 windows, one thread."""
    import onnxruntime

    from components.experts.neural.arrays import Codes, Scalers
    from components.experts.neural.export import window_graph

    inputs, lookback = len(DEFAULT_INPUTS), default.settings.lookback_bars
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    graph = window_graph(
        default.model, Scalers((0.0,) * inputs, (1.0,) * inputs, 1.0), Codes((), ()), lookback
    )
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    window = np.random.default_rng(0).standard_normal((500, lookback, inputs), dtype=np.float32)
    feed = {
        "window": window,
        "begun": np.ones((500, lookback), np.float32),
        "regime": np.eye(4, dtype=np.float32)[np.arange(500) % 4],
    }
    session.run(None, feed)
    taken = [timed(lambda: session.run(None, feed)) for _ in range(3 * rounds)]
    print(
        f"served graph, 500 windows, 1 thread: {1e3 * median(one['wall_s'] for one in taken):.1f} ms,"
        f" {1e3 * median(one['cpu_s'] for one in taken):.1f} ms of CPU"
    )


def fit_default(bars: int, threads: int) -> None:
    """One fit and one prediction of the default leaf on a panel of noise."""
    frame = synthetic_frame(bars, DEFAULT_INPUTS, SYMBOLS)
    expert = Expert(Settings())
    taken = timed(
        lambda: expert.fit(
            frame,
            Task("1d", 5, "sector_neutral_return", DEFAULT_INPUTS, seed=0, threads=threads),
            advance=lambda share, what: None,
        )
    )
    epochs = expert.explain().training
    trained = sum(int(epoch["windows"]) for epoch in epochs)
    print(
        f"fit of {len(frame):,} rows, {len(DEFAULT_INPUTS)} inputs, {len(epochs)} epochs:"
        f" {taken['wall_s']:.1f} s ({taken['cpu_s']:.1f} s of CPU); {rates([taken], trained)}"
    )
    first = frame.filter(pl.col("part") == "predict")["timestamp"].min() - timedelta(
        days=expert.lookback_bars
    )
    recent = frame.filter(pl.col("timestamp") >= first)
    rows = recent.filter(pl.col("part") == "predict").height
    print(f"predict: {rows:,} rows; {rates([timed(lambda: expert.predict(recent))], rows)}")
    with tempfile.TemporaryDirectory() as folder:
        expert.save(Path(folder))
        print(
            f"saved: {sum(file.stat().st_size for file in Path(folder).iterdir()):,} bytes; peak memory"
            f" {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
        )


def timed(run: Callable[[], object]) -> dict[str, float]:
    """Seconds of wall clock and CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def rates(taken: list[dict[str, float]], windows: int) -> str:
    """Median windows a second, and a second of CPU."""
    wall, cpu = (windows / median(one[clock] for one in taken) for clock in ("wall_s", "cpu_s"))
    return f"{wall:,.0f} windows/s, {cpu:,.0f} a second of CPU"


def synthetic_frame(bars: int, groups: dict[str, str], symbols: int) -> pl.DataFrame:
    """Noise, with the last 10 % of bars to predict and the 5 % before them for early stopping."""
    generator = np.random.default_rng(0)
    rows = bars * symbols
    day = np.repeat(np.arange(bars), symbols)
    part = np.select([day < 0.85 * bars, day < 0.9 * bars], ["train", "early_stopping"], "predict")
    columns = {name: generator.standard_normal(rows, dtype=np.float32) for name in groups}
    return pl.DataFrame(
        {
            "timestamp": pl.Series(day).cast(pl.Int64) * 86_400_000_000,
            "symbol": np.tile([f"S{i:04d}" for i in range(symbols)], bars),
            "part": part,
            "label": np.where(part == "predict", np.nan, 0.03 * generator.standard_normal(rows)),
            "regime_state": np.repeat(generator.integers(0, 4, bars), symbols).astype(np.int32),
            "volatility_20": np.full(rows, 0.015),
            **columns,
        }
    ).with_columns(
        (pl.lit(datetime(2015, 1, 1, tzinfo=UTC)) + pl.duration(days=pl.Series(day))).alias("timestamp"),
        pl.col("label").fill_nan(None),
    )


if __name__ == "__main__":
    main()
