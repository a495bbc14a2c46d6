"""What was served becomes the table of a check: the champion's own answers, on bars that it has not learned
from, the newest ones.
"""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from components.contracts import SERVED, TIME, check_table, write_table
from components.contracts.served import hour_folder
from components.retraining.collect import collect_served
from tests.retraining.entries import champion

CHAMPION = champion(version=2, known_until=datetime(2024, 1, 10, 21, tzinfo=UTC))
CLOSES = [datetime(2024, 1, day, 21, tzinfo=UTC) for day in range(8, 20)]


def answers(
    closes, *, bundle="b" * 64, symbols=("A", "B"), score=1.0, request="r", delay_h=1
) -> pl.DataFrame:
    rows = [
        {
            "answered_at": close + timedelta(hours=delay_h),
            "request_id": f"{request}{close:%d}",
            "symbol": symbol,
            "timestamp": close,
            "known_time": close,
            "bundle_sha256": bundle,
        }
        for close in closes
        for symbol in symbols
    ]
    same = {"endpoint": "signals", "model_version": 2, "publication": "p", "stale": False}
    numbers = {name: pl.lit(score) for name in ("score", "uncertainty", "p10", "p50", "p90", "position")}
    frame = pl.DataFrame(
        rows, schema_overrides=dict.fromkeys(("answered_at", "timestamp", "known_time"), TIME)
    ).with_columns(
        **{name: pl.lit(value) for name, value in same.items()}, **numbers, momentum=pl.lit(score, pl.Float32)
    )
    return (
        frame.with_columns(pl.col("model_version").cast(pl.Int64))
        .select(*SERVED.columns, "momentum")
        .sort(SERVED.key)
    )


@pytest.fixture
def log(tmp_path):
    def put(frame: pl.DataFrame, name: str) -> None:
        for part in frame.partition_by("answered_at", maintain_order=True):
            write_table(
                part,
                hour_folder(tmp_path, part["answered_at"][0]) / f"{name}.parquet",
                SERVED,
                code_version="c",
                config_hash="h",
            )

    put(answers(CLOSES), "all")
    return tmp_path, put


def test_bars_of_the_training_are_left_out(log):
    rows = collect_served(log[0], CHAMPION, window_bars=100)
    check_table(rows, SERVED)
    assert sorted(rows["timestamp"].unique()) == CLOSES[3:]
    assert rows.select("timestamp", "symbol").is_unique().all()
    assert "momentum" in rows.columns


def test_only_the_newest_bars_are_kept(log):
    assert sorted(collect_served(log[0], CHAMPION, window_bars=4)["timestamp"].unique()) == CLOSES[-4:]


def test_of_two_answers_on_a_bar_the_newer_counts(log):
    folder, put = log
    put(answers(CLOSES[-1:], score=5.0, request="again", delay_h=2), "again")
    rows = collect_served(folder, CHAMPION, window_bars=1)
    assert rows["score"].to_list() == [5.0, 5.0]


def test_answers_of_another_version_are_left_out(log):
    folder, put = log
    put(answers(CLOSES[-2:], bundle="a" * 64, symbols=("C",), request="old"), "old")
    rows = collect_served(folder, CHAMPION, window_bars=100)
    assert set(rows["symbol"]) == {"A", "B"}
    assert collect_served(
        folder, CHAMPION.model_copy(update={"bundle_sha256": "c" * 64}), window_bars=100
    ).is_empty()


def test_without_champion_or_log_nothing_comes_back(log, tmp_path):
    for folder, answering in ((log[0], None), (tmp_path / "none", CHAMPION)):
        rows = collect_served(folder, answering, window_bars=10)
        assert rows.is_empty()
        check_table(rows, SERVED)


def test_bars_that_lie_ahead_of_this_clock_count_as_well(log):
    """A simulation may run ahead of the present day: its answers are then given before their bars."""
    folder, put = log
    ahead = [close.replace(year=2999) for close in CLOSES]
    put(answers(ahead, delay_h=-24 * 365 * 900), "ahead")
    rows = collect_served(folder, CHAMPION.model_copy(update={"known_until": ahead[2]}), window_bars=100)
    assert sorted(rows["timestamp"].unique()) == ahead[3:]
