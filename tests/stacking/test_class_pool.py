"""The stack's probabilities: pooled, at a temperature from rows known before, served as they are computed."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import TIME
from components.scoring.classes import probabilities
from components.scoring.stacker import Pool, read_stacker
from components.stacking.calibrate import LabelKind, fit_head, predict_block
from components.stacking.combiners import EQUAL, fit_combiner
from components.stacking.config import Settings
from components.stacking.inputs import combiner_inputs
from components.stacking.served_form import served_files, write_model

EXPERTS = ["one", "two"]
KIND = LabelKind((-1, 0, 1), 1)
SYMBOLS = 20


def oof(bars: int, seed: int, sureness: float) -> pl.DataFrame:
    """Two experts that know the true logits up to noise, and say them `sureness` times as loud."""
    random = np.random.default_rng(seed)
    rows = bars * SYMBOLS
    truth = random.normal(0, 0.8, (rows, 3))
    number = np.argmax(truth + random.gumbel(size=(rows, 3)), axis=1)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    table = {
        "timestamp": pl.Series([start + timedelta(days=row // SYMBOLS) for row in range(rows)], dtype=TIME),
        "symbol": [f"S{row % SYMBOLS:02d}" for row in range(rows)],
        "label": number - 1.0,
        "label_end": pl.Series(
            [start + timedelta(days=row // SYMBOLS + 2) for row in range(rows)], dtype=TIME
        ),
        "regime": ["bull"] * rows,
        "horizon": pl.Series([1] * rows, dtype=pl.Int32),
    }
    for name in EXPERTS:
        chance = probabilities(sureness * (truth + random.normal(0, 0.2, truth.shape)), 1.0)
        table |= {f"score_{name}": chance[:, 2] - chance[:, 0], f"uncertainty_{name}": np.ones(rows)}
        table |= {f"{column}_{name}": chance[:, k] for k, column in enumerate(("p_down", "p_none", "p_up"))}
    return pl.DataFrame(table)


def head_of(known: pl.DataFrame):
    settings = Settings(min_train_bars=5)
    combiner = fit_combiner(EQUAL, known, EXPERTS, settings, 1)
    return combiner, fit_head(EQUAL, combiner, known, EXPERTS, settings, 1, KIND)


def log_loss(found: pl.DataFrame, label: pl.Series) -> float:
    chance = found.select("p_down", "p_none", "p_up").to_numpy()
    return float(-np.log(chance[np.arange(len(label)), label.to_numpy().astype(int) + 1]).mean())


@pytest.mark.parametrize("sureness", [0.4, 3.0])
def test_experts_that_are_too_sure_or_not_sure_enough_are_mended_on_rows_to_come(sureness):
    table = combiner_inputs(oof(120, 1, sureness), EXPERTS)
    known, block = table.head(60 * SYMBOLS), table.tail(60 * SYMBOLS)
    combiner, head = head_of(known)
    mended = predict_block(combiner, block, known, head)
    plain = predict_block(combiner, block, known, type(head)(**{**vars(head), "pool": Pool((-1, 0, 1), 1.0)}))
    assert log_loss(mended, block["label"]) < log_loss(plain, block["label"]) - 0.02
    assert (head.pool.temperature > 1) == (sureness > 1)


def test_calibrated_experts_are_left_alone():
    moved = [
        head_of(combiner_inputs(oof(60, seed, 1.0), EXPERTS))[1].pool.temperature - 1 for seed in range(8)
    ]
    assert np.abs(moved).max() < 0.15


def test_the_labels_of_the_block_move_nothing():
    table = combiner_inputs(oof(60, 3, 2.0), EXPERTS)
    known, block = table.head(40 * SYMBOLS), table.tail(20 * SYMBOLS)
    combiner, head = head_of(known)
    turned = block.with_columns(-pl.col("label"))
    assert predict_block(combiner, block, known, head).equals(predict_block(combiner, turned, known, head))


def test_the_pool_is_served_as_it_is_computed(tmp_path):
    table = combiner_inputs(oof(40, 4, 2.0), EXPERTS)
    combiner, head = head_of(table)
    write_model(served_files(EQUAL, combiner, EXPERTS, head), tmp_path)
    served = read_stacker(tmp_path, threads=1)
    assert served.head == head
    found = predict_block(combiner, table, table, head)
    total = found.select(pl.sum_horizontal("p_down", "p_none", "p_up")).to_series()
    assert total.to_numpy() == pytest.approx(1.0)


def test_before_any_label_is_known_the_pool_is_as_the_experts_are():
    table = combiner_inputs(oof(10, 5, 1.0), EXPERTS)
    combiner, head = head_of(table.clear())
    found = predict_block(combiner, table, table.clear(), head)
    mean = (table["p_up_one"] + table["p_up_two"]) / 2
    assert found["p_up"].to_numpy() == pytest.approx(mean.to_numpy())
