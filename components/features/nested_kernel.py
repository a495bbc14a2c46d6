"""The compiled loops of `nested_windows`: for each row, from the present bar back, and the state at each
window's length.

Inputs are Float64 columns with NaN where unknown, `bar` (the row's number within its symbol) and ascending
window lengths; results are (fields, windows, rows), Float32 as factors are stored, NaN where a window is not
whole. Sums are taken about the present value, which keeps their digits.

All but the quantiles are one walk (`_walked`) with two steps of their own: `add` takes the bar `back` bars
ago into the state of each row of a block, `finish` writes a row's fields from its state. Rows are worked on
in blocks, so that the innermost loop, which stands in `add`, runs over neighbouring rows and the processor
takes several at once.
"""

import math

import numpy as np
from numba import njit

from components.compiling import compiled
from components.features.order_kernel import put_in

BLOCK_ROWS = 512
# A standard deviation below this share of the present value is flat, whatever the unit.
FLAT_SHARE = 1e-9
# A sum of squares below this share of that about the present value is its rounding.
ROUNDING = 1e-13


# The parts are put into each kernel before that is compiled (inline): as calls they would keep the processor
# from doing several rows at once, and a kernel that calls what it was handed can't be kept on disk.
@njit(inline="always")
def _block():
    """A number for each row of a block; an array of its own each, so that the compiler knows them apart."""
    return np.empty(BLOCK_ROWS)


@njit(inline="always")
def _walked(columns, bar, windows, fields, state, empty, add, finish):
    """The (fields, windows, rows) of a kernel.

    `state` are sums of the block's rows, `empty` what each is before a row's first bar.
    `add(columns, past, here, back, state, rows)`: `here` are the rows that have a bar so far back, `past`
    those bars, both as slices of the columns; `rows` are the former as a slice of the state.
    `finish(columns, t, i, state, d, result, w)`: row `t` is number `i` of its block, `w` the number of the
    window, `d` its bars.
    """
    rows = len(bar)
    result = np.full((fields, len(windows), rows), np.nan, dtype=np.float32)
    for start in range(0, rows, BLOCK_ROWS):
        size = min(BLOCK_ROWS, rows - start)
        for k in range(len(empty)):
            state[k][:] = empty[k]
        back = 0
        for w in range(len(windows)):
            d = windows[w]
            while back < d:
                low = max(back - start, 0)
                if low < size:
                    here = slice(start + low, start + size)
                    past = slice(start + low - back, start + size - back)
                    add(columns, past, here, back, state, slice(low, size))
                back += 1
            for i in range(size):
                if bar[start + i] >= d - 1:
                    finish(columns, start + i, i, state, d, result, w)
    return result


@njit(inline="always")
def _squares_about_mean(state, i, d):
    """Sum of squares about the mean from the sums of gaps (0) and of their squares (1)."""
    squares = state[1][i] - state[0][i] * state[0][i] / d
    return squares if squares > ROUNDING * state[1][i] else 0.0 * squares


@njit(inline="always")
def _add_line(columns, past, here, back, state, rows):
    then, now = columns[0][past], columns[0][here]
    gaps, squares, timed = state[0][rows], state[1][rows], state[2][rows]
    for i in range(len(then)):
        gap = then[i] - now[i]
        gaps[i] += gap
        squares[i] += gap * gap
        timed[i] += back * gap


@njit(inline="always")
def _finish_line(columns, t, i, state, d, result, w):
    now, gaps = columns[0][t], state[0][i]
    squares = _squares_about_mean(state, i, d)
    together = (d - 1) / 2 * gaps - state[2][i]
    mean, slope = now + gaps / d, together / (d * (d * d - 1) / 12)
    result[0, w, t] = mean
    result[1, w, t] = math.sqrt(squares / (d - 1))
    result[2, w, t] = slope
    result[3, w, t] = min(together * slope / squares, 1.0) if squares > 0 else np.nan
    result[4, w, t] = now - mean - slope * (d - 1) / 2


@compiled(nogil=True)
def lines(x, bar, windows):
    state, empty = (_block(), _block(), _block()), (0.0, 0.0, 0.0)
    return _walked((x,), bar, windows, 5, state, empty, _add_line, _finish_line)


@njit(inline="always")
def _add_gaps(columns, past, here, back, state, rows):
    then, now = columns[0][past], columns[0][here]
    gaps, squares = state[0][rows], state[1][rows]
    for i in range(len(then)):
        gap = then[i] - now[i]
        gaps[i] += gap
        squares[i] += gap * gap


@njit(inline="always")
def _finish_moments(columns, t, i, state, d, result, w):
    result[0, w, t] = columns[0][t] + state[0][i] / d
    result[1, w, t] = math.sqrt(_squares_about_mean(state, i, d) / (d - 1))


@compiled(nogil=True)
def moments(x, bar, windows):
    state, empty = (_block(), _block()), (0.0, 0.0)
    return _walked((x,), bar, windows, 2, state, empty, _add_gaps, _finish_moments)


@njit(inline="always")
def _add_pairs(columns, past, here, back, state, rows):
    x_then, x_now, y_then, y_now = columns[0][past], columns[0][here], columns[1][past], columns[1][here]
    sx, sy, sxx, syy, sxy = state[0][rows], state[1][rows], state[2][rows], state[3][rows], state[4][rows]
    for i in range(len(x_then)):
        a, b = x_then[i] - x_now[i], y_then[i] - y_now[i]
        sx[i] += a
        sy[i] += b
        sxx[i] += a * a
        syy[i] += b * b
        sxy[i] += a * b


