"""How the backtest's loops are compiled, and a sum in them that is rounded as NumPy's."""

import numpy as np

from components import compiling

# NumPy's summation: this many running sums, over blocks of at most this size.
_LANES, _BLOCK = 8, 128
# Halvings of any array that fits into memory.
_DEPTH = 48
# Divisions by 0 give what they give in NumPy.
compiled = compiling.compiled(nogil=True, error_model="numpy")


@compiled
def _block_sum(values, first, count):
    if count < _LANES:
        total = 0.0
        for i in range(first, first + count):
            total += values[i]
        return total
    a, b, c, d = values[first], values[first + 1], values[first + 2], values[first + 3]
    e, f, g, h = values[first + 4], values[first + 5], values[first + 6], values[first + 7]
    whole = count - count % _LANES
    for i in range(first + _LANES, first + whole, _LANES):
        a, b, c, d = a + values[i], b + values[i + 1], c + values[i + 2], d + values[i + 3]
        e, f, g, h = e + values[i + 4], f + values[i + 5], g + values[i + 6], h + values[i + 7]
    total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(first + whole, first + count):
        total += values[i]
    return total


@compiled
def pairwise_sum(values, count):
    """The sum of the first `count` values, rounded as np.sum does it: halves are summed by themselves, down
    to blocks. Without recursion, which compiled code that is read from disk does not survive.
    """
    if count <= _BLOCK:
        return _block_sum(values, 0, count)
    sizes, rights = np.empty(_DEPTH, dtype=np.int64), np.empty(_DEPTH, dtype=np.int64)
    lefts, left_done = np.empty(_DEPTH), np.zeros(_DEPTH, dtype=np.bool_)
    sizes[0], depth, first = count, 0, 0
    while True:
        size = sizes[depth]
        if size > _BLOCK:
            half = size // 2
            half -= half % _LANES
            rights[depth], left_done[depth], sizes[depth + 1] = size - half, False, half
            depth += 1
            continue
        total = _block_sum(values, first, size)
        first += size
        while depth > 0 and left_done[depth - 1]:
            depth -= 1
            total = lefts[depth] + total
        if depth == 0:
            return total
        lefts[depth - 1], left_done[depth - 1], sizes[depth] = total, True, rights[depth - 1]
