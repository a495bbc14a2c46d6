"""Splits against index arrays written out by hand, and the rules that no split may break."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from components.timeline import (
    Settings,
    TimelineError,
    Windows,
    bar_index,
    resolve_windows,
    walk_forward,
)
from components.timeline.splits import check_gaps


def days(count: int) -> pl.Series:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return pl.datetime_range(start, start.replace(year=2030), "1d", time_unit="us", eager=True).head(count)


def test_walk_forward_by_hand():
    timeline = Settings(fold_bars=10, purge_bars=2, embargo_bars=1, early_stopping_share=0.2)
    windows = Windows(train=(0, 50), validation=(50, 60), test=(60, 84), backtest=(60, 84))
    folds = walk_forward(windows, timeline, longest_horizon=1)
    summary = [
        (
            f.name,
            f.train[[0, -1]].tolist(),
            f.early_stopping[[0, -1]].tolist(),
            f.predict[[0, -1]].tolist() if len(f.predict) else None,
        )
        for f in folds
    ]
    assert summary == [
        ("fold_00", [0, 34], [38, 46], [50, 59]),
        ("fold_01", [0, 42], [46, 56], [60, 69]),
        ("fold_02", [0, 50], [54, 66], [70, 83]),
        ("final", [0, 62], [66, 81], None),
    ]


def test_a_train_window_that_ends_early_keeps_its_distance_in_every_fold():
    timeline = Settings(fold_bars=10, purge_bars=2, embargo_bars=1, early_stopping_share=0.2)
    folds = walk_forward(Windows((0, 44), (50, 60), (60, 80), (60, 80)), timeline, longest_horizon=1)
    assert [int(fold.predict[0] - fold.early_stopping[-1] - 1) for fold in folds[:-1]] == [6, 6, 6]


def test_a_short_remainder_joins_the_block_before_it_and_a_long_one_stands_alone():
    timeline = Settings(fold_bars=10, purge_bars=2, embargo_bars=1)
    lengths = {
        end: [
            len(f.predict)
            for f in walk_forward(
                Windows((0, 60), (60, 70), (70, end), (70, end)), timeline, longest_horizon=1
            )
        ]
        for end in (84, 85)
    }
    assert lengths == {84: [10, 14, 0], 85: [10, 10, 5, 0]}


def test_rolling_window_keeps_its_length():
    timeline = Settings(fold_bars=10, purge_bars=2, embargo_bars=1, train_bars=40)
    folds = walk_forward(Windows((0, 60), (60, 80), (80, 100), (80, 100)), timeline, longest_horizon=1)
    assert [int(f.early_stopping[-1] - f.train[0] + 1) for f in folds] == [40, 40, 40, 40, 40]


@settings(max_examples=100, deadline=None)
@given(
    train=st.integers(75, 200),
    validation=st.integers(5, 80),
    test=st.integers(5, 80),
    step=st.integers(5, 60),
    horizon=st.integers(1, 10),
    slack=st.integers(0, 5),
    embargo=st.integers(0, 5),
)
def test_no_label_of_training_reaches_what_is_predicted(
    train, validation, test, step, horizon, slack, embargo
):
    timeline = Settings(fold_bars=step, purge_bars=horizon + 1 + slack, embargo_bars=embargo)
    end = train + validation + test
    windows = Windows(
        (0, train), (train, train + validation), (train + validation, end), (train + validation, end)
    )
    folds = walk_forward(windows, timeline, longest_horizon=horizon)
    predicted = np.concatenate([fold.predict for fold in folds])
    assert predicted.tolist() == list(range(train, end))
    for fold in folds:
        reach = horizon + 1
        assert fold.train[-1] + reach < fold.early_stopping[0]
        if len(fold.predict):
            assert fold.early_stopping[-1] + reach < fold.predict[0]
        else:
            assert fold.early_stopping[-1] + reach < end + 1


def test_windows_from_dates_and_from_shares():
    calendar = days(100)
    windows = resolve_windows(
        calendar,
        Settings.model_validate(
            {"validation": {"start": "2024-02-20"}, "test": {"start": "2024-03-11", "end": "2024-03-31"}}
        ),
    )
    assert (windows.train, windows.validation, windows.test, windows.backtest) == (
        (0, 50),
        (50, 70),
        (70, 91),
        (70, 91),
    )
    assert resolve_windows(calendar, Settings()) == Windows((0, 50), (50, 70), (70, 100), (70, 100))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {
                "train": {"end": "2024-02-10"},
                "validation": {"start": "2024-02-10"},
                "test": {"start": "2024-03-10"},
            },
            "after timeline.validation begins",
        ),
        (
            {"validation": {"start": "2024-02-20"}, "test": {"start": "2026-01-01"}},
            "timeline.test holds no bars",
        ),
        ({"backtest": {"start": "2024-02-01"}}, "before timeline.test"),
    ],
)
def test_windows_that_do_not_fit_are_refused(values, words):
    with pytest.raises(TimelineError, match=words):
        resolve_windows(days(100), Settings.model_validate(values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train": {"start": "2022-01-01", "end": "2020-12-31"}}, "start=2022-01-01 is after end=2020-12-31"),
        (
            {"train": {"end": "2022-12-31"}, "validation": {"start": "2022-06-01"}},
            "train.end=2022-12-31 is after validation.start=2022-06-01",
        ),
        (
            {"validation": {"end": "2023-12-31"}, "test": {"start": "2021-01-01"}},
            "validation.end=2023-12-31 is after test.start=2021-01-01",
        ),
        (
            {"train": {"start": "2023-01-01"}, "test": {"end": "2021-01-01"}},
            "train.start=.* is after test.end",
        ),
        (
            {"test": {"start": "2023-01-01"}, "backtest": {"start": "2022-01-01"}},
            "backtest.start=2022-01-01 is before test.start=2023-01-01",
        ),
    ],
)
def test_dates_in_the_wrong_order_are_refused_without_any_data(values, words):
    with pytest.raises(ValidationError, match=words):
        Settings.model_validate(values)


def test_dates_that_touch_or_are_left_out_are_taken():
    Settings.model_validate({"train": {"start": "2020-01-01"}, "test": {"end": "2021-01-01"}})
    Settings.model_validate({"train": {"end": "2020-12-31"}, "validation": {"start": "2020-12-31"}})
    Settings.model_validate({"test": {"start": "2023-01-01"}, "backtest": {"start": "2023-05-01"}})


def test_a_purge_shorter_than_the_label_is_refused_with_the_number_needed():
    check_gaps(Settings(purge_bars=6), 5)
    with pytest.raises(
        TimelineError,
        match=r"purge_bars=5 is shorter than a label reaches, 6 bars.*Set timeline.purge_bars to 6",
    ):
        check_gaps(Settings(purge_bars=5), 5)


def test_a_rolling_window_that_gaps_use_up_is_refused_with_its_numbers():
    check_gaps(Settings(purge_bars=6, embargo_bars=5, train_bars=37), 5)
    with pytest.raises(
        TimelineError,
        match=r"train_bars=30 leaves 15 .* 4 for early stopping .*purge_bars=6 \+ embargo",
    ):
        check_gaps(Settings(purge_bars=6, embargo_bars=5, train_bars=30), 5)


@pytest.mark.parametrize(("horizon", "bars"), [(1, 1), (5, 3), (10, 5), (21, 11)])
def test_an_embargo_that_is_left_out_is_half_the_longest_horizon(horizon, bars):
    assert Settings().embargo(horizon) == bars
    assert Settings(embargo_bars=7).embargo(horizon) == 7
    given, derived = (
        walk_forward(
            Windows((0, 100), (100, 130), (130, 160), (130, 160)),
            Settings(purge_bars=22, embargo_bars=embargo, fold_bars=30),
            longest_horizon=horizon,
        )
        for embargo in (bars, None)
    )
    for one, other in zip(given, derived, strict=True):
        assert one.train.tolist() == other.train.tolist()
        assert one.early_stopping.tolist() == other.early_stopping.tolist()


def test_too_little_history_is_refused():
    with pytest.raises(TimelineError, match="20 are needed"):
        walk_forward(
            Windows((0, 30), (30, 40), (40, 50), (40, 50)),
            Settings(purge_bars=6, fold_bars=10),
            longest_horizon=5,
        )
    with pytest.raises(TimelineError, match="only 5 bars"):
        resolve_windows(days(5), Settings())


def test_rows_of_all_symbols_fall_on_the_same_side():
    moments = days(4)
    rows = pl.concat([moments, moments[1:], moments[:2]])
    calendar, positions = bar_index(rows)
    assert calendar.to_list() == moments.to_list()
    assert positions.tolist() == [0, 1, 2, 3, 1, 2, 3, 0, 1]
