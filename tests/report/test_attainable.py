"""The attainable IC of a simulated market: shown for what the simulator expected, never claimed for anything
else.
"""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from made_evaluation import evaluation_of

from components.contracts import ALL_PREDICTIONS, TIME, write_table
from components.report.attainable import attainable_share

DAYS = pl.datetime_range(
    datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 20, tzinfo=UTC), "1d", time_unit="us", eager=True
).cast(TIME)


@pytest.fixture
def run(tmp_path):
    """Artifacts, labels and evaluation of a run in which the simulator's expectation is the label itself."""
    rows = pl.DataFrame({"timestamp": DAYS}).join(pl.DataFrame({"symbol": ["A", "B", "C", "D"]}), how="cross")
    label = pl.Series(np.random.default_rng(1).normal(size=len(rows)))
    about = {
        "period": "1d",
        "target": "sector_neutral_return",
        "expert": "stack",
        "fold": "f",
        "train_window": "w",
    }
    numbers = {
        name: pl.lit(0.1) for name in ("score", "uncertainty", "p10", "p50", "p90", "head_scale", "head_bias")
    }
    predictions = rows.with_columns(
        horizon=pl.lit(5, pl.Int32), **{name: pl.lit(value) for name, value in about.items()}, **numbers
    )
    write_table(predictions, tmp_path / "predictions", ALL_PREDICTIONS, code_version="c", config_hash="h")
    rows.with_columns(expected_return_5=label).write_parquet(tmp_path / "truth")
    labels = pl.concat(
        rows.with_columns(horizon=pl.lit(horizon, pl.Int32), sector_neutral_return=label, log_return=label)
        for horizon in (5, 10)
    )
    return pl.read_parquet(tmp_path / "truth"), tmp_path / "predictions", labels, evaluation_of(0.4)


def test_the_share_of_what_was_attainable(run):
    found = attainable_share(*run)
    assert found.attainable_ic == pytest.approx(1.0)
    assert found.recovered_share == pytest.approx(0.4)


def test_real_data_has_no_known_attainable_ic(run):
    truth, *rest = run
    assert attainable_share(truth.clear(), *rest) is None


@pytest.mark.parametrize("other", [{"horizon": 10}, {"target": "log_return"}])
def test_another_horizon_or_target_has_no_known_attainable_ic(run, other):
    truth, predictions, labels, evaluation = run
    assert attainable_share(truth, predictions, labels, evaluation.model_copy(update=other)) is None
