"""Prices far from where a session's were just before: what is said of one depends on no later one."""

import numpy as np

from components.compiling import compiled

# Quotes and trades whose median a price is held against: wrong ones that follow on each other are told as
# long as they are fewer than half of them, and a market that did jump is believed after as many.
PAST = 511
# The first prices of a session are not judged: there is nothing to hold them against.
FEWEST = 5


@compiled()
def far_prices(price, is_print, is_level, most):
    """Which prices lie further than a share `most` from the median of the PAST prints before them.

    Parameters
    ----------
    price : int64 ticks, in the order of arrival
    is_print : quotes and trades, which are judged and remembered
    is_level : levels of snapshots, which are remembered until FEWEST prints came, so that the first ones can
        be judged
    """
    far = np.zeros(len(price), np.bool_)
    ring, ordered = np.zeros(PAST, np.int64), np.zeros(PAST, np.int64)
    taken, prints = 0, 0
    for i in range(len(price)):
        if price[i] <= 0 or not (is_print[i] or (is_level[i] and prints < FEWEST)):
            continue
        held = min(taken, PAST)
        if is_print[i]:
            prints += 1
            if held >= FEWEST:
                middle = (ordered[(held - 1) // 2] + ordered[held // 2]) / 2
                far[i] = abs(price[i] / middle - 1) > most
        _remember(ring, ordered, taken, price[i])
        taken += 1
    return far


@compiled()
def _remember(ring, ordered, taken, value):
    """Put a price in the place of the oldest; `ordered` holds the same prices in ascending order."""
    held, slot = min(taken, len(ring)), taken % len(ring)
    at = np.searchsorted(ordered[:held], value)
    # Prices between the one that leaves and the place of the new one move by one.
    gap = held if held < len(ring) else np.searchsorted(ordered[:held], ring[slot])
    if gap < at:
        ordered[gap : at - 1] = ordered[gap + 1 : at]
        at -= 1
    else:
        ordered[at + 1 : gap + 1] = ordered[at:gap]
    ordered[at], ring[slot] = value, value
