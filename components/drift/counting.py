"""Loops over the rows of one column and over windows of its bars, compiled: what is counted once a bar, and
how far windows lie from the rest.

A column of a million rows is read three times, and what windows need of it is looked up in running sums.
"""

import numpy as np

from components.compiling import compiled

# Keys of floats are sorted by so many bits at a time: three passes, each with counts that stay in the cache.
_DIGITS = 2048
# Edges are searched in as many halvings as lead to one of so many: a fixed number runs without a jump.
EDGES = 256
_SIGN, _ALL, _NOT_FINITE = np.uint32(0x80000000), np.uint32(0xFFFFFFFF), np.uint32(0x7F800000)


@compiled(nogil=True)
def ascending(values):
    """The finite ones of `values`, Float32 (N,), in ascending order: a radix sort, three times as fast as a
    sort by comparison. Zeros of both signs are neighbours, in the order -0.0, 0.0.
    """
    last, bits = np.uint32(_DIGITS - 1), values.view(np.uint32)
    keys = np.empty(len(values), np.uint32)
    places = np.zeros((3, _DIGITS), np.int64)
    count = 0
    for i in range(len(values)):
        found = bits[i]
        if found & _NOT_FINITE != _NOT_FINITE:
            # Unsigned keys ascend as the floats do.
            key = found ^ (_ALL if found & _SIGN else _SIGN)
            keys[count] = key
            count += 1
            places[0, key & last] += 1
            places[1, (key >> np.uint32(11)) & last] += 1
            places[2, key >> np.uint32(22)] += 1
    keys, sorted_keys = keys[:count], np.empty(count, np.uint32)
    for digit in range(3):
        shift, before = np.uint32(11 * digit), 0
        for k in range(_DIGITS):
            here = places[digit, k]
            places[digit, k] = before
            before += here
        for i in range(count):
            k = (keys[i] >> shift) & last
            sorted_keys[places[digit, k]] = keys[i]
            places[digit, k] += 1
        keys, sorted_keys = sorted_keys, keys
    for i in range(count):
        keys[i] ^= _SIGN if keys[i] & _SIGN else _ALL
    return keys.view(np.float32)


@compiled(nogil=True)
def first_bars(values, bars, symbols, names, total):
    """The first bar in which each symbol has a value, (names,); `total` where it has none."""
    first = np.full(names, total, np.int64)
    for i in range(len(values)):
        if np.isfinite(values[i]) and bars[i] < first[symbols[i]]:
            first[symbols[i]] = bars[i]
    return first


@compiled(nogil=True)
def count_by_bar(values, bars, symbols, own_bars, first, warm_up_bars, edges, running, missing):
    """Count each bar's rows up to each edge, over the bars from the earliest on.

    Rows before their symbol's first value don't count, and rows without one while the symbol has no more than
    `warm_up_bars` bars.

    Parameters
    ----------
    first : each symbol's first bar that counts, (S,)
    edges : ascending Float32, E - 1 of them, padded with infinity to EDGES
    running : integers (T + 1, E), zeros; becomes the rows with a value up to each edge in all bars before; of
        its last column, all with a value
    missing : integers (T,), zeros; becomes the rows without a value

    Returns
    -------
    Whether all rows of a bar have one value.
    """
    begin = first.min()
    one_value = np.full(len(missing), np.nan, np.float32)
    shared = True
    for i in range(len(values)):
        value, bar = values[i], bars[i] - begin
        if bars[i] < first[symbols[i]]:
            continue
        if not np.isfinite(value):
            missing[bar] += own_bars[i] > warm_up_bars
            continue
        place, step = 0, EDGES // 2
        while step:
            place += step if edges[place + step - 1] < value else 0
            step >>= 1
        running[bar + 1, place] += 1
        if np.isnan(one_value[bar]):
            one_value[bar] = value
        elif one_value[bar] != value:
            shared = False
    for bar in range(len(missing)):
        inside = 0
        for k in range(running.shape[1]):
            inside += running[bar + 1, k]
            running[bar + 1, k] = running[bar, k] + inside
    return shared


@compiled(nogil=True)
def distances(running, cells, starts, length, low, high):
    """The Kolmogorov-Smirnov statistic of each window and the rest, NaN where a side holds no rows, and the
    fewest cells that hold rows in some window.

    Parameters
    ----------
    running : of `count_by_bar`
    cells : the upper edge of each cell, as a column of `running`, ascending, the last column last, (C,)
    starts : first bar of each window, (W,)
    low, high : the bars from low to high, those of the window among them, are no part of its rest, (W,)
    """
    found = np.full(len(starts), np.nan)
    all_rows, fewest = running[-1], len(cells)
    for w in range(len(starts)):
        begin, end = running[starts[w]], running[starts[w] + length]
        left, right = running[low[w]], running[high[w]]
        inside = end[-1] - begin[-1]
        outside = all_rows[-1] - (right[-1] - left[-1])
        filled, before, largest = 0, 0, 0.0
        for c in cells:
            here = end[c] - begin[c]
            filled += here > before
            before = here
            if inside > 0 and outside > 0:
                rest = all_rows[c] - (right[c] - left[c])
                largest = max(largest, abs(here / inside - rest / outside))
        fewest = min(fewest, filled)
        if inside > 0 and outside > 0:
            found[w] = largest
    return found, fewest
