"""What stands in order among messages: the collector's clock, and ids that count up."""

import numpy as np

from components.compiling import compiled

IN_ORDER, REPEATED, BEHIND, ANEW = range(4)


def out_of_time(ingest_ts: np.ndarray) -> np.ndarray:
    """True for the fewest messages without which the clock never falls (int64 nanoseconds)."""
    if len(ingest_ts) < 2 or (np.diff(ingest_ts) >= 0).all():
        return np.zeros(len(ingest_ts), bool)
    return ~_longest_ascent(ingest_ts)


@compiled()
def _longest_ascent(values):
    """The members of a longest subsequence that never falls, by patience sorting."""
    count = len(values)
    ends = np.empty(count, np.int64)
    before = np.full(count, -1, np.int64)
    length = 0
    for i in range(count):
        low, high = 0, length
        while low < high:
            middle = (low + high) // 2
            if values[ends[middle]] <= values[i]:
                low = middle + 1
            else:
                high = middle
        before[i] = ends[low - 1] if low > 0 else -1
        ends[low] = i
        length = max(length, low + 1)
    member = np.zeros(count, np.bool_)
    place = ends[length - 1]
    while place >= 0:
        member[place] = True
        place = before[place]
    return member


@compiled()
def order_of_ids(ids, seen_before, day):
    """For each message of one kind: whether its id counts up (IN_ORDER), came before with the same content
    (REPEATED, as `seen_before` says), lies below the highest (BEHIND), or starts anew on a new day (ANEW).

    ids : int64, 0 for none; day : the collector's day of each message
    """
    found = np.full(len(ids), IN_ORDER, np.int8)
    highest, highest_day = np.int64(0), np.int64(-1)
    for i in range(len(ids)):
        if ids[i] == 0:
            continue
        if ids[i] > highest:
            highest, highest_day = ids[i], day[i]
        elif highest_day >= 0 and day[i] > highest_day:
            found[i] = ANEW
            highest, highest_day = ids[i], day[i]
        elif seen_before[i]:
            found[i] = REPEATED
        elif ids[i] < highest:
            found[i] = BEHIND
    return found
