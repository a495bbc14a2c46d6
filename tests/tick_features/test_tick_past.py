"""The sorted past of a feature equals NumPy's median, MAD, ranks and quantiles of its last values."""

import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.tick_features.past import (
    centred_rank,
    insert,
    median,
    quantile,
    robust_score,
    spread_about,
)

values = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=40)


@hypothesis_settings(max_examples=200, deadline=None)
@given(values=values, size=st.integers(2, 12))
def test_the_past_is_that_of_the_last_values(values, size):
    ring, ordered = np.zeros(size), np.zeros(size)
    for taken, value in enumerate(values):
        insert(ring, ordered, taken, value)
        last = np.array(values[: taken + 1][-size:])
        held = len(last)
        np.testing.assert_array_equal(ordered[:held], np.sort(last))
        centre = median(ordered, held)
        assert centre == np.median(last)
        deviation = np.median(np.abs(last - centre)) * 1.4826
        expected = deviation if deviation > 0 else np.abs(last - centre).mean() * 1.2533
        np.testing.assert_allclose(spread_about(ordered, held, centre), expected, rtol=1e-12, atol=1e-300)
        rank = ((last < value).sum() + (last <= value).sum()) / (2 * held) - 0.5
        assert centred_rank(ordered, held, value) == rank
        np.testing.assert_allclose(quantile(ordered, held, 0.8), np.quantile(last, 0.8), rtol=1e-9, atol=1e-9)


def test_scores_are_cut_off_and_a_past_that_stood_still_tells_the_side():
    assert robust_score(100.0, 0.0, 1.0) == 8.0
    assert robust_score(-3.0, 0.0, 2.0) == -1.5
    assert [robust_score(x, 5.0, 0.0) for x in (4.0, 5.0, 6.0)] == [-8.0, 0.0, 8.0]
