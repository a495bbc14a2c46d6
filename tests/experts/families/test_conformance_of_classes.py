"""What every expert must do with a target of classes: give probabilities that sum to 1, that are served as
they are computed, that learn a planted signal and hold what they promise.
"""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from components.contracts.classes import CLASS_COLUMNS
from components.experts.classes import class_numbers, precision_loss
from components.experts.errors import ExpertError
from components.experts.leaves import known_experts
from components.experts.protocol import PREDICTION_COLUMNS
from components.experts.training.check import check_predictions
from components.metrics import information_coefficient
from components.metrics.classes import class_figures
from components.scoring.expert import ServedExpert
from tests.experts.families.test_conformance import (
    NETWORKS,
    TASK,
    awkward,
    make,
    module_of,
    served,
)
from tests.experts.market import fit_and_predict_frames, panel

CLASSIFIERS = known_experts()
LEARNERS = [name for name in CLASSIFIERS if name != "median"]
# Networks share the code that these tests are about, and take long to fit and to export: one stands for all.
QUICK = [name for name in CLASSIFIERS if name not in NETWORKS or name == "patchtst"]
VALUES = (-1, 0, 1)
THREE = replace(TASK, target="trade_class")
TWO = replace(TASK, target="trend")


def classes_of(rows: pl.DataFrame) -> pl.DataFrame:
    """A move pays where it is larger than half the symbol's volatility."""
    label, cost = pl.col("label"), pl.col("volatility_20").cast(pl.Float64) / 2
    return rows.with_columns(pl.when(label.abs() > cost).then(label.sign()).otherwise(0.0).alias("label"))


# A network needs more steps for a class than for an order.
STEPS = {"training": {"epochs": 8}, "optimiser": {"learning_rate": 1e-2}}


def fitted(name: str, frame: pl.DataFrame, task=THREE, **settings):
    expert = make(name, **(STEPS if name in NETWORKS else {}), **settings)
    expert.fit(frame, task, advance=lambda share, what: None)
    return expert


@pytest.fixture(scope="module")
def market() -> pl.DataFrame:
    return classes_of(panel(bars=150, seed=5, strength=0.6))


@pytest.fixture(scope="module")
def frames(market):
    return fit_and_predict_frames(market)


@pytest.fixture(scope="module")
def models(frames):
    return {name: fitted(name, frames[0]) for name in CLASSIFIERS}


