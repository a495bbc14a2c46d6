"""The chain of depth messages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ticks.chain import (
    BREAKS,
    DAY_NS,
    DUPLICATE,
    HELD,
    KEPT,
    LATE,
    SUPERSEDED,
    UNKNOWN,
    Messages,
    chained,
)


def follow(rows, keep=False):
    """Rows of (is a snapshot, time, id, id before)."""
    table = np.array(rows, np.int64)
    messages = Messages(table[:, 0] == 1, table[:, 1], table[:, 2], table[:, 3])
    return chained(messages, keep_after_break=keep)


def test_a_whole_chain_is_kept():
    found = follow([(1, 0, 5, 0), (0, 1, 7, 5), (0, 2, 9, 7)])
    assert found.fate.tolist() == [KEPT] * 3
    assert not len(found.moved)
    assert not len(found.resets)


def test_what_came_before_the_snapshot_is_applied_to_it_where_it_is_newer():
    found = follow([(0, 0, 5, 4), (0, 1, 10, 5), (0, 2, 15, 10), (1, 3, 12, 0), (0, 4, 20, 15)])
    assert found.fate.tolist() == [SUPERSEDED, SUPERSEDED, SUPERSEDED, KEPT, KEPT]
    assert found.moved.tolist() == [2]
    assert found.anchor.tolist() == [3]


def test_what_a_snapshot_contains_already_is_left_out_after_it_too():
    assert follow([(1, 0, 12, 0), (0, 1, 10, 5), (0, 2, 15, 10)]).fate.tolist() == [KEPT, SUPERSEDED, KEPT]


def test_after_a_loss_nothing_is_known_until_the_next_snapshot():
    rows = [(1, 0, 5, 0), (0, 1, 9, 7), (0, 2, 11, 9), (1, 3, 11, 0), (0, 4, 13, 11)]
    assert follow(rows).fate.tolist() == [KEPT, BREAKS, UNKNOWN, KEPT, KEPT]
    assert follow(rows, keep=True).fate.tolist() == [KEPT, BREAKS, KEPT, KEPT, KEPT]


def test_an_update_that_overtook_its_forerunner_waits_for_it():
    found = follow([(1, 0, 5, 0), (0, 1, 9, 7), (0, 2, 7, 5), (0, 3, 11, 9)])
    assert found.fate.tolist() == [KEPT, HELD, KEPT, KEPT]
    assert found.moved.tolist() == [1]
    assert found.anchor.tolist() == [2]


def test_twice_and_late():
    rows = [(1, 0, 5, 0), (0, 1, 7, 5), (0, 2, 7, 5), (0, 3, 9, 7), (0, 4, 6, 5)]
    assert follow(rows).fate.tolist() == [KEPT, KEPT, DUPLICATE, KEPT, LATE]


def test_ids_that_start_anew_at_midnight_are_told_and_kept_and_within_a_day_are_late():
    start = [(1, 0, 500, 0), (0, 1, 510, 500)]
    night = follow([*start, (0, DAY_NS + 1, 5, 0), (0, DAY_NS + 2, 10, 5)])
    assert night.fate.tolist() == [KEPT] * 4
    assert night.resets.tolist() == [2]
    assert follow([*start, (0, 2, 5, 0), (0, 3, 10, 5)]).fate.tolist() == [KEPT, KEPT, LATE, LATE]


def test_the_day_ends_at_midnight_to_the_nanosecond():
    start, midnight = [(1, 0, 500, 0), (0, 1, 510, 500)], 24 * 3_600 * 10**9
    assert follow([*start, (0, midnight - 1, 5, 0)]).fate.tolist() == [KEPT, KEPT, LATE]
    assert follow([*start, (0, midnight, 5, 0)]).fate.tolist() == [KEPT] * 3


def test_a_forerunner_is_waited_for_over_eight_messages_and_no_more():
    def overtaken_by(count):
        early = [(0, n, 7 + 2 * n, 5 + 2 * n) for n in range(1, count + 1)]
        return follow([(1, 0, 5, 0), *early, (0, count + 1, 7, 5)])

    found = overtaken_by(8)
    assert found.fate.tolist() == [KEPT, *[HELD] * 8, KEPT]
    assert found.moved.tolist() == list(range(1, 9))
    assert overtaken_by(9).fate.tolist() == [KEPT, BREAKS, *[UNKNOWN] * 9]


def test_before_a_snapshot_too_an_update_continues_the_last_one():
    """Ids 15 to 20 are lost, or told from 13 on: neither is applied, nor what follows it."""
    snapshot = [(1, 3, 12, 0), (0, 4, 17, 15)]
    for previous in (13, 17):
        before = [(0, 0, 15, 10), (0, 1, 20, previous), (0, 2, 25, 15)]
        found = follow([*before, *snapshot])
        assert found.moved.tolist() == [0]
        assert found.fate.tolist() == [SUPERSEDED] * 3 + [KEPT] * 2


NIGHT = DAY_NS + 1
SNAPSHOT_500 = [(1, 0, 500, 0), (0, 1, 510, 500)]


@pytest.mark.parametrize(
    ("rows", "fate"),
    [
        pytest.param(
            [(1, 0, 0, 0), (0, 1, 7, 5), (0, 2, 9, 7), (0, 3, 13, 11)],
            [KEPT, KEPT, KEPT, BREAKS],
            id="any update follows a snapshot without an id",
        ),
        pytest.param(
            [(1, 0, 5, 0), (0, 1, 7, 5), (0, 2, 0, 0), (0, 3, 9, 7)],
            [KEPT] * 4,
            id="one without an id is not late",
        ),
        pytest.param(
            [(1, 0, 5, 0), (0, 1, 9, 0)], [KEPT, KEPT], id="without the id before it continues any other"
        ),
        pytest.param(
            [(0, 0, 15, 10), (1, 1, 0, 0), (0, 2, 20, 15)],
            [SUPERSEDED, KEPT, KEPT],
            id="nothing is newer than a snapshot without an id",
        ),
        pytest.param(
            [(1, 0, 5, 0), (0, 1, 7, 5), (0, 2, 10, 6)],
            [KEPT, KEPT, BREAKS],
            id="only the first after a snapshot may reach back",
        ),
        pytest.param(
            [(1, 0, 5, 0), (0, 1, 9, 7), (1, 2, 5, 0), (0, 3, 7, 5)],
            [KEPT, BREAKS, KEPT, KEPT],
            id="nothing is waited for beyond a snapshot",
        ),
        pytest.param(
            [(0, 0, 15, 12), (1, 1, 20, 0), (1, 2, 12, 0), (0, 3, 14, 12)],
            [SUPERSEDED, KEPT, KEPT, KEPT],
            id="what came before one snapshot is not applied to the next",
        ),
        pytest.param(
            [(1, 0, 5, 0), (0, 1, 7, 5), (1, 2, 9, 0), (0, 3, 11, 9), (0, 4, 7, 5)],
            [KEPT, KEPT, KEPT, KEPT, LATE],
            id="twice is within one chain",
        ),
        pytest.param(
            [(1, 0, 4, 0), (0, 1, 5, 4), (0, 2, 9, 5), (0, NIGHT, 3, 1), (0, NIGHT, 9, 3), (0, NIGHT, 5, 4)],
            [KEPT, KEPT, KEPT, KEPT, KEPT, LATE],
            id="twice is within one numbering",
        ),
        pytest.param(
            [*SNAPSHOT_500, (0, NIGHT, 5, 510)],
            [KEPT, KEPT, LATE],
            id="no numbering begins below its forerunner",
        ),
        pytest.param(
            [*SNAPSHOT_500, (0, 2, 514, 512), (0, NIGHT, 5, 1), (0, NIGHT, 512, 510)],
            [KEPT, KEPT, LATE, KEPT, BREAKS],
            id="what waited for one of the old numbering is late",
        ),
    ],
)
def test_what_becomes_of_each(rows, fate):
    found = follow(rows)
    assert found.fate.tolist() == fate
    assert not len(found.moved)


def test_a_break_that_is_kept_is_of_its_day():
    found = follow([(1, 0, 5, 0), (0, NIGHT, 9, 7), (0, NIGHT + 1, 8, 7)], keep=True)
    assert found.fate.tolist() == [KEPT, BREAKS, LATE]
    assert not len(found.resets)


def test_without_ids_nothing_is_judged():
    assert follow([(1, 0, 0, 0), (0, 1, 0, 0), (0, 2, 0, 0)]).fate.tolist() == [KEPT] * 3


@settings(deadline=None)
@given(st.lists(st.sampled_from(["update", "lose", "twice", "swap", "snapshot"]), min_size=1, max_size=40))
def test_what_is_applied_is_a_chain_whatever_happens(story):
    """Applied in its order, each update continues the last one, or follows a snapshot, or a break."""
    rows, now = [(1, 0, 100, 0)], 100
    for n, what in enumerate(story, start=1):
        if what == "snapshot":
            rows.append((1, n, now, 0))
            continue
        rows.append((0, n, now + 1, now))
        now += 1
        if what == "lose":
            rows.pop()
        elif what == "twice":
            rows.append(rows[-1])
        elif what == "swap":
            rows.append((0, n, now + 1, now))
            now += 1
            rows[-2], rows[-1] = rows[-1], rows[-2]
    found = follow(rows)
    applied = [(i, 0, i) for i in range(len(rows)) if found.fate[i] in (KEPT, BREAKS)]
    pairs = zip(found.moved, found.anchor, strict=True)
    applied += [(anchor, 1 + turn, moved) for turn, (moved, anchor) in enumerate(pairs)]
    last = None
    for _, _, place in sorted(applied):
        is_snapshot, _, own, previous = rows[place]
        if is_snapshot:
            last = own
        elif found.fate[place] == BREAKS:
            last = None
        else:
            assert last is not None
            assert previous <= last < own
            last = own
    if not {"lose"} & set(story):
        assert BREAKS not in found.fate
        assert UNKNOWN not in found.fate
