"""Training speed of the Temporal Fusion Transformer against neuralforecast's of equal size, and windows a
second of the default leaf.

`ALPHALOOP_NEURALFORECAST_PYTHON=/path/to/python python -m tests.benchmarks.bench_tft [threads] [rounds]`; the
variable names a Python that has neuralforecast (3.3.0). Both sides train in turn, round by round, on windows
that are ready in memory: forward, loss, backward and a step of the optimiser, same batch, lookback, width,
heads, dropout rate, inputs, steps to come and quantiles. neuralforecast makes a second input of its one
series where it is given no calendar; ours gets two inputs. Its maps of static contexts that it is not given
count as parameters but never get a gradient, so both counts are printed. `ours` works each variable's network
out at every value, as neuralforecast does; the default works it out at knots.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

WORKER = Path(__file__).with_name("neuralforecast_tft.py")
EQUAL_SIZE = {
    "width": 64,
    "heads": 4,
    "lookback": 60,
    "steps": 5,
    "batch": 512,
    "further_inputs": 0,
    "dropout": 0.1,
}
MANY_INPUTS = EQUAL_SIZE | {"further_inputs": 18, "batch": 128}
STEPS_A_ROUND = 2
DEFAULT_INPUTS = (40, 150)


class Ours:
    """Our network with its heads, the losses of three quantiles, and the optimiser of the default leaf."""

    def __init__(self, sizes: dict, threads: int, *, knots: bool):
        import torch

        from components.experts.families.tft import Settings, build
        from components.experts.neural.batch import Batch, Layout
        from components.experts.neural.config import Optimiser
        from components.experts.neural.heads import ForecastModel
        from components.experts.neural.optim import make_optimiser

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        inputs = sizes.get("inputs", 2 + sizes.get("further_inputs", 0))
        layout = Layout(
            inputs={f"x{number}": "trend" for number in range(inputs)},
            means=(0.0,) * inputs,
            deviations=(1.0,) * inputs,
            lookback=sizes["lookback"],
            regimes=4,
            tasks=tuple(("return", step + 1) for step in range(sizes["steps"])),
            sectors=sizes.get("sectors", 0),
            industries=0,
            trading_days=5,
            period="1d",
        )
        settings = Settings(
            lookback_bars=sizes["lookback"],
            width=sizes["width"],
            heads=sizes["heads"],
            knots=knots,
            regularisation={"dropout": sizes["dropout"]},
        )
        self.model = ForecastModel(build(settings, layout), sizes["steps"], dropout=sizes["dropout"]).train()
        self.optimiser = make_optimiser(self.model, Optimiser())
        rows = sizes["batch"]
        begun, nothing = (
            torch.ones(rows, sizes["lookback"], dtype=torch.bool),
            torch.zeros(rows, dtype=torch.long),
        )
        sector = torch.randint(0, layout.sectors + 1, (rows,))
        self.batch = Batch(
            torch.randn(rows, sizes["lookback"], inputs), begun, torch.zeros(rows, 4), sector, nothing
        )
        self.target = torch.randn(rows, sizes["steps"], 1)
        self.levels = torch.tensor([0.5, 0.1, 0.9])

    def train(self, steps: int) -> dict:
        """Seconds of wall clock and CPU of that many steps."""
        import torch

        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            outputs = self.model(self.batch)
            error = self.target - outputs.quantiles_BT3
            loss = (
                torch.maximum(self.levels * error, (self.levels - 1) * error).mean()
                + (outputs.score_BT - self.target[..., 0]).square().mean()
            )
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        learning = sum(
            weight.numel()
            for weight in self.model.parameters()
            if weight.grad is not None and weight.grad.any()
        )
        return {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "learning": learning,
        }

    @property
    def parameters(self) -> int:
        """Weights that training moves."""
        return sum(weight.numel() for weight in self.model.parameters())


def main() -> None:
    """Print the rates of both sides, their parameter counts and the ratio; then the rates of the default
    leaf.
    """
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    python = os.environ.get("ALPHALOOP_NEURALFORECAST_PYTHON")
    if python:
        compare("equal size, 2 inputs", EQUAL_SIZE, python, threads, rounds)
        compare("20 inputs", MANY_INPUTS, python, threads, rounds)
    else:
        print(
            "neuralforecast was not measured: ALPHALOOP_NEURALFORECAST_PYTHON does not name a Python that"
            " has it."
        )
    for inputs in DEFAULT_INPUTS:
        default = {
            "inputs": inputs,
            "width": 16,
            "heads": 2,
            "lookback": 30,
            "steps": 1,
            "batch": 512,
            "dropout": 0.1,
            "sectors": 11,
        }
        ours = Ours(default, threads, knots=True)
        ours.train(STEPS_A_ROUND)
        best = max(512 * STEPS_A_ROUND / ours.train(STEPS_A_ROUND)["wall_s"] for _ in range(rounds))
        print(f"default leaf, {inputs} inputs: {best:,.0f} windows/s at best, {ours.parameters:,} parameters")


def compare(name: str, sizes: dict, python: str, threads: int, rounds: int) -> None:
    """Train all sides in turn and print median rates and ratios."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    theirs = subprocess.Popen(
        [python, str(WORKER), json.dumps(sizes), str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        figures = next(answer for answer in map(_object, theirs.stdout) if answer)
        ours = {
            "ours": Ours(sizes, threads, knots=False),
            "ours, default knots": Ours(sizes, threads, knots=True),
        }
        sides = {f"neuralforecast {figures['version']}": lambda steps: _ask(theirs, steps)} | {
            side: expert.train for side, expert in ours.items()
        }
        counts = [figures["parameters"], *(expert.parameters for expert in ours.values())]
        for train in sides.values():
            train(1)
        taken = {side: [] for side in sides}
        for _ in range(rounds):
            for side, train in sides.items():
                taken[side].append(train(STEPS_A_ROUND))
    finally:
        theirs.stdin.close()
        theirs.wait(timeout=60)
    print(f"{name}: {sizes}, {threads} threads, {rounds} rounds of {STEPS_A_ROUND} steps in turn, medians")
    windows, first = sizes["batch"] * STEPS_A_ROUND, next(iter(sides))
    for (side, rounds_taken), count in zip(taken.items(), counts, strict=True):
        wall, cpu = (median(one[clock] for one in rounds_taken) for clock in ("wall_s", "cpu_s"))
        ratios = [
            median(other[clock] / one[clock] for one, other in zip(rounds_taken, taken[first], strict=True))
            for clock in ("wall_s", "cpu_s")
        ]
        print(
            f"  {side:24s} {count:9,d} parameters ({rounds_taken[0]['learning']:,d} with a gradient)"
            f" {windows / wall:8,.0f} windows/s {windows / cpu:8,.0f} a second of CPU; {ratios[0]:.2f} and"
            f" {ratios[1]:.2f} times neuralforecast"
        )


def _object(line: str) -> dict | None:
    """The JSON object on a line; None for a line of a library's own."""
    return json.loads(line) if line.startswith("{") else None


def _ask(worker: subprocess.Popen, steps: int) -> dict:
    worker.stdin.write(f"{steps}\n")
    worker.stdin.flush()
    return next(answer for answer in map(_object, worker.stdout) if answer)


if __name__ == "__main__":
    main()
