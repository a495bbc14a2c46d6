"""The compiled loop of the volume profile; each row's window is profiled from its own bars alone.

See `profile_windows`.
"""

import math

import numpy as np

from components.compiling import compiled

# Log ranges, and differences of neighbouring shelves as a share of the fullest, below this are rounding
# noise.
FLAT = 1e-9


@compiled(nogil=True)
def profiles(high, low, close, volume, bar, bars, shelves, value_share):
    """The six fields of `profile_windows.FIELDS`, (6, rows), NaN where unknown; `bar` is the row's number
    within its symbol.
    """
    rows = len(close)
    result = np.full((6, rows), np.nan)
    shelf, smooth = np.zeros(shelves), np.zeros(shelves + 2)
    for t in range(rows):
        if bar[t] < bars - 1:
            continue
        first = t - bars + 1
        floor, top, known = math.inf, -math.inf, True
        for s in range(first, t + 1):
            known = known and not math.isnan(high[s] + low[s] + close[s] + volume[s])
            floor, top = min(floor, low[s]), max(top, high[s])
        if not known or not top - floor > FLAT:
            continue
        step = (top - floor) / shelves
        _spread(shelf, high[first : t + 1], low[first : t + 1], volume[first : t + 1], floor, step)
        if shelf.sum() > 0:
            place = (close[t] - floor) / step
            control, value_low, value_high = _value_area(shelf, value_share)
            result[0, t] = (place - control - 0.5) * step
            result[1, t] = (place - value_high - 1) * step
            result[2, t] = (place - value_low) * step
            result[3, t], result[4, t] = _nodes(shelf, smooth, place, step)
            result[5, t] = _share_below(shelf, place)
    return result


@compiled(nogil=True)
def _spread(shelf, high, low, volume, floor, step):
    """Fill the shelves with each bar's volume, spread evenly from its low to its high."""
    shelf[:] = 0.0
    last = len(shelf) - 1
    for s in range(len(high)):
        a, b = (low[s] - floor) / step, (high[s] - floor) / step
        i, j = min(int(a), last), min(int(b), last)
        if i == j:
            shelf[i] += volume[s]
            continue
        density = volume[s] / (b - a)
        shelf[i] += density * (i + 1 - a)
        shelf[j] += density * (b - j)
        for between in range(i + 1, j):
            shelf[between] += density


@compiled(nogil=True)
def _value_area(shelf, value_share):
    """The fullest shelf, and the first and last shelf of the value area about it."""
    control = np.argmax(shelf)
    low, high, held, wanted = control, control, shelf[control], value_share * shelf.sum()
    while held < wanted and (low > 0 or high < len(shelf) - 1):
        under = shelf[low - 1] if low > 0 else -1.0
        over = shelf[high + 1] if high < len(shelf) - 1 else -1.0
        if over >= under:
            high += 1
            held += over
        else:
            low -= 1
            held += under
    return control, low, high


@compiled(nogil=True)
def _nodes(shelf, smooth, place, step):
    """Distances to the nearest local maximum and minimum of the smoothed profile; the ends of the range count
    as minima.
    """
    shelves = len(shelf)
    smooth[:] = 0.0
    for i in range(shelves):
        smooth[i] += shelf[i] / 4
        smooth[i + 1] += shelf[i] / 2
        smooth[i + 2] += shelf[i] / 4
    noise = FLAT * smooth.max()
    high_node, low_node = np.nan, place * step
    if abs(place - shelves) < abs(place):
        low_node = (place - shelves) * step
    for i in range(shelves):
        rise, fall = smooth[i + 1] - smooth[i], smooth[i + 1] - smooth[i + 2]
        distance = (place - i - 0.5) * step
        if min(rise, fall) >= -noise and max(rise, fall) > noise and not abs(high_node) <= abs(distance):
            high_node = distance
        if max(rise, fall) <= noise and min(rise, fall) < -noise and abs(distance) < abs(low_node):
            low_node = distance
    return high_node, low_node


@compiled(nogil=True)
def _share_below(shelf, place):
    under = 0.0
    for i in range(len(shelf)):
        under += shelf[i] * min(max(place - i, 0.0), 1.0)
    return under / shelf.sum()
