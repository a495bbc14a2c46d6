"""The compiled loops of `nested_windows`: for each row, from the present bar back, and the state at each
window's length.

Inputs are Float64 columns with NaN where unknown, `bar` (the row's number within its symbol) and ascending
window lengths; results are (fields, windows, rows), Float32 as factors are stored, NaN where a window is not
whole. Sums are taken about the present value, which keeps their digits. Rows are worked on in blocks, so that
the innermost loop runs over neighbouring rows and the processor takes several at once.
"""

import math

import numpy as np
from numba import njit

BLOCK_ROWS = 512
# As in `kernels`: a product of two standard deviations below this is flat.
FLAT_PRODUCT = 1e-7
# A sum of squares below this share of that about the present value is its rounding.
ROUNDING = 1e-13


@njit(nogil=True, cache=True)
def lines(x, bar, windows):
    rows = len(x)
    result = np.full((5, len(windows), rows), np.nan, dtype=np.float32)
    first, second, timed = np.zeros(BLOCK_ROWS), np.zeros(BLOCK_ROWS), np.zeros(BLOCK_ROWS)
    for start in range(0, rows, BLOCK_ROWS):
        size = min(BLOCK_ROWS, rows - start)
        first[:], second[:], timed[:] = 0.0, 0.0, 0.0
        back = 0
        for w in range(len(windows)):
            d = windows[w]
            while back < d:
                low = max(back - start, 0)
                past, here = x[start + low - back : start + size - back], x[start + low : start + size]
                f, s, p = first[low:size], second[low:size], timed[low:size]
                for i in range(len(past)):
                    gap = past[i] - here[i]
                    f[i] += gap
                    s[i] += gap * gap
                    p[i] += back * gap
                back += 1
            time_squares = d * (d * d - 1) / 12
            for i in range(size):
                t = start + i
                if bar[t] >= d - 1:
                    squares = second[i] - first[i] * first[i] / d
                    squares = squares if squares > ROUNDING * second[i] else 0.0 * squares
                    together = (d - 1) / 2 * first[i] - timed[i]
                    mean, slope = x[t] + first[i] / d, together / time_squares
                    result[0, w, t] = mean
                    result[1, w, t] = math.sqrt(squares / (d - 1))
                    result[2, w, t] = slope
                    result[3, w, t] = min(together * slope / squares, 1.0) if squares > 0 else np.nan
                    result[4, w, t] = x[t] - mean - slope * (d - 1) / 2
    return result


@njit(nogil=True, cache=True)
def moments(x, bar, windows):
    rows = len(x)
    result = np.full((2, len(windows), rows), np.nan, dtype=np.float32)
    first, second = np.zeros(BLOCK_ROWS), np.zeros(BLOCK_ROWS)
    for start in range(0, rows, BLOCK_ROWS):
        size = min(BLOCK_ROWS, rows - start)
        first[:], second[:] = 0.0, 0.0
        back = 0
        for w in range(len(windows)):
            d = windows[w]
            while back < d:
                low = max(back - start, 0)
                past, here = x[start + low - back : start + size - back], x[start + low : start + size]
                f, s = first[low:size], second[low:size]
                for i in range(len(past)):
                    gap = past[i] - here[i]
                    f[i] += gap
                    s[i] += gap * gap
                back += 1
            for i in range(size):
                t = start + i
                if bar[t] >= d - 1:
                    squares = second[i] - first[i] * first[i] / d
                    squares = squares if squares > ROUNDING * second[i] else 0.0 * squares
                    result[0, w, t] = x[t] + first[i] / d
                    result[1, w, t] = math.sqrt(squares / (d - 1))
    return result


@njit(nogil=True, cache=True)
def correlations(x, y, bar, windows):
    rows = len(x)
    result = np.full((1, len(windows), rows), np.nan, dtype=np.float32)
    sums = np.zeros((5, BLOCK_ROWS))
    for start in range(0, rows, BLOCK_ROWS):
        size = min(BLOCK_ROWS, rows - start)
        sums[:] = 0.0
        back = 0
        for w in range(len(windows)):
            d = windows[w]
            while back < d:
                low = max(back - start, 0)
                x_past, x_here = x[start + low - back : start + size - back], x[start + low : start + size]
                y_past, y_here = y[start + low - back : start + size - back], y[start + low : start + size]
                sx, sy, sxx, syy, sxy = (
                    sums[0, low:size],
                    sums[1, low:size],
                    sums[2, low:size],
                    sums[3, low:size],
                    sums[4, low:size],
                )
                for i in range(len(x_past)):
                    a, b = x_past[i] - x_here[i], y_past[i] - y_here[i]
                    sx[i] += a
                    sy[i] += b
                    sxx[i] += a * a
                    syy[i] += b * b
                    sxy[i] += a * b
                back += 1
            for i in range(size):
                if bar[start + i] >= d - 1:
                    x_squares = max(sums[2, i] - sums[0, i] * sums[0, i] / d, 0.0)
                    y_squares = max(sums[3, i] - sums[1, i] * sums[1, i] / d, 0.0)
                    spread = math.sqrt(x_squares * y_squares)
                    if (
                        spread > d * FLAT_PRODUCT
                        and x_squares > ROUNDING * sums[2, i]
                        and y_squares > ROUNDING * sums[3, i]
                    ):
                        result[0, w, start + i] = min(
                            max((sums[4, i] - sums[0, i] * sums[1, i] / d) / spread, -1.0), 1.0
                        )
    return result


