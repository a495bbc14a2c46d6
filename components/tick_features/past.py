"""A feature against its own past: the last values of it, sorted, from which median, MAD and ranks are read.

A value comes into its past only after it was scaled by it.
"""

import numpy as np

from components.order_book.compiled import compiled

# Scores are cut off here, so that a bad print can't dominate a model.
LARGEST_SCORE = 8.0
# What makes a MAD, and a mean absolute deviation, the standard deviation of a normal distribution.
MAD_UNIT, MEAN_UNIT = 1.4826, 1.2533


@compiled
def below(ordered, held, value):
    """How many of the first `held` sorted values are below a value."""
    low, high = 0, held
    while low < high:
        middle = (low + high) >> 1
        if ordered[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def insert(ring, ordered, taken, value):
    """Put a value into a past of `len(ring)` values, of which `taken` were put in before; the oldest leaves.

    `ordered` holds the values that are in it in ascending order, at its front.
    """
    held, slot = min(taken, len(ring)), taken % len(ring)
    at = below(ordered, held, value)
    # Values between the gap and the place move by one.
    gap = held if held < len(ring) else below(ordered, held, ring[slot])
    for i in range(gap, at, -1):
        ordered[i] = ordered[i - 1]
    for i in range(gap, at - 1):
        ordered[i] = ordered[i + 1]
    ordered[at - 1 if gap < at else at] = value
    ring[slot] = value


@compiled
def median(ordered, held):
    """The median of the first `held` sorted values."""
    return (ordered[(held - 1) // 2] + ordered[held // 2]) / 2


@compiled
def spread_about(ordered, held, centre):
    """The median absolute deviation of sorted values from `centre` in units of a standard deviation; where
    more than half of them are equal, the mean one (Iglewicz and Hoaglin 1993).
    """
    # The half of the values that is nearest to the centre stands together.
    near = held // 2 + 1
    first, last = 0, held - near
    while first < last:
        middle = (first + last) >> 1
        if centre - ordered[middle] > ordered[middle + near] - centre:
            first = middle + 1
        else:
            last = middle
    left, right = centre - ordered[first], ordered[first + near - 1] - centre
    deviation = max(left, right)
    if held % 2 == 0:
        if left >= right:
            other = max(centre - ordered[first + 1], right)
        else:
            other = max(left, ordered[first + near - 2] - centre)
        deviation = (deviation + other) / 2
    if deviation > 0:
        return deviation * MAD_UNIT
    total = 0.0
    for i in range(held):
        total += abs(ordered[i] - centre)
    return total / held * MEAN_UNIT


@compiled
def robust_score(value, centre, spread):
    """(value - centre) / spread, within LARGEST_SCORE; of a past in which nothing moved, the sign of it."""
    distance = value - centre
    if spread > 0:
        return min(max(distance / spread, -LARGEST_SCORE), LARGEST_SCORE)
    return LARGEST_SCORE * np.sign(distance)


@compiled
def centred_rank(ordered, held, value):
    """Where a value stands among sorted ones: -0.5 below all, 0.5 above all, ties in the middle."""
    under = below(ordered, held, value)
    upto = below(ordered, held, np.nextafter(value, np.inf))
    return (under + upto) / (2 * held) - 0.5


@compiled
def quantile(ordered, held, share):
    """The value at a share of the sorted ones, straight lines between them."""
    place = share * (held - 1)
    low = int(place)
    high = min(low + 1, held - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
