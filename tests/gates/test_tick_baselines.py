"""Better than a baseline: net, by every step of either, of the judged policy and latency alone."""

from datetime import timedelta

import polars as pl
import pytest

from components.contracts import ALL_PREDICTIONS, LABELS, write_table
from components.contracts.tick_schemas import CURVE
from components.gates.judge_ticks import Inputs, run
from components.gates.tick_config import Settings
from tests.gates.tick_replays import STAMP, START, curve, replay, samples

OWN = pl.col("expert") == "causal_cnn"
GOOD, EQUAL = curve(0.5), curve(0.0)


def lucky(**other: str) -> pl.DataFrame:
    """No better, and far better where nobody judges it."""
    elsewhere = EQUAL.with_columns(pl.lit(value).alias(name) for name, value in other.items())
    elsewhere = elsewhere.with_columns(gross=pl.when(OWN).then(50.0).otherwise(0.0))
    return pl.concat([EQUAL, elsewhere])


@pytest.mark.parametrize(
    ("steps", "better"),
    [
        (GOOD, True),
        (GOOD.with_columns(fees=pl.when(OWN).then(0.5).otherwise(0.0)), False),
        (lucky(policy="passive"), False),
        (lucky(latency="10ms"), False),
        # In most steps it did not trade, and the baseline earned.
        (GOOD.filter(~OWN | (pl.col("timestamp") < START + timedelta(seconds=100))), False),
    ],
    ids=["better", "fees", "policy", "latency", "steps"],
)
def test_a_baseline_is_beaten_net_over_every_step(tmp_path, steps, better):
    replay().write(tmp_path / "found.json")
    write_table(steps.sort(CURVE.key), tmp_path / "curve.parquet", CURVE, **STAMP)
    predictions, labels = samples(1.5)
    write_table(predictions, tmp_path / "predictions.parquet", ALL_PREDICTIONS, **STAMP)
    write_table(labels, tmp_path / "labels.parquet", LABELS, **STAMP)
    names = ("found.json", "curve.parquet", "predictions.parquet", "labels.parquet")
    inputs = Inputs(*(str(tmp_path / name) for name in names))
    verdict = run(inputs, str(tmp_path / "verdict.json"), settings=Settings().model_dump_json(), code="c")
    gate = next(gate for gate in verdict.gates if gate.name == "better_than_touch_imbalance")
    assert gate.passed is better
