"""The compiled loop of `order_windows`: the lowest values of each window."""

import numpy as np

from components.compiling import compiled


@compiled(nogil=True)
def lowest_values(x, bars, count):
    """The `count` lowest values of each window of `bars` rows of `x`, (rows - bars + 1, count), ascending,
    and whether all of the window is known, (rows - bars + 1,); NaN in the values where it isn't.

    Order statistics carry no rounding, so those kept from the window before are as good as found anew. They
    are found anew where one of them has left.
    """
    windows = len(x) - bars + 1
    lowest, known = np.empty((windows, count)), np.empty(windows, dtype=np.bool_)
    kept, unknown, whole = np.empty(count), 0, False
    for t in range(bars - 1):
        unknown += x[t] != x[t]
    for w in range(windows):
        newest = x[w + bars - 1]
        unknown += newest != newest
        known[w] = unknown == 0
        if unknown:
            lowest[w] = np.nan
            whole = False
        else:
            if whole and x[w - 1] > kept[count - 1]:
                if newest < kept[count - 1]:
                    put_in(kept, count - 1, newest)
            else:
                for i in range(bars):
                    value = x[w + i]
                    if i < count:
                        put_in(kept, i, value)
                    elif value < kept[count - 1]:
                        put_in(kept, count - 1, value)
            whole = True
            lowest[w] = kept
        unknown -= x[w] != x[w]
    return lowest, known


@compiled(nogil=True)
def put_in(ordered, held, value):
    """Put `value` among the `held` first, in order; what stood at `held` is lost."""
    i = held
    while i > 0 and ordered[i - 1] > value:
        ordered[i] = ordered[i - 1]
        i -= 1
    ordered[i] = value
