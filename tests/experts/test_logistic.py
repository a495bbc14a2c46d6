"""Logistic regression on the Gram matrix against scikit-learn's, which looks at all rows in every step."""

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from components.experts.logistic import ClassRows, fit_logistic, logits

INPUTS = 6


def made(rows: int, seed: int, strength: float, classes: int = 3, shares=(0.0, 1.0, 0.0)):
    random = np.random.default_rng(seed)
    values = random.uniform(-1, 1, (rows, INPUTS)) @ (np.eye(INPUTS) + 0.3)
    values = values.astype(np.float32)
    weights = random.normal(0, strength, (INPUTS, classes)) * (np.arange(INPUTS) < 3)[:, None]
    luck = values @ weights + np.array(shares[:classes]) + random.gumbel(size=(rows, classes))
    frame = pl.DataFrame(values, schema=[f"x{i}" for i in range(INPUTS)])
    return frame, np.argmax(luck, axis=1)


def fitted(frame, number, classes, share, l1_ratio, weight=None):
    rows = ClassRows(frame, frame.columns, number, weight)
    return fit_logistic(rows, rows, classes, np.array([share]), l1_ratio)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("strength", [0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_optimum_that_another_library_finds(classes, strength, weighted):
    frame, number = made(2000, 1, strength, classes)
    weight = np.random.default_rng(2).uniform(0, 2, len(number)) if weighted else None
    weight = None if weight is None else weight / weight.mean()
    found = fitted(frame, number, classes, 0.05, 0.5, weight)
    # Both standardise, weighted: the penalty is on coefficients of standardised inputs.
    values = frame.to_numpy().astype(float)
    mean = np.average(values, axis=0, weights=weight)
    spread = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weight))
    other = LogisticRegression(
        solver="saga", l1_ratio=0.5, C=1 / (len(number) * found.penalty), tol=1e-8, max_iter=5000
    ).fit((values - mean) / spread, number, sample_weight=weight)
    ours, theirs = (logits(frame, frame.columns, found), other.decision_function((values - mean) / spread))
    if classes == 2:
        # scikit-learn has one logit of two classes: the same optimum has another penalty, so that only a
        # one-sided bound can be asked for.
        ours = ours[:, 1] - ours[:, 0]
        assert np.corrcoef(ours, theirs)[0, 1] > 0.995
        return
    ours, theirs = (each - each.mean(axis=1, keepdims=True) for each in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, atol=0.02 * strength + 2e-3)


def test_the_strongest_penalty_leaves_no_coefficient_and_one_below_leaves_some():
    frame, number = made(2000, 1, 1.0)
    assert not fitted(frame, number, 3, 1.001, 0.5).coefficients.any()
    kept = fitted(frame, number, 3, 0.7, 0.5).coefficients
    assert kept.any()
    assert not kept[3:].any(), "inputs without a part in the classes go first"


def test_the_judged_rows_choose_the_penalty():
    frame, number = made(4000, 3, 0.8)
    noise = pl.DataFrame(
        np.random.default_rng(4).uniform(-1, 1, (300, 40)).astype(np.float32),
        schema=[f"n{i}" for i in range(40)],
    )
    both = pl.concat([frame.head(300), noise], how="horizontal")
    rest = frame.tail(3000).with_columns(
        pl.Series(name, np.random.default_rng(5 + i).uniform(-1, 1, 3000), dtype=pl.Float32)
        for i, name in enumerate(noise.columns)
    )
    train = ClassRows(both, both.columns, number[:300])
    shares = np.geomspace(0.5, 0.002, 12)
    honest = fit_logistic(train, ClassRows(rest, both.columns, number[-3000:]), 3, shares, 1.0)
    fooled = fit_logistic(train, train, 3, shares, 1.0)
    assert honest.penalty > 3 * fooled.penalty
