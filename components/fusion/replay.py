"""Replays a slow table in the order in which its rows became known, so that each row knows what was the
newest value at that moment.
"""

import numpy as np

from components.compiling import compiled

LEVEL, CHANGE, PERCENT_CHANGE = 0, 1, 2
TRANSFORMS = {"level": LEVEL, "change": CHANGE, "percent_change": PERCENT_CHANGE}
NEVER = np.iinfo(np.int64).min


@compiled()
def replay(
    starts: np.ndarray,
    ends: np.ndarray,
    company: np.ndarray,
    values: np.ndarray,
    transform: int,
    observations: int,
) -> tuple[np.ndarray, np.ndarray]:
    """For each row, the newest value of its group right after the row became known, and the end of the
    observation that it belongs to.

    The newest value is that of the latest observation; among rows of the same observation that of the last
    row, so an amendment replaces what it amends and an old observation published again displaces nothing. A
    missing value replaces nothing. CHANGE and PERCENT_CHANGE compare with the value, as known by then,
    `observations` observations earlier among those known by then; the relative change is to the absolute
    value of the earlier one.

    Parameters
    ----------
    starts : shape (groups + 1,), first row of each group; within a group rows stand in the order in which
        they became known
    ends : shape (rows,), end of the observation, as a number
    company : shape (rows,), number of the company in the order of their first rows; -1 unknown. What an
        earlier company published no longer counts once a later one has.
    values : shape (rows,), NaN where missing

    Returns
    -------
    Values (NaN where none) and ends (NEVER where none), shape (rows,).
    """
    current = np.full(len(values), np.nan)
    newest = np.full(len(values), NEVER, dtype=np.int64)
    held_ends, held = np.empty(len(values), dtype=np.int64), np.empty(len(values))
    for group in range(len(starts) - 1):
        count, owner = 0, 0
        for row in range(starts[group], starts[group + 1]):
            if company[row] > owner:
                count, owner = 0, company[row]
            ours = company[row] == owner or company[row] < 0
            if ours and not np.isnan(values[row]):
                place = np.searchsorted(held_ends[:count], ends[row])
                if place == count or held_ends[place] != ends[row]:
                    for k in range(count, place, -1):
                        held_ends[k], held[k] = held_ends[k - 1], held[k - 1]
                    count += 1
                held_ends[place], held[place] = ends[row], values[row]
            if count:
                newest[row] = held_ends[count - 1]
                current[row] = _transformed(held[:count], transform, observations)
    return current, newest


@compiled()
def _transformed(held: np.ndarray, transform: int, observations: int) -> float:
    """The newest of the values held, or how it differs from the one `observations` before; NaN where there is
    none.
    """
    newest = held[len(held) - 1]
    if transform == LEVEL:
        return newest
    if len(held) <= observations:
        return np.nan
    base = held[len(held) - 1 - observations]
    if transform == CHANGE:
        return newest - base
    return (newest - base) / abs(base) if base != 0 else np.nan
