"""neuralforecast's own models, for `bench_patchtst.py`: runs in an interpreter that has neuralforecast and
imports nothing of this project.

`python neuralforecast_speed.py patchtst SIZES THREADS`, SIZES a JSON object; says who it is on one line of
standard output, then answers each line of standard input with the seconds of wall clock and CPU of what it
asks for: `steps N`, N times forward, loss, backward and Adam on windows that are ready in memory, or `fit N`,
a whole fit of N steps by neuralforecast's own trainer on a table of noise.
"""

import json
import logging
import sys
import time
import warnings

import neuralforecast
import numpy as np
import pandas as pd
import torch
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import MQLoss
from neuralforecast.models import PatchTST

QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "accelerator": "cpu",
}


def patchtst(sizes: dict, steps: int) -> torch.nn.Module:
    """PatchTST on one channel, three quantiles."""
    return PatchTST(
        h=sizes["steps_ahead"],
        input_size=sizes["lookback"],
        encoder_layers=sizes["layers"],
        n_heads=sizes["heads"],
        hidden_size=sizes["width"],
        linear_hidden_size=sizes["feed_forward"],
        patch_len=sizes["patch_bars"],
        stride=sizes["stride_bars"],
        dropout=sizes["dropout"],
        fc_dropout=sizes["dropout"],
        loss=MQLoss(quantiles=[0.1, 0.5, 0.9]),
        windows_batch_size=sizes["batch"],
        max_steps=steps,
        **QUIET,
    )


MODELS = {"patchtst": patchtst}


def main(name: str, sizes: dict, threads: int) -> None:
    """Answer one line a line."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(threads)
    model = MODELS[name](sizes, 1).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = np.random.default_rng(0)
    windows = {
        "insample_y": torch.randn(sizes["batch"], sizes["lookback"], 1),
        "futr_exog": None,
        "hist_exog": None,
        "stat_exog": None,
    }
    target = torch.randn(sizes["batch"], sizes["steps_ahead"], 1)
    mask = torch.ones_like(target)
    table = pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(sizes["symbols"]), sizes["bars"]),
            "ds": np.tile(pd.date_range("2020-01-01", periods=sizes["bars"]), sizes["symbols"]),
            "y": generator.standard_normal(sizes["symbols"] * sizes["bars"]),
        }
    )

    def train(steps: int) -> None:
        for _ in range(steps):
            loss = model.loss(y=target, y_hat=model(windows), mask=mask)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def fit(steps: int) -> None:
        NeuralForecast(models=[MODELS[name](sizes, steps)], freq="D").fit(table)

    parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    say({"version": neuralforecast.__version__, "torch": torch.__version__, "parameters": parameters})
    for line in sys.stdin:
        what, steps = line.split()
        wall, cpu = time.perf_counter(), time.process_time()
        {"steps": train, "fit": fit}[what](int(steps))
        say({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu})


def say(values: dict) -> None:
    """One line of JSON."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