@njit(nogil=True, cache=True)
def signs(change, bar, windows):
    rows = len(change)
    result = np.full((2, len(windows), rows), np.nan, dtype=np.float32)
    rises, falls, known = np.zeros(BLOCK_ROWS), np.zeros(BLOCK_ROWS), np.zeros(BLOCK_ROWS)
    for start in range(0, rows, BLOCK_ROWS):
        size = min(BLOCK_ROWS, rows - start)
        rises[:], falls[:], known[:] = 0.0, 0.0, 0.0
        back = 0
        for w in range(len(windows)):
            d = windows[w]
            while back < d:
                low = max(back - start, 0)
                past, r, f, n = (
                    change[start + low - back : start + size - back],
                    rises[low:size],
                    falls[low:size],
                    known[low:size],
                )
                for i in range(len(past)):
                    value = past[i]
                    r[i] += 1.0 if value > 0 else 0.0
                    f[i] += 1.0 if value < 0 else 0.0
                    n[i] += 1.0 if value == value else 0.0
                back += 1
            for i in range(size):
                if bar[start + i] >= d - 1 and known[i] == d:
                    result[0, w, start + i] = rises[i] / d
                    result[1, w, start + i] = falls[i] / d
    return result


@njit(nogil=True, cache=True)
def gains(change, bar, windows):
    rows = len(change)
    result = np.full((1, len(windows), rows), np.nan, dtype=np.float32)
    up, move = np.zeros(BLOCK_ROWS), np.zeros(BLOCK_ROWS)
    for start in range(0, rows, BLOCK_ROWS):
        size = min(BLOCK_ROWS, rows - start)
        up[:], move[:] = 0.0, 0.0
        back = 0
        for w in range(len(windows)):
            d = windows[w]
            while back < d:
                low = max(back - start, 0)
                past, u, m = change[start + low - back : start + size - back], up[low:size], move[low:size]
                for i in range(len(past)):
                    value = past[i]
                    u[i] += value if value > 0 else 0.0
                    m[i] += abs(value)
                back += 1
            for i in range(size):
                if bar[start + i] >= d - 1 and move[i] > 0:
                    result[0, w, start + i] = up[i] / move[i]
    return result


@njit(nogil=True, cache=True)
def ranks(x, bar, windows):
    rows = len(x)
    result = np.full((1, len(windows), rows), np.nan, dtype=np.float32)
    places, known = np.zeros(BLOCK_ROWS), np.zeros(BLOCK_ROWS)
    for start in range(0, rows, BLOCK_ROWS):
        size = min(BLOCK_ROWS, rows - start)
        places[:], known[:] = 0.0, 0.0
        back = 0
        for w in range(len(windows)):
            d = windows[w]
            while back < d:
                low = max(back - start, 0)
                past, here = x[start + low - back : start + size - back], x[start + low : start + size]
                p, n = places[low:size], known[low:size]
                for i in range(len(past)):
                    p[i] += (1.0 if past[i] <= here[i] else 0.0) + (1.0 if past[i] < here[i] else 0.0)
                    n[i] += 1.0 if past[i] == past[i] else 0.0
                back += 1
            for i in range(size):
                if bar[start + i] >= d - 1 and known[i] == d:
                    result[0, w, start + i] = (places[i] + 1) / (2 * d)
    return result


@njit(nogil=True, cache=True)
def extremes(high, low, bar, windows):
    rows = len(high)
    result = np.full((4, len(windows), rows), np.nan, dtype=np.float32)
    top, bottom, since_top, since_bottom, known = (
        np.zeros(BLOCK_ROWS),
        np.zeros(BLOCK_ROWS),
        np.zeros(BLOCK_ROWS),
        np.zeros(BLOCK_ROWS),
        np.zeros(BLOCK_ROWS),
    )
    for start in range(0, rows, BLOCK_ROWS):
        size = min(BLOCK_ROWS, rows - start)
        top[:], bottom[:], since_top[:], since_bottom[:], known[:] = -math.inf, math.inf, 0.0, 0.0, 0.0
        back = 0
        for w in range(len(windows)):
            d = windows[w]
            while back < d:
                ago = float(back)
                begin = max(back - start, 0)
                highs, lows = (
                    high[start + begin - back : start + size - back],
                    low[start + begin - back : start + size - back],
                )
                t, st, b, sb, n = (
                    top[begin:size],
                    since_top[begin:size],
                    bottom[begin:size],
                    since_bottom[begin:size],
                    known[begin:size],
                )
                for i in range(len(highs)):
                    st[i] = ago if highs[i] >= t[i] else st[i]
                    t[i] = highs[i] if highs[i] >= t[i] else t[i]
                    sb[i] = ago if lows[i] <= b[i] else sb[i]
                    b[i] = lows[i] if lows[i] <= b[i] else b[i]
                    n[i] += 1.0 if highs[i] - lows[i] == highs[i] - lows[i] else 0.0
                back += 1
            for i in range(size):
                if bar[start + i] >= d - 1 and known[i] == d:
                    row = start + i
                    result[0, w, row], result[1, w, row], result[2, w, row], result[3, w, row] = (
                        top[i],
                        bottom[i],
                        since_top[i],
                        since_bottom[i],
                    )
    return result


@njit(nogil=True, cache=True)
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
                held = _put_in(ordered, held, x[t])
            if held == d:
                result[0, w, t] = _quantile(ordered, lower)
                result[1, w, t] = _quantile(ordered, upper)
    return result


@njit(nogil=True, cache=True)
def _take_out(ordered, held, value):
    place = np.searchsorted(ordered[:held], value)
    for i in range(place, held - 1):
        ordered[i] = ordered[i + 1]
    return held - 1


@njit(nogil=True, cache=True)
def _put_in(ordered, held, value):
    i = held
    while i > 0 and ordered[i - 1] > value:
        ordered[i] = ordered[i - 1]
        i -= 1
    ordered[i] = value
    return held + 1


@njit(nogil=True, cache=True)
def _quantile(ordered, q):
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
