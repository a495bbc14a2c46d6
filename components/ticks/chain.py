"""The chain of depth messages: which may be applied to the book, which came too early, too late or twice, and
where one was lost.
"""

from dataclasses import dataclass

import numpy as np

from components.compiling import compiled

# What becomes of a message.
KEPT, SUPERSEDED, DUPLICATE, LATE, HELD, BREAKS, UNKNOWN = range(7)
# Messages that are looked at for a forerunner that was overtaken.
LOOK_AHEAD = 8
DAY_NS = 86_400_000_000_000


@dataclass(frozen=True)
class Messages:
    """Depth messages and snapshots of one symbol's session in the order of arrival, int64 each."""

    is_snapshot: np.ndarray
    ingest_ts: np.ndarray
    update_id: np.ndarray
    previous_update_id: np.ndarray


@dataclass(frozen=True)
class Chained:
    """What becomes of each message, and those that are applied (again) right after another one: `moved`
    after `anchor`, positions in order. `resets` are those with which update ids start anew.
    """

    fate: np.ndarray
    moved: np.ndarray
    anchor: np.ndarray
    resets: np.ndarray


def chained(messages: Messages, *, keep_after_break: bool) -> Chained:
    """Follow the chain.

    A snapshot begins it; what came before and is newer is applied to it at its moment, what is older is left
    out. An update that came before its forerunner waits for it, where that comes among the next few: a live
    feed would have to wait for as long before it knew. Where one is lost, the chain is broken until
    the next snapshot (or goes on, with `keep_after_break`). Without a snapshot in the whole session the first
    update begins it. Ids of 0 are not judged.
    """
    fate, moved, anchor, resets = _follow(
        messages.is_snapshot.astype(np.bool_),
        messages.ingest_ts // DAY_NS,
        messages.update_id,
        messages.previous_update_id,
        keep_after_break,
    )
    return Chained(fate, moved, anchor, resets)


@compiled()
def _follow(is_snapshot, day, own, previous, keep_after_break):
    count = len(own)
    fate = np.full(count, UNKNOWN, np.int8)
    moved, anchor, resets, held = _nothing(), _nothing(), _nothing(), _nothing()
    known = not is_snapshot.any()
    fresh, broken, last, last_day, began = True, False, np.int64(0), np.int64(-1), 0
    for i in range(count):
        if is_snapshot[i]:
            fate[i] = KEPT
            known, fresh, broken, last, last_day = True, True, False, own[i], day[i]
            for k in _newer(own, fate, i, began):
                if previous[k] <= last if fresh else previous[k] == last:
                    moved.append(k)
                    anchor.append(np.int64(i))
                    last, fresh = own[k], False
                elif own[k] > last:
                    break
            held.clear()
            began = i + 1
            continue
        if not known:
            fate[i] = UNKNOWN if broken else SUPERSEDED
            continue
        if own[i] == 0 or last == 0:
            fate[i], last, last_day, fresh = KEPT, own[i], day[i], False
            continue
        if own[i] <= last:
            if last_day >= 0 and day[i] != last_day and previous[i] < own[i]:
                resets.append(np.int64(i))
                fate[i], last, last_day, fresh = KEPT, own[i], day[i], False
            elif fresh:
                fate[i] = SUPERSEDED
            else:
                fate[i] = DUPLICATE if _seen(own, fate, i, began) else LATE
            continue
        if previous[i] == last or previous[i] == 0 or (fresh and previous[i] <= last):
            fate[i], last, last_day, fresh = KEPT, own[i], day[i], False
            last = _drained(held, own, previous, last, i, moved, anchor)
            continue
        if _is_coming(is_snapshot, own, previous, i, last):
            fate[i] = HELD
            held.append(np.int64(i))
            continue
        held.clear()
        fate[i], fresh = BREAKS, False
        if keep_after_break:
            last, last_day = own[i], day[i]
        else:
            known, broken = False, True
    placed = np.array(moved, np.int64)
    for k in range(count):
        if fate[k] == HELD and not (placed == k).any():
            fate[k] = LATE
    return fate, placed, np.array(anchor, np.int64), np.array(resets, np.int64)


@compiled()
def _nothing():
    """An empty list of positions, of a type that the compiler knows."""
    return [np.int64(0) for _ in range(0)]


@compiled()
def _drained(held, own, previous, last, place, moved, anchor):
    """Apply what waited for the message at `place`; returns the id of the last update that is applied."""
    found = True
    while found:
        found = False
        for one in range(len(held)):
            if previous[held[one]] == last:
                k = held.pop(one)
                moved.append(k)
                anchor.append(np.int64(place))
                last, found = own[k], True
                break
    return last


@compiled()
def _newer(own, fate, snapshot, began):
    """Updates since the snapshot before that this one does not cover, in order."""
    found = _nothing()
    if own[snapshot] == 0:
        return found
    first = snapshot
    while first > began and (
        own[first - 1] > own[snapshot] or fate[first - 1] == DUPLICATE or fate[first - 1] == LATE
    ):
        first -= 1
    for k in range(first, snapshot):
        if own[k] > own[snapshot] and fate[k] != DUPLICATE and fate[k] != LATE:
            found.append(np.int64(k))
    return found


@compiled()
def _seen(own, fate, place, began):
    """Whether a message of the same id came since the chain began."""
    for k in range(place - 1, began - 1, -1):
        if own[k] == own[place]:
            return True
        if fate[k] == KEPT and own[k] < own[place]:
            return False
    return False


@compiled()
def _is_coming(is_snapshot, own, previous, place, last):
    """Whether the message that was lost comes among the next ones."""
    for k in range(place + 1, min(place + 1 + LOOK_AHEAD, len(own))):
        if is_snapshot[k]:
            return False
        if previous[k] == last and own[k] > last:
            return True
    return False
