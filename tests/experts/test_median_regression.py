"""Median regression against scikit-learn's linear programme and the conditions of a minimum, among wild
labels, and as it is served.
"""

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import QuantileRegressor

from components.experts.families.elasticnet import Expert, Settings
from components.experts.leaves import load_leaf
from components.experts.median_regression import MedianRegression
from components.experts.protocol import Task
from components.experts.rows import all_to_learn, weighted_median
from components.metrics import information_coefficient
from components.scoring.expert import ServedExpert
from pipelines.config import LEAVES
from tests.experts.families.test_conformance import served
from tests.experts.market import INPUTS, fit_and_predict_frames, panel

COLUMNS = ["a", "b", "c"]


def rows(seed: int, count: int = 600) -> tuple[pl.DataFrame, np.ndarray]:
    """Inputs of unequal size, and a target with a few errors of enormous size, all to one side."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((count, 3)) * [0.3, 1.0, 0.5] + [0.1, 0.0, -0.2]
    error = generator.standard_normal(count)
    wild = generator.random(count) < 0.05
    wanted = x @ [1.0, -0.5, 0.0] + 0.7 + np.where(wild, 500 * np.abs(error), 0.3 * error)
    return pl.DataFrame(dict(zip(COLUMNS, x.astype(np.float32).T, strict=True))), wanted


def loss(wanted: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    return float(np.average(np.abs(wanted - score), weights=weight))


@pytest.mark.parametrize("weighted", [False, True])
def test_without_a_penalty_it_is_what_the_linear_programme_finds(weighted):
    frame, wanted = rows(1)
    wanted = np.clip(wanted, -10, 10)
    weight = np.random.default_rng(2).exponential(size=len(wanted)) if weighted else np.ones(len(wanted))
    weight /= weight.mean()
    made = MedianRegression(frame, COLUMNS, wanted, weight, 0.5)
    coefficients, intercept = made.solved(0.0, np.zeros(3), made.middle)
    exact = QuantileRegressor(quantile=0.5, alpha=0.0, solver="highs").fit(
        frame.to_numpy(), wanted, sample_weight=weight
    )
    found = frame.to_numpy() @ coefficients + intercept
    best = loss(wanted, exact.predict(frame.to_numpy()), weight)
    assert best <= loss(wanted, found, weight) * (1 + 1e-9) <= best * 1.002 * (1 + 1e-9)
    np.testing.assert_allclose(coefficients, exact.coef_, atol=0.06)
    assert intercept == pytest.approx(exact.intercept_, abs=0.03)


def test_with_a_penalty_no_other_coefficients_are_better():
    """By the conditions of a minimum: each coefficient's slope of the rounded loss is the penalty's."""
    frame, wanted = rows(3)
    wanted = np.clip(wanted, -3, 3)
    made = MedianRegression(frame, COLUMNS, wanted, None, 0.5)
    penalties = np.geomspace(0.5, 0.05, 6) * made.largest
    coefficients, intercepts = made.path(penalties)
    penalty = float(penalties[-1])
    own, intercept = made.solved(penalty, coefficients[:, -1], float(intercepts[-1]))
    x = frame.to_numpy().astype(float)
    error = wanted - x @ own - intercept
    pull = np.clip(error / made.rounded, -1, 1)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    slope, size = scaled.T @ pull / len(x), own * x.std(axis=0)
    for got, coefficient in zip(slope, size, strict=True):
        wanted_slope = penalty * (0.5 * np.sign(coefficient) + 0.5 * coefficient)
        assert abs(got - wanted_slope) < 2e-3 if coefficient else abs(got) <= 0.5 * penalty + 2e-3
    assert pull.mean() == pytest.approx(0.0, abs=2e-3)


def test_the_strongest_penalty_leaves_the_median_alone():
    frame, wanted = rows(4)
    made = MedianRegression(frame, COLUMNS, wanted, None, 1.0)
    coefficients, intercepts = made.path(np.array([1.001, 0.9]) * made.largest)
    assert not coefficients[:, 0].any()
    assert intercepts[0] == pytest.approx(np.median(wanted), abs=0.1)
    assert coefficients[:, 1].any()


def test_labels_that_are_all_the_same_teach_nothing():
    frame, _ = rows(5)
    made = MedianRegression(frame, COLUMNS, np.full(len(frame), 2.0), None, 0.5)
    coefficients, intercepts = made.path(np.array([0.5, 0.1]) * made.largest)
    assert (coefficients.tolist(), intercepts.tolist()) == ([[0.0, 0.0]] * 3, [2.0, 2.0])
    assert made.solved(0.0, coefficients[:, 0], intercepts[0])[1] == 2.0


@pytest.mark.parametrize(
    ("values", "weight", "middle"),
    [
        ([3, 1, 2], [1, 1, 1], 2),
        ([1, 2, 3, 9], [1, 1, 1, 1], 2.5),
        ([1, 2, 9], [1, 1, 8], 9),
        ([1, 5], [1, 1], 3),
    ],
)
def test_the_weighted_median_by_hand(values, weight, middle):
    assert weighted_median(np.array(values, float), np.array(weight, float)) == middle


@pytest.fixture(scope="module")
def fitted():
    """A squared and an absolute expert of one market, the labels of which are wild for 2 rows in 100."""
    market = panel(bars=250, seed=5, strength=0.6)
    wild = pl.Series(np.random.default_rng(0).random(len(market)) < 0.02)
    learned = market.with_columns(pl.when(wild).then(pl.lit(40.0)).otherwise(pl.col("label")).alias("label"))
    task = Task(
        period="1d", horizon=2, target="log_return", groups=INPUTS, seed=3, threads=1, transform="none"
    )
    experts = {}
    for name in ("squared", "absolute"):
        experts[name] = Expert(Settings(loss=name))
        experts[name].fit(fit_and_predict_frames(learned)[0], task, advance=lambda share, what: None)
    return market, fit_and_predict_frames(market)[1], experts


def test_wild_labels_do_not_pull_it_away(fitted):
    market, predict, experts = fitted
    wanted = market.select("timestamp", "symbol", "label")
    ic = {
        name: information_coefficient(expert.predict(predict), wanted)["ic"].mean()
        for name, expert in experts.items()
    }
    assert ic["absolute"] > 0.5
    assert ic["absolute"] > ic["squared"] + 0.05


def test_it_is_saved_and_served_as_it_predicts(fitted, tmp_path):
    _, predict, experts = fitted
    expert = experts["absolute"]
    expert.save(tmp_path)
    expert.export(tmp_path)
    again = Expert.load(tmp_path)
    assert again.settings.loss == "absolute"
    assert again.predict(predict).equals(expert.predict(predict))
    answer = served(ServedExpert(tmp_path, threads=1), predict)
    spread = expert.predict(predict)["score"].std()
    assert np.abs(answer.score - expert.predict(predict)["score"].to_numpy()).max() <= 1e-6 * spread


@pytest.mark.parametrize("loss", ["squared", "absolute"])
def test_blocks_choose_the_penalty_and_all_rows_are_learned_from(loss):
    """Of noise the strongest penalty is best on blocks; learning from all rows moves the coefficients of a
    signal, at the same penalty.
    """
    task = Task(period="1d", horizon=2, target="log_return", groups=INPUTS, seed=3, threads=1)
    found = {}
    for strength in (0.0, 0.6):
        fit = fit_and_predict_frames(panel(bars=200, seed=7, strength=strength))[0]
        expert = Expert(Settings(loss=loss, penalties=6))
        expert.fit(fit, task, advance=lambda share, what: None)
        before, penalty = expert.coefficients, expert.penalty
        expert.learn_all(all_to_learn(fit), task, advance=lambda share, what: None)
        assert expert.penalty == penalty
        found[strength] = np.abs(before).max(), np.abs(expert.coefficients - before).max()
    assert found[0.0][0] < 0.2 * found[0.6][0]
    assert 0 < found[0.6][1] < 0.3 * found[0.6][0]


def test_its_leaves_ask_for_it():
    leaf = load_leaf(
        LEAVES / "median_regression" / "1d" / "base.yaml", {"median_regression": {"penalties": 3}}
    )
    assert (leaf.expert, leaf.settings["loss"], leaf.settings["penalties"]) == (
        "median_regression",
        "absolute",
        3,
    )