def against_labels(found: pl.DataFrame, market: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [B, 3] and the class of each row [B]."""
    both = found.join(market.select("timestamp", "symbol", "label"), on=("timestamp", "symbol"))
    return both.select(CLASS_COLUMNS).to_numpy(), class_numbers(both, VALUES)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_predictions_of_classes_keep_the_contract(name, frames, models):
    wanted = frames[1].select("timestamp", "symbol")
    found = check_predictions(
        models[name].predict(frames[1]), wanted, expert=name, fold="fold_00", classes=VALUES
    )
    assert found.columns == [*PREDICTION_COLUMNS, *CLASS_COLUMNS]
    down, none, up = (found[column].to_numpy() for column in CLASS_COLUMNS)
    np.testing.assert_allclose(found["score"], up - down, atol=1e-12)
    np.testing.assert_allclose(found["uncertainty"], np.sqrt(up + down - (up - down) ** 2), atol=1e-12)
    np.testing.assert_array_equal(found["p10"], np.select([down >= 0.1, down + none >= 0.1], [-1, 0], 1))
    np.testing.assert_array_equal(found["p90"], np.select([down >= 0.9, down + none >= 0.9], [-1, 0], 1))


@pytest.mark.parametrize("name", QUICK)
def test_a_target_of_two_classes_has_no_none(name, frames):
    two = [frame.with_columns((pl.col("label") > 0).cast(pl.Float64)) for frame in frames]
    found = fitted(name, two[0], TWO).predict(two[1])
    check_predictions(found, two[1].select("timestamp", "symbol"), expert=name, fold="f", classes=(0, 1))
    assert (found["p_none"] == 0).all()
    np.testing.assert_allclose(found["score"], found["p_up"], atol=1e-15)


@pytest.mark.parametrize("name", QUICK)
def test_probabilities_are_served_as_they_are_computed(name, frames, models, tmp_path):
    models[name].save(tmp_path)
    models[name].export(tmp_path)
    frame = awkward(frames[1])
    expected, found = models[name].predict(frame), served(ServedExpert(tmp_path, threads=1), frame)
    tolerance = 1e-5 if name in NETWORKS else 1e-6
    np.testing.assert_allclose(found.chances, expected.select(CLASS_COLUMNS).to_numpy(), atol=tolerance)
    np.testing.assert_allclose(found.score, expected["score"].to_numpy(), atol=tolerance)
    np.testing.assert_allclose(found.uncertainty, expected["uncertainty"].to_numpy(), atol=tolerance)
    loaded = module_of(name).Expert.load(tmp_path)
    assert_frame_equal(loaded.predict(frames[1]), models[name].predict(frames[1]), check_exact=True)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_planted_class_is_learned_and_its_probabilities_hold(name, frames, models, market):
    found = models[name].predict(frames[1])
    chance_B3, number_B = against_labels(found, market)
    share = [float((number_B == number).mean()) for number in range(3)]
    assert -precision_loss(chance_B3, number_B) > np.mean(share) + 0.15
    ic = information_coefficient(found, market.select("timestamp", "symbol", "label"))["ic"].mean()
    assert ic > 0.3
    briers = []
    for number in range(3):
        pairs = pl.DataFrame({"chance": chance_B3[:, number], "happened": number_B == number})
        figures = class_figures(pairs, bins=4).row(0, named=True)
        # A temperature mends how sure a network is, not its shares, and this one saw each row a few times.
        assert figures["calibration_error"] < (0.16 if name in NETWORKS else 0.07)
        briers.append(figures["brier"])
        assert name in NETWORKS or briers[-1] < share[number] * (1 - share[number])
    assert sum(briers) < sum(part * (1 - part) for part in share)


@pytest.mark.parametrize("name", [name for name in QUICK if name != "median"])
def test_noise_teaches_no_class(name):
    market = classes_of(panel(bars=150, seed=6, strength=0.0))
    fit, predict = fit_and_predict_frames(market)
    chance_B3, number_B = against_labels(fitted(name, fit).predict(predict), market)
    frequency = np.bincount(number_B, minlength=3) / len(number_B)
    loss = -np.log(chance_B3[np.arange(len(number_B)), number_B]).mean()
    assert loss < -(frequency * np.log(frequency)).sum() + 0.03


def test_the_median_is_the_frequency_of_the_train_rows(frames, models):
    label = frames[0].filter(pl.col("part") == "train")["label"]
    found = models["median"].predict(frames[1]).select(CLASS_COLUMNS).unique()
    expected = [(float((label == value).sum()) + 0.5) / (len(label) + 1.5) for value in VALUES]
    assert len(found) == 1
    np.testing.assert_allclose(found.row(0), expected, rtol=1e-12)


@pytest.mark.parametrize("name", QUICK)
def test_a_class_that_the_train_rows_never_had_is_survived(name, frames):
    without = frames[0].filter(pl.col("label") != 0)
    found = fitted(name, without).predict(frames[1])
    check_predictions(found, frames[1].select("timestamp", "symbol"), expert=name, fold="f", classes=VALUES)
    assert found["p_none"].max() < 0.05


@pytest.mark.parametrize("name", QUICK)
def test_a_label_that_is_no_class_is_refused(name, frames):
    strange = frames[0].with_columns(pl.col("label") * 0.5)
    with pytest.raises(ExpertError, match=r"labels are no class, first -?0\.5"):
        fitted(name, strange)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_a_warm_start_adds_rounds_and_one_of_a_number_is_left_aside(name, frames, models):
    def rounds(expert) -> int:
        trees = expert.booster
        return trees.current_iteration() if name == "lightgbm" else trees.num_boosted_rounds()

    further, anew = make(name), make(name)
    further.fit(frames[0], THREE, advance=lambda share, what: None, warm_start=models[name])
    assert rounds(further) == 2 * rounds(models[name])
    number = make(name)
    number.fit(frames[0], TASK, advance=lambda share, what: None)
    anew.fit(frames[0], THREE, advance=lambda share, what: None, warm_start=number)
    assert_frame_equal(anew.predict(frames[1]), models[name].predict(frames[1]), check_exact=True)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_early_stopping_of_classes_watches_average_precision(name, frames):
    stopped = fitted(name, frames[0], rounds=80, patience_rounds=5, fewest_rounds=5, learning_rate=0.3)
    trees = stopped.booster
    assert 5 <= (trees.current_iteration() if name == "lightgbm" else trees.num_boosted_rounds()) < 80
