"""Cross-validated splits against index arrays written out by hand, the paths against the table that Lopez de
Prado prints, and the rules that no split may break.
"""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from components.timeline import Settings, TimelineError, Windows, cross_validated_splits, purged_kfold
from components.timeline.cross_validation import UNTESTED, assign_paths, combinatorial_purged

WINDOWS = Windows(train=(0, 60), validation=(60, 90), test=(90, 120), backtest=(90, 120))
SMALL = Settings(
    scheme="combinatorial",
    groups=4,
    test_groups=2,
    purge_bars=2,
    embargo_bars=1,
    early_stopping_share=0.2,
)


def bars(*stretches: tuple[int, int]) -> list[int]:
    """The bars of stretches whose ends are both included."""
    return [bar for first, last in stretches for bar in range(first, last + 1)]


def test_purged_kfold_by_hand():
    folds = list(purged_kfold(12, n_folds=3, purge_bars=1, embargo_bars=2))
    assert [(train.tolist(), test.tolist()) for train, test in folds] == [
        ([7, 8, 9, 10, 11], [0, 1, 2, 3]),
        ([0, 1, 2, 11], [4, 5, 6, 7]),
        ([0, 1, 2, 3, 4, 5, 6], [8, 9, 10, 11]),
    ]


def test_combinatorial_purged_by_hand():
    folds = list(combinatorial_purged(8, n_folds=4, n_test_folds=2, purge_bars=1, embargo_bars=0))
    assert len(folds) == 6
    assert [(train.tolist(), test.tolist()) for train, test in folds[:3]] == [
        ([5, 6, 7], [0, 1, 2, 3]),
        ([7], [0, 1, 4, 5]),
        ([3, 4], [0, 1, 6, 7]),
    ]


def test_the_combinatorial_scheme_by_hand():
    """90 bars before the test window; labels of the last two reach into it, so 88 are cut into four."""
    found = cross_validated_splits(WINDOWS, SMALL, longest_horizon=1)
    assert found.groups == ((0, 22), (22, 44), (44, 66), (66, 88))
    assert [
        (fold.name, fold.train.tolist(), fold.early_stopping.tolist(), fold.predict.tolist())
        for fold in found.folds
    ] == [
        ("cv_00", bars((47, 76)), bars((80, 87)), bars((0, 43))),
        ("cv_01", bars((25, 41), (69, 77)), bars((81, 87)), bars((0, 21), (44, 65))),
        ("cv_02", bars((25, 53)), bars((57, 63)), bars((0, 21), (66, 87))),
        ("cv_03", bars((0, 19), (69, 77)), bars((81, 87)), bars((22, 65))),
        ("cv_04", bars((0, 19), (47, 53)), bars((57, 63)), bars((22, 43), (66, 87))),
        ("cv_05", bars((0, 30)), bars((34, 41)), bars((44, 87))),
    ]
    assert [fold.forward for fold in found.folds] == [False] * 5 + [True]
    assert found.group_of(np.array([0, 21, 22, 65, 66, 87])).tolist() == [0, 0, 1, 2, 3, 3]


def test_purged_k_fold_by_hand():
    found = cross_validated_splits(
        WINDOWS, SMALL.model_copy(update={"scheme": "purged_kfold"}), longest_horizon=1
    )
    assert [
        (fold.train.tolist(), fold.early_stopping.tolist(), fold.predict.tolist()) for fold in found.folds
    ] == [
        (bars((25, 72)), bars((76, 87)), bars((0, 21))),
        (bars((0, 19), (47, 72)), bars((76, 87)), bars((22, 43))),
        (bars((0, 41), (69, 72)), bars((76, 87)), bars((44, 65))),
        (bars((0, 48)), bars((52, 63)), bars((66, 87))),
    ]
    assert found.path_of.tolist() == np.where(np.eye(4, dtype=bool), 0, UNTESTED).tolist()
    assert found.paths == 1


def test_paths_are_those_of_the_book():
    """Advances in Financial Machine Learning, figure 12.2: six groups, two of them tested."""
    printed = """
        1 2 3 4 5 . . . . . . . . . .
        1 . . . . 2 3 4 5 . . . . . .
        . 1 . . . 2 . . . 3 4 5 . . .
        . . 1 . . . 2 . . 3 . . 4 5 .
        . . . 1 . . . 2 . . 3 . 4 . 5
        . . . . 1 . . . 2 . . 3 . 4 5
    """
    rows = [row.split() for row in printed.strip().splitlines()]
    table = [[0 if cell == "." else int(cell) for cell in row] for row in rows]
    assert (assign_paths(6, 2).T + 1).tolist() == table


