"""Figures of class probabilities in an evaluation, and the gate over them: planted miscalibration and a
calibrated model, against other libraries.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from components.backtest.class_forecasts import measure_classes
from components.contracts import TIME

DAYS, SYMBOLS = 90, 30


def pairs(target: str = "trade_class", moved: float = 0.0, seed: int = 1) -> pl.DataFrame:
    """Labels drawn by the probabilities, which then say `moved` more of up than they should."""
    random = np.random.default_rng(seed)
    rows = DAYS * SYMBOLS
    chance = random.dirichlet([2, 3, 2], rows)
    if target == "trend":
        chance[:, 0], chance[:, 1] = chance[:, 0] + chance[:, 1], 0.0
    number = (random.random(rows)[:, None] > np.cumsum(chance, axis=1)).sum(axis=1)
    label = number - 1.0 if target == "trade_class" else (number == 2).astype(float)
    said = (1 - moved) * chance + moved * np.array([0.0, 0.0, 1.0])
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "timestamp": pl.Series(
                [start + timedelta(days=row // SYMBOLS) for row in range(rows)], dtype=TIME
            ),
            "symbol": [f"S{row % SYMBOLS:02d}" for row in range(rows)],
            "target": [target] * rows,
            "label": label,
            **{name: said[:, k] for k, name in enumerate(("p_down", "p_none", "p_up"))},
        }
    )


@pytest.mark.parametrize("target", ["trade_class", "trend"])
def test_figures_by_class_symbol_and_month(target):
    table = pairs(target)
    found = measure_classes(table)
    names = ["down", "none", "up"] if target == "trade_class" else ["down", "up"]
    assert [row.name for row in found.classes] == names
    up = found.classes[-1]
    happened = table["label"].to_numpy() == 1
    assert up.average_precision == pytest.approx(average_precision_score(happened, table["p_up"].to_numpy()))
    one_hot = np.stack(
        [table["label"].to_numpy() == value for value in ((-1, 0, 1) if len(names) == 3 else (0, 1))]
    )
    said = table.select("p_down", "p_none", "p_up").to_numpy().T[[0, 1, 2] if len(names) == 3 else [0, 2]]
    assert found.brier == pytest.approx(((one_hot - said) ** 2).sum(axis=0).mean())
    assert found.brier < found.brier_of_shares
    assert found.calibration_error < 0.04
    assert [row.name for row in found.by_month] == ["2024-01", "2024-02", "2024-03"]
    assert len(found.by_symbol) == SYMBOLS
    assert sum(row.rows for row in found.by_symbol) == found.rows == DAYS * SYMBOLS
    weighed = sum(row.brier * row.rows for row in found.by_month) / found.rows
    assert weighed == pytest.approx(found.brier)


def test_a_planted_shift_shows_in_the_calibration_error():
    honest, moved = (measure_classes(pairs(moved=moved)) for moved in (0.0, 0.3))
    assert honest.calibration_error < 0.04
    assert moved.calibration_error > 0.1
    assert moved.average_precision == pytest.approx(honest.average_precision)


def test_numbers_and_models_without_probabilities_have_no_such_figures():
    table = pairs()
    assert measure_classes(table.with_columns(target=pl.lit("log_return"))) is None
    assert measure_classes(table.drop("p_up")) is None
    assert measure_classes(table.with_columns(label=pl.lit(None, dtype=pl.Float64))) is None
    assert measure_classes(table.clear()) is None
