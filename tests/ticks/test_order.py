"""Clocks that fall and ids that do not count up."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ticks.order import ANEW, BEHIND, IN_ORDER, REPEATED, order_of_ids, out_of_time


def longest(values: list[int]) -> int:
    """Length of a longest subsequence that never falls, the slow way."""
    best: list[int] = []
    for i, value in enumerate(values):
        best.append(1 + max((best[j] for j in range(i) if values[j] <= value), default=0))
    return max(best, default=0)


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), max_size=40))
def test_the_fewest_messages_go_and_the_rest_never_falls(values):
    clock = np.array(values, np.int64)
    gone = out_of_time(clock)
    assert (np.diff(clock[~gone]) >= 0).all()
    assert (~gone).sum() == longest(values)


def test_one_message_far_ahead_goes_and_not_all_that_follow():
    assert out_of_time(np.array([1, 2, 900, 3, 4, 5])).tolist() == [False, False, True, False, False, False]


def test_ids_by_hand():
    ids = np.array([5, 6, 6, 4, 0, 9, 2, 3])
    seen = np.array([False, False, True, False, False, False, False, False])
    day = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    expected = [IN_ORDER, IN_ORDER, REPEATED, BEHIND, IN_ORDER, IN_ORDER, ANEW, IN_ORDER]
    assert order_of_ids(ids, seen, day).tolist() == expected
