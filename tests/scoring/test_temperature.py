"""The temperature of class probabilities: planted miscalibration that it must mend, and a calibrated
classifier that it must leave alone.
"""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from components.scoring.classes import class_answer, probabilities, sharpened
from components.scoring.temperature import fit_temperature

CLASSES = 3


def drawn(bars: int, symbols: int, seed: int) -> tuple[np.ndarray, ...]:
    """Logits, classes drawn by exactly their probabilities, and bars."""
    random = np.random.default_rng(seed)
    rows = bars * symbols
    logits = random.normal(0, 1.0, (rows, CLASSES))
    bar = np.repeat(np.arange(bars), symbols)
    return logits, np.argmax(logits + random.gumbel(size=(rows, CLASSES)), axis=1), bar


@pytest.mark.parametrize("planted", [0.25, 0.5, 2.0, 3.0])
def test_a_planted_temperature_is_found(planted):
    logits, number, bar = drawn(200, 30, seed=1)
    found = fit_temperature(logits * planted, number, bar, 1)
    assert found == pytest.approx(planted, rel=0.05)
    np.testing.assert_allclose(probabilities(logits * planted, found), probabilities(logits, 1.0), atol=0.03)


def test_a_calibrated_classifier_is_left_alone():
    moved = [fit_temperature(*drawn(60, 20, seed), 1) - 1 for seed in range(40)]
    assert np.abs(moved).max() < 0.15
    assert np.median(np.abs(moved)) < 0.015
    assert abs(np.mean(moved)) < 0.01


def test_few_independent_bars_move_it_less_than_many_rows_would():
    """The symbols of a bar share its luck, and labels of neighbours overlap: the same rows say less."""
    logits, number, bar = drawn(30, 40, seed=3)
    alone = np.arange(len(bar))
    planted = [abs(fit_temperature(logits * 1.15, number, *how) - 1) for how in ((alone, 1), (bar, 20))]
    assert planted[1] < planted[0]


def test_copies_of_a_row_within_its_bar_say_nothing_more():
    logits, number, _ = drawn(60, 1, seed=4)
    bar = np.arange(60)
    once = fit_temperature(logits * 1.5, number, bar, 1)
    again = fit_temperature(*(np.repeat(each, 20, axis=0) for each in (logits * 1.5, number, bar)), 1)
    assert again == pytest.approx(once)
    apart = np.arange(1200)
    many = fit_temperature(np.repeat(logits * 1.5, 20, axis=0), np.repeat(number, 20), apart, 1)
    assert abs(many - 1) > 1.05 * abs(once - 1)


def test_without_shrinkage_it_is_the_likeliest_one():
    """So many rows that nothing is shrunk, against a search by another library."""
    logits, number, bar = drawn(400, 50, seed=5)

    def loss(temperature: float) -> float:
        chance = probabilities(2.0 * logits, temperature)
        return -np.log(chance[np.arange(len(number)), number]).mean()

    found = minimize_scalar(loss, bounds=(0.2, 10.0), method="bounded").x
    assert fit_temperature(2.0 * logits, number, bar, 1) == pytest.approx(found, rel=2e-3)


def test_logits_that_say_nothing_or_everything_have_a_temperature():
    number, bar = np.array([0, 1, 2, 1]), np.arange(4)
    assert fit_temperature(np.zeros((4, 3)), number, bar, 1) == 1.0
    sure = np.eye(3)[number] * 30.0
    assert 0 < fit_temperature(sure, number, bar, 1) <= 1.0
    assert fit_temperature(-sure, number, bar, 1) > 1.0


def test_probabilities_by_hand():
    np.testing.assert_allclose(probabilities(np.log([[1.0, 2.0, 1.0]]), 1.0), [[0.25, 0.5, 0.25]])
    np.testing.assert_allclose(probabilities(np.log([[1.0, 4.0, 1.0]]), 2.0), [[0.25, 0.5, 0.25]])
    np.testing.assert_allclose(sharpened(np.array([[0.2, 0.0, 0.8]]), 0.5), [[1 / 17, 0.0, 16 / 17]])
    assert probabilities(np.array([[0.0, -1000.0]]), 1.0)[0, 1] == pytest.approx(1e-6, rel=1e-5)


def test_what_probabilities_say_of_the_label_by_hand():
    found = class_answer(np.array([[0.05, 0.15, 0.8], [0.5, 0.5, 0.0]]), (-1, 0, 1))
    np.testing.assert_allclose(found.score, [0.75, -0.5])
    np.testing.assert_allclose(found.uncertainty, [np.sqrt(0.85 - 0.75**2), 0.5])
    assert [found.p10.tolist(), found.p50.tolist(), found.p90.tolist()] == [[0, -1], [1, -1], [1, 0]]
