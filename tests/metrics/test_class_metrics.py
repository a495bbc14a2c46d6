"""Figures of class probabilities: scikit-learn and numbers worked out by a loop as oracles, planted
miscalibration and a calibrated forecast.
"""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss

from components.metrics.classes import average_precision, class_figures, class_reliability


def pairs(rows: int, seed: int, digits: int = 12) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    chance = np.round(random.random(rows), digits)
    return pl.DataFrame(
        {
            "symbol": random.choice(["A", "B", "C"], rows),
            "chance": chance,
            "happened": random.random(rows) < chance,
        }
    )


def error_by_loop(chance, happened, bins: int) -> float:
    """Rows sorted and cut into equal parts, one part after the other."""
    order = sorted(range(len(chance)), key=lambda row: chance[row])
    parts = [order[len(order) * part // bins : len(order) * (part + 1) // bins] for part in range(bins)]
    total = 0.0
    for part in parts:
        total += abs(sum(chance[row] for row in part) - sum(float(happened[row]) for row in part))
    return total / len(chance)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40).filter(
        lambda rows: any(happened for _, happened in rows)
    )
)
@settings(max_examples=60, deadline=None)
def test_average_precision_is_that_of_another_library(rows):
    chance, happened = np.array([row[0] for row in rows]) / 5, np.array([row[1] for row in rows])
    assert average_precision(chance, happened) == pytest.approx(average_precision_score(happened, chance))
    figures = class_figures(pl.DataFrame({"chance": chance, "happened": happened}))
    assert figures["average_precision"][0] == pytest.approx(average_precision_score(happened, chance))


def test_of_what_never_happened_there_is_no_average_precision():
    never = pl.DataFrame({"chance": [0.1, 0.2], "happened": [False, False]})
    assert np.isnan(average_precision(never["chance"].to_numpy(), never["happened"].to_numpy()))
    assert class_figures(never)["average_precision"][0] is None


@pytest.mark.parametrize("digits", [2, 12])
def test_figures_by_group_are_those_of_other_libraries(digits):
    rows = pairs(1500, 2, digits)
    by_symbol = class_figures(rows, by=("symbol",))
    assert by_symbol["symbol"].to_list() == ["A", "B", "C"]
    for figures in by_symbol.to_dicts():
        part = rows.filter(pl.col("symbol") == figures["symbol"])
        chance, happened = part["chance"].to_numpy(), part["happened"].to_numpy()
        assert figures["rows"] == len(part)
        assert figures["share"] == pytest.approx(happened.mean())
        assert figures["predicted"] == pytest.approx(chance.mean())
        assert figures["brier"] == pytest.approx(brier_score_loss(happened, chance))
        assert figures["average_precision"] == pytest.approx(average_precision_score(happened, chance))
        if digits == 12:
            expected = error_by_loop(chance, happened, min(10, len(part) // 100))
            assert figures["calibration_error"] == pytest.approx(expected, abs=2.5 / len(part))


def test_the_calibration_error_by_hand():
    """Two bins of 100: probabilities .2 and .6, of which .3 and .5 happened: (.1 + .1) / 2."""
    rows = pl.DataFrame(
        {
            "chance": [0.2] * 100 + [0.6] * 100,
            "happened": [True] * 30 + [False] * 70 + [True] * 50 + [False] * 50,
        }
    )
    assert class_figures(rows)["calibration_error"][0] == pytest.approx(0.1)
    assert class_reliability(rows).rows() == [(1, 0.2, 0.3, 100), (2, pytest.approx(0.6), 0.5, 100)]


def test_planted_miscalibration_shows_and_calibration_does_not():
    honest = pairs(20_000, 3)
    surer = honest.with_columns(
        chance=pl.col("chance").pow(2) / (pl.col("chance").pow(2) + (1 - pl.col("chance")).pow(2))
    )
    moved = honest.with_columns(chance=(pl.col("chance") + 0.15).clip(0, 1))
    errors = [class_figures(rows)["calibration_error"][0] for rows in (honest, surer, moved)]
    assert errors[0] < 0.015
    assert errors[1] > 0.08
    assert errors[2] > 0.12
    # What only bends probabilities orders rows as before.
    found = [class_figures(rows)["average_precision"][0] for rows in (honest, surer)]
    assert found[0] == pytest.approx(found[1])
