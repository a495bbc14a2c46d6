"""What tasks ask a cluster for is enough for what their stages say that they need."""

import pytest

from components.backtest import run as backtest
from components.drift import run as drift
from components.experts import run as experts
from components.feature_store import run as feature_store
from components.gates import run as gates
from components.market import make_universe
from components.market import run as market
from components.memory.need import Need
from components.report import run as report
from components.selection import run as selection
from components.stacking import run as stacking
from components.validation import run as validation
from pipelines.runners.pods.memory import in_bytes
from pipelines.task_resources import BY_TASK

# Bars of the demo and of 500 symbols over ten years of days, and columns of their tables.
DEMO, LARGE = 45_000, 1_260_000
PANEL, FACTORS, TRAINING_SET, PREDICTIONS = 11, 261, 146, 15
# Rows of predictions for each bar: five experts predict half of the bars; with all combiners they are twelve.
OF_EXPERTS, OF_ALL = 2.5, 6
NEEDS: dict[str, tuple[Need, float, int]] = {
    "ingest": (market.NEED, 1, PANEL),
    "validate": (validation.NEED, 1, PANEL),
    "make-universe": (make_universe.NEED, 1, PANEL),
    "materialise": (feature_store.NEED, 1, FACTORS),
    "make-training-set": (feature_store.TRAINING_SET_NEED, 1, PANEL),
    "select-factors": (selection.NEED, 1, TRAINING_SET),
    "train-expert": (experts.NEED, 1, TRAINING_SET),
    "build-oof": (stacking.GATHERING, 1, TRAINING_SET),
    "stack": (stacking.STACKING, OF_EXPERTS, PREDICTIONS),
    "make-reference": (drift.NEED, 1, TRAINING_SET),
    "backtest": (backtest.NEED, 1, TRAINING_SET),
    "judge": (gates.NEED, OF_ALL, PREDICTIONS),
    "write-report": (report.NEED, 1, FACTORS),
}


@pytest.mark.parametrize("task", NEEDS)
def test_a_request_is_enough_for_the_demo_and_a_limit_for_ten_years_of_500_symbols(task):
    need, rows, columns = NEEDS[task]
    asked = BY_TASK[task]
    assert need.bytes(int(DEMO * rows), columns) <= in_bytes(asked.memory)
    # Half as much again: pages of files count too, though the kernel takes them back.
    assert 1.5 * need.bytes(int(LARGE * rows), columns) <= in_bytes(asked.memory_limit)