@pytest.mark.parametrize(
    ("groups", "tested", "splits", "paths"), [(6, 2, 15, 5), (10, 2, 45, 9), (5, 1, 5, 1)]
)
def test_as_many_splits_and_paths_as_the_formula_says(groups, tested, splits, paths):
    """45 splits and 9 paths of two out of ten are what skfolio documents too."""
    found = assign_paths(groups, tested)
    assert found.shape == (splits, groups)
    assert found.max() + 1 == paths == comb(groups, tested) * tested // groups
    for column in found.T:
        assert sorted(column[column != UNTESTED]) == list(range(paths))


@settings(max_examples=60, deadline=None)
@given(
    bars=st.integers(20, 120), folds=st.integers(2, 6), purge=st.integers(0, 6), embargo=st.integers(0, 10)
)
def test_kfold_keeps_purge_and_embargo(bars, folds, purge, embargo):
    for train, test in purged_kfold(bars, n_folds=folds, purge_bars=purge, embargo_bars=embargo):
        before, after = train[train < test[0]], train[train > test[-1]]
        assert not set(train) & set(test)
        assert not len(before) or test[0] - before[-1] == purge + 1
        assert not len(after) or after[0] - test[-1] == purge + embargo + 1


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(330, 470),  # shorter ones may leave too few training bars, which is refused
    groups=st.integers(4, 6),
    tested=st.integers(1, 3),
    horizon=st.integers(1, 8),
    slack=st.integers(0, 3),
    embargo=st.one_of(st.none(), st.integers(0, 6)),
)
def test_no_label_that_is_learned_from_shares_a_bar_with_one_that_is_tested(
    length, groups, tested, horizon, slack, embargo
):
    """Every pair of a bar learned from and a bar tested, one by one."""
    timeline = Settings(
        scheme="combinatorial" if tested > 1 else "purged_kfold",
        groups=groups,
        test_groups=max(tested, 2),
        purge_bars=horizon + 1 + slack,
        embargo_bars=embargo,
        early_stopping_share=0.1,
    )
    begin = length * 2 // 3
    windows = Windows((0, begin), (begin, length), (length, length + 50), (length, length + 50))
    found = cross_validated_splits(windows, timeline, longest_horizon=horizon)
    end = found.groups[-1][1]
    assert end + horizon < length, "the last label is known before the test window begins"
    by_path = {path: [] for path in range(found.paths)}
    for number, fold in enumerate(found.folds):
        learned = np.concatenate([fold.train, fold.early_stopping])
        apart = np.abs(learned[:, None] - fold.predict[None, :])
        assert apart.min() > horizon, "two labels span a bar in common"
        later = learned[:, None] - fold.predict[None, :]
        inside = later[(later > 0)]
        assert not len(inside) or inside.min() > horizon + 1 + timeline.embargo(horizon)
        assert fold.train[-1] + horizon + 1 < fold.early_stopping[0]
        assert learned.max() < end
        for group, path in enumerate(found.path_of[number]):
            if path != UNTESTED:
                by_path[path] += range(*found.groups[group])
    assert all(sorted(held) == list(range(end)) for held in by_path.values())


def test_the_walk_forward_has_no_cross_validation():
    assert cross_validated_splits(WINDOWS, Settings(), longest_horizon=1) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"groups": 20},
            r"groups=20 cut the 88 bars .* groups of 4, .* 5 bars .*twice purge_bars=2",
        ),
        ({"purge_bars": 11, "groups": 4}, r"groups of 22, .* 23 bars"),
        ({"purge_bars": 1}, r"purge_bars=1 is shorter than a label reaches, 2 bars"),
        (
            {"purge_bars": 8, "embargo_bars": 4},
            r"cv_00, .* left beside 44 tested.*20 are needed",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_numbers(changes, words):
    with pytest.raises(TimelineError, match=words):
        cross_validated_splits(WINDOWS, SMALL.model_copy(update=changes), longest_horizon=1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"groups": 4, "test_groups": 4}, "test_groups=4 of groups=4 leave none to learn from"),
        ({"groups": 12, "test_groups": 4}, "are 495 splits, .* 100 are the most"),
        ({"test_groups": 1}, "greater than or equal to 2"),
    ],
)
def test_choices_that_can_not_be_made_are_refused_without_any_data(values, words):
    with pytest.raises(ValidationError, match=words):
        Settings(scheme="combinatorial", **values)


def test_what_the_walk_forward_depends_on_is_the_same_in_every_scheme():
    assert SMALL.walking() == Settings(purge_bars=2, embargo_bars=1, early_stopping_share=0.2)
