"""On simulated markets of the demo's size: no alarm where nothing was planted, and planted drift found.

The whole table: tests/benchmarks/bench_drift_alarms.py.
"""

import pytest

from components.drift.config import Settings
from components.drift.detect import detect
from pipelines.config import load_config
from tests.benchmarks.bench_drift_alarms import (
    PLANTED,
    factor_tables,
    own_newest,
    planted_case,
    reference_and_current,
)

CASES = (
    "mean + 0.5 sd of a rank",
    "variance x 2 of a rank",
    "tail, 4 % of rows x 8 of a factor over its own past",
    "dead factor of a market-wide factor",
    "rescaled x 100 of a rank",
)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_simulated_market(seed, tmp_path):
    settings = Settings(auc_windows=4)
    table, labels, entries = factor_tables(load_config("pipelines/configs/demo.yaml"), seed)
    current = reference_and_current(table, labels, entries, tmp_path, settings)
    result = detect(tmp_path, current, labels, settings)
    assert result.verdict == "no_drift", result.reason
    own = detect(tmp_path, own_newest(table), labels, settings)
    assert own.verdict == "no_drift", own.reason
    for name in CASES:
        found = planted_case(name, tmp_path, current, labels, settings)
        assert found == {"found": True, "what": PLANTED[name][1], "right": True, "others": []}, name
