"""Suggested positions: a row's weight is the one that it has in the market's book, or in that of its bar."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from serving.live.book_rows import BookRows
from serving.live.book_sizing import BookSizing
from serving.live.positions import batch_weights, inserted_weights
from tests.sizing.weights import long_short_weights

BOOK = BookSizing(
    quantile=0.1,
    top_k=5,
    top_k_max_share=0.2,
    gross_exposure=1.0,
    max_weight=0.25,
    sizing="equal",
    skip_share=0.0,
)


def rows_of(scores, uncertainty):
    return BookRows(np.asarray(scores, dtype=float), np.asarray(uncertainty, dtype=float))


def brute_force(score, uncertainty, place, market, book):
    """The book of the market with this one row in it."""
    scores, widths = market.score.copy(), market.uncertainty.copy()
    if place >= 0:
        scores[place] = np.nan
    return long_short_weights(np.append(scores, score)[None], np.append(widths, uncertainty)[None], book)[
        0, -1
    ]


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    names=st.integers(0, 60),
    rows=st.integers(1, 8),
    levels=st.sampled_from([2, 5, 1000]),
    sizing=st.sampled_from(["equal", "confidence"]),
    quantile=st.sampled_from([0.05, 0.1, 0.3, 0.5]),
    skip=st.sampled_from([0.0, 0.3]),
)
def test_a_row_gets_the_weight_that_it_has_in_the_markets_book(
    seed, names, rows, levels, sizing, quantile, skip
):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, names).astype(float)
    scores[rng.random(names) < 0.1] = np.nan
    market = rows_of(scores, rng.uniform(0.01, 0.1, names))
    book = replace(BOOK, sizing=sizing, quantile=quantile, skip_share=skip)
    own, widths = rng.integers(-1, levels + 1, rows).astype(float), rng.uniform(0.01, 0.1, rows)
    places = rng.integers(-1, names, rows) if names else np.full(rows, -1)
    found = inserted_weights(rows_of(own, widths), places, market, book)
    np.testing.assert_allclose(
        found,
        [brute_force(*values, market, book) for values in zip(own, widths, places, strict=True)],
        atol=1e-12,
    )


def test_a_row_in_the_middle_has_a_position_where_those_above_have_too_short_a_past():
    """Under a volatility target nobody can be ruled out by the score alone."""
    past = np.random.default_rng(3).normal(0, 0.01, size=(31, 60))
    past[20:30, :40] = np.nan
    market = replace(rows_of(np.arange(30), np.ones(30)), past=past[:30])
    row = replace(rows_of([17.5], [1.0]), past=past[30:])
    aimed = replace(BOOK, volatility_target=1.0)
    assert inserted_weights(row, np.array([-1]), market, aimed)[0] == 0
    market = replace(market, score=np.where(np.arange(30) < 20, np.arange(30) - 20.0, market.score))
    row = replace(row, score=np.array([5.0]))
    assert inserted_weights(row, np.array([-1]), market, aimed)[0] > 0
    assert inserted_weights(row, np.array([-1]), market, BOOK)[0] == 0


@hypothesis_settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 60), bars=st.integers(1, 5))
def test_a_batch_is_one_book_a_bar(seed, rows, bars):
    rng = np.random.default_rng(seed)
    score, widths = rng.normal(size=rows), rng.uniform(0.01, 0.1, rows)
    bar = np.unique(rng.integers(0, bars, rows), return_inverse=True)[1]
    found = batch_weights(rows_of(score, widths), bar, BOOK)
    for number in range(bar.max() + 1):
        mine = bar == number
        np.testing.assert_allclose(
            found[mine], long_short_weights(score[mine][None], widths[mine][None], BOOK)[0], atol=1e-12
        )


def test_low_confidence_makes_the_served_position_as_small_as_the_backtests():
    rng = np.random.default_rng(5)
    score, widths = rng.normal(size=40), rng.uniform(0.01, 0.1, 40)
    book = replace(BOOK, sizing="confidence", usual=0.08)
    for times in (1, 10):
        expected = long_short_weights(score[None], times * widths[None], book, 0.08)[0]
        found = batch_weights(rows_of(score, times * widths), np.zeros(40, dtype=int), book)
        np.testing.assert_array_equal(found, expected)
        market = rows_of(score, times * widths)
        one = inserted_weights(rows_of(score[3:9], times * widths[3:9]), np.arange(3, 9), market, book)
        np.testing.assert_allclose(one, expected[3:9], atol=1e-15)
    assert np.abs(expected).sum() < 0.3