@njit(inline="always")
def _finish_correlation(columns, t, i, state, d, result, w):
    x, y, xx, yy = state[0][i], state[1][i], state[2][i], state[3][i]
    x_squares, y_squares = max(xx - x * x / d, 0.0), max(yy - y * y / d, 0.0)
    spread = math.sqrt(x_squares * y_squares)
    x_least = max(ROUNDING * xx, d * (FLAT_SHARE * columns[0][t]) ** 2)
    y_least = max(ROUNDING * yy, d * (FLAT_SHARE * columns[1][t]) ** 2)
    if x_squares > x_least and y_squares > y_least:
        result[0, w, t] = min(max((state[4][i] - x * y / d) / spread, -1.0), 1.0)


@compiled(nogil=True)
def correlations(x, y, bar, windows):
    state, empty = (_block(), _block(), _block(), _block(), _block()), (0.0, 0.0, 0.0, 0.0, 0.0)
    return _walked((x, y), bar, windows, 1, state, empty, _add_pairs, _finish_correlation)


@njit(inline="always")
def _add_signs(columns, past, here, back, state, rows):
    then, rises, falls, known = columns[0][past], state[0][rows], state[1][rows], state[2][rows]
    for i in range(len(then)):
        value = then[i]
        rises[i] += 1.0 if value > 0 else 0.0
        falls[i] += 1.0 if value < 0 else 0.0
        known[i] += 1.0 if value == value else 0.0


@njit(inline="always")
def _finish_signs(columns, t, i, state, d, result, w):
    if state[2][i] == d:
        result[0, w, t] = state[0][i] / d
        result[1, w, t] = state[1][i] / d


@compiled(nogil=True)
def signs(change, bar, windows):
    state, empty = (_block(), _block(), _block()), (0.0, 0.0, 0.0)
    return _walked((change,), bar, windows, 2, state, empty, _add_signs, _finish_signs)


@njit(inline="always")
def _add_moves(columns, past, here, back, state, rows):
    then, up, move = columns[0][past], state[0][rows], state[1][rows]
    for i in range(len(then)):
        value = then[i]
        up[i] += value if value > 0 else 0.0
        move[i] += abs(value)


@njit(inline="always")
def _finish_gain(columns, t, i, state, d, result, w):
    if state[1][i] > 0:
        result[0, w, t] = state[0][i] / state[1][i]


@compiled(nogil=True)
def gains(change, bar, windows):
    state, empty = (_block(), _block()), (0.0, 0.0)
    return _walked((change,), bar, windows, 1, state, empty, _add_moves, _finish_gain)


@njit(inline="always")
def _add_places(columns, past, here, back, state, rows):
    then, now, places, known = columns[0][past], columns[0][here], state[0][rows], state[1][rows]
    for i in range(len(then)):
        places[i] += (1.0 if then[i] <= now[i] else 0.0) + (1.0 if then[i] < now[i] else 0.0)
        known[i] += 1.0 if then[i] == then[i] else 0.0


@njit(inline="always")
def _finish_rank(columns, t, i, state, d, result, w):
    if state[1][i] == d:
        result[0, w, t] = (state[0][i] + 1) / (2 * d)


@compiled(nogil=True)
def ranks(x, bar, windows):
    state, empty = (_block(), _block()), (0.0, 0.0)
    return _walked((x,), bar, windows, 1, state, empty, _add_places, _finish_rank)


@njit(inline="always")
def _add_extremes(columns, past, here, back, state, rows):
    high, low, ago = columns[0][past], columns[1][past], float(back)
    top, bottom, since_top, since_bottom, known = (
        state[0][rows],
        state[1][rows],
        state[2][rows],
        state[3][rows],
        state[4][rows],
    )
    for i in range(len(high)):
        since_top[i] = ago if high[i] >= top[i] else since_top[i]
        top[i] = high[i] if high[i] >= top[i] else top[i]
        since_bottom[i] = ago if low[i] <= bottom[i] else since_bottom[i]
        bottom[i] = low[i] if low[i] <= bottom[i] else bottom[i]
        known[i] += 1.0 if high[i] - low[i] == high[i] - low[i] else 0.0


@njit(inline="always")
def _finish_extremes(columns, t, i, state, d, result, w):
    if state[4][i] == d:
        for k in range(4):
            result[k, w, t] = state[k][i]


@compiled(nogil=True)
def extremes(high, low, bar, windows):
    empty = (-math.inf, math.inf, 0.0, 0.0, 0.0)
    state = (_block(), _block(), _block(), _block(), _block())
    return _walked((high, low), bar, windows, 4, state, empty, _add_extremes, _finish_extremes)


@compiled(nogil=True)
def quantiles(x, bar, windows, lower, upper):
    rows = len(x)
    result = np.full((2, len(windows), rows), np.nan, dtype=np.float32)
    for w in range(len(windows)):
        d = windows[w]
        # Order statistics carry no rounding, so a window kept in order from row to row is as good as one
        # sorted anew.
        ordered, held = np.zeros(d), 0
        for t in range(rows):
            if bar[t] == 0:
                held = 0
            if bar[t] >= d and x[t - d] == x[t - d]:
                held = _take_out(ordered, held, x[t - d])
            if x[t] == x[t]:
                put_in(ordered, held, x[t])
                held += 1
            if held == d:
                result[0, w, t] = _quantile(ordered, lower)
                result[1, w, t] = _quantile(ordered, upper)
    return result


@compiled(nogil=True)
def _take_out(ordered, held, value):
    place = np.searchsorted(ordered[:held], value)
    for i in range(place, held - 1):
        ordered[i] = ordered[i + 1]
    return held - 1


@compiled(nogil=True)
def _quantile(ordered, q):
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
