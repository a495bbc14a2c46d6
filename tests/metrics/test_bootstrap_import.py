"""The bootstrap of arch comes without Matplotlib, as the same code, and leaves arch itself to be imported."""

import subprocess
import sys

import pytest

SLOW = ("matplotlib", "statsmodels")


@pytest.mark.parametrize(
    ("first", "slow"),
    [("", []), ("import arch\n", [*SLOW])],
    ids=["alone", "after arch itself"],
)
def test_a_length_of_blocks_needs_no_models_of_volatility(first, slow):
    code = (
        f"import sys\n{first}"
        "import numpy\nfrom components.metrics.blocks import block_length\n"
        "from components.metrics.bootstrap_import import import_bootstrap\n"
        "values = numpy.random.default_rng(1).normal(size=400).cumsum()\n"
        f"print(block_length(values), [name for name in {SLOW!r} if name in sys.modules])\n"
        "from arch import arch_model, bootstrap\n"
        "assert bootstrap is import_bootstrap() and bootstrap.SPA\n"
        "again = bootstrap.optimal_block_length(values)['stationary'].item()\n"
        "assert block_length(values) == int(numpy.ceil(again))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[1].strip() == str(slow)
