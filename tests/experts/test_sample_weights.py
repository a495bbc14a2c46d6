"""The column `weight`: how much each train row counts, for every tabular expert; and what is
refused in it.
"""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from components.experts.errors import ExpertError
from components.experts.leaves import Leaf, expert_module
from components.experts.protocol import Task
from components.experts.rows import rank_correlation, weighted_median
from tests.experts.market import INPUTS, fit_and_predict_frames, panel

SETTINGS = {
    "median": {},
    "elasticnet": {"penalties": 1, "smallest_penalty": 0.01},
    "lightgbm": {
        "rounds": 40,
        "patience_rounds": 0,
        "learning_rate": 0.1,
        "column_share": 1.0,
        "leaves": 7,
        "row_share": 1.0,
    },
    "xgboost": {
        "rounds": 40,
        "patience_rounds": 0,
        "learning_rate": 0.1,
        "column_share": 1.0,
        "depth": 3,
        "row_share": 1.0,
        "device": "cpu",
    },
}
LEARNERS = ["elasticnet", "lightgbm", "xgboost"]
TASK = Task(period="1d", horizon=2, target="log_return", groups=INPUTS, seed=3, threads=1)


def fitted(name: str, frame: pl.DataFrame):
    module = expert_module(Leaf(expert=name, period="1d"))
    expert = module.Expert(module.Settings(**SETTINGS[name]))
    expert.fit(frame, TASK, advance=lambda share, what: None)
    return expert


@pytest.fixture(scope="module")
def frames() -> tuple[pl.DataFrame, pl.DataFrame]:
    """In half of the train rows (`odd`) the signal has the wrong sign."""
    rows = panel(bars=120, symbols=20, seed=4, strength=0.5)
    rows = rows.with_columns(odd=pl.col("symbol").str.slice(1).cast(pl.Int32) % 2 == 1)
    fit, predict = fit_and_predict_frames(rows)
    return (
        fit.with_columns(
            label=pl.when(pl.col("odd") & (pl.col("part") == "train"))
            .then(-pl.col("label"))
            .otherwise(pl.col("label"))
        ),
        predict,
    )


def weighed(frame: pl.DataFrame, odd: float, even: float = 1.0) -> pl.DataFrame:
    return frame.with_columns(
        pl.when(pl.col("odd")).then(pl.lit(odd)).otherwise(pl.lit(even)).alias("weight")
    )


def skill(expert, frames) -> float:
    rows = panel(bars=120, symbols=20, seed=4, strength=0.5).join(
        frames[1], on=["timestamp", "symbol"], how="semi", maintain_order="left"
    )
    found = expert.predict(frames[1])
    return rank_correlation(found["timestamp"], found["score"].to_numpy(), rows["label"].to_numpy())


@pytest.mark.parametrize("name", LEARNERS)
def test_rows_of_little_weight_teach_little(name, frames):
    known = skill(fitted(name, weighed(frames[0], 0.05)), frames)
    misled = skill(fitted(name, weighed(frames[0], 1.0, 0.05)), frames)
    assert known > 0.3, "the rows that are right have the say"
    assert misled < 0.2, "the same rows, with the say turned round"


@pytest.mark.parametrize("name", list(SETTINGS))
def test_equal_weights_are_no_weights(name, frames):
    plain, even = (
        fitted(name, frames[0]).predict(frames[1]),
        fitted(name, weighed(frames[0], 7.0, 7.0)).predict(frames[1]),
    )
    assert_frame_equal(plain, even, abs_tol=1e-7)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_weights_of_early_stopping_rows_do_not_matter(name, frames):
    other = weighed(frames[0], 0.3).with_columns(
        weight=pl.when(pl.col("part") == "train").then("weight").otherwise(99.0)
    )
    assert_frame_equal(
        fitted(name, weighed(frames[0], 0.3)).predict(frames[1]),
        fitted(name, other).predict(frames[1]),
        check_exact=True,
    )


def test_a_row_of_weight_two_is_a_row_that_is_there_twice(frames):
    """ElasticNet has an exact answer: rows doubled by weight and rows written twice give the same
    coefficients.
    """
    train = frames[0].filter(pl.col("part") == "train")
    twice = pl.concat([frames[0], train.filter("odd")]).sort("timestamp", "symbol")
    settings = {"penalties": 1, "smallest_penalty": 0.01}
    module = expert_module(Leaf(expert="elasticnet", period="1d"))
    found = []
    for frame in (twice, weighed(frames[0], 2.0)):
        expert = module.Expert(module.Settings(**settings))
        expert.fit(frame, replace(TASK, transform="none"), advance=lambda share, what: None)
        found.append(expert)
    np.testing.assert_allclose(found[0].coefficients, found[1].coefficients, rtol=1e-5, atol=1e-9)
    assert found[0].intercept == pytest.approx(found[1].intercept, abs=1e-9)
    assert np.count_nonzero(found[0].coefficients) > 0


def test_the_weighted_median_by_hand():
    labels = np.array([5.0, 1.0, 3.0])
    assert weighted_median(labels, np.array([1.0, 1.0, 1.0])) == 3.0
    assert weighted_median(labels, np.array([0.2, 2.0, 0.8])) == 1.0
    assert weighted_median(labels, np.array([1.0, 1.0, 0.0])) == 3.0, (
        "half of the weight lies on either side of anything between 1 and 5"
    )


@pytest.mark.parametrize("name", list(SETTINGS))
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "missing, negative or infinite"),
        (-1.0, "missing, negative or infinite"),
        (float("inf"), "missing, negative or infinite"),
    ],
)
def test_weights_that_say_nothing_are_refused(name, value, words, frames):
    first = pl.int_range(pl.len()) == 3
    with pytest.raises(ExpertError, match=f"1 of .* are {words}"):
        fitted(
            name,
            weighed(frames[0], 1.0).with_columns(
                weight=pl.when(first).then(pl.lit(value, dtype=pl.Float64)).otherwise("weight")
            ),
        )
    with pytest.raises(ExpertError, match="all are 0"):
        fitted(name, weighed(frames[0], 0.0, 0.0))
