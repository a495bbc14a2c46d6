"""neuralforecast's own TFT, for `bench_tft.py`: runs in an interpreter that has neuralforecast and imports
nothing of this project.

`python neuralforecast_tft.py SIZES THREADS`, SIZES a JSON object; says who it is on one line of standard
output, then trains as many steps as each line of standard input asks for and answers with their seconds of
wall clock and CPU. A step is forward, loss, backward and Adam on windows that are ready in memory: without
Lightning and without the drawing of windows.
"""

import json
import logging
import sys
import time
import warnings

import torch


def main(sizes: dict, threads: int) -> None:
    """Answer one line a line."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    import neuralforecast
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import TFT

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    bars, steps, rows, further = sizes["lookback"], sizes["steps"], sizes["batch"], sizes["further_inputs"]
    loss = MQLoss(quantiles=[0.1, 0.5, 0.9])
    names = [f"x{number}" for number in range(further)]
    model = TFT(
        h=steps,
        input_size=bars,
        hidden_size=sizes["width"],
        n_head=sizes["heads"],
        dropout=sizes["dropout"],
        hist_exog_list=names or None,
        loss=loss,
        max_steps=1,
    )
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    windows = {
        "insample_y": torch.randn(rows, bars, 1),
        "futr_exog": None,
        "hist_exog": torch.randn(rows, bars, further) if further else None,
        "stat_exog": None,
    }
    target = torch.randn(rows, steps, 1)
    mask = torch.ones_like(target)
    say(
        {
            "version": neuralforecast.__version__,
            "torch": torch.__version__,
            "parameters": sum(weight.numel() for weight in model.parameters()),
        }
    )
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            found = model(windows)
            value = loss(y=target, y_hat=found, mask=mask)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
        learning = sum(
            weight.numel() for weight in model.parameters() if weight.grad is not None and weight.grad.any()
        )
        say({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "learning": learning})


def say(values: dict) -> None:
    """One line of JSON."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]))
