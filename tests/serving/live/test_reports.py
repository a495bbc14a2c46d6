"""Whether the processes beside the service live: by whether their reports move, whatever any clock says."""

from datetime import UTC, datetime, timedelta

import pytest

from serving.live.reports import Reports
from serving.processes.documents import FollowerReport, WriterReport

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)


class Beside:
    """A log writer and a registry follower that report when told, and a clock that only runs ahead."""

    def __init__(self, folder) -> None:
        self.folder, self.seconds = folder, 1000.0
        self.reports = Reports(folder, lambda: self.seconds)

    def report(self, at: datetime) -> None:
        WriterReport(
            at=at,
            rows_written=0,
            parts_written=0,
            spool_bytes=0,
            torn=0,
            broken=0,
            problem=None,
            feature_shift=None,
        ).write(self.folder / "log_writer.json")
        FollowerReport(checked_at=at, problem=None, refused=None).write(self.folder / "champion_watch.json")

    def lives(self, after_s: float = 0.0) -> bool:
        self.seconds += after_s
        self.reports.writer(), self.reports.follower()
        found = {self.reports.writer_lives(), self.reports.follower_lives()}
        assert len(found) == 1
        return found.pop()


@pytest.fixture
def beside(tmp_path) -> Beside:
    return Beside(tmp_path)


def test_a_report_that_moves_is_that_of_a_process_that_lives(beside):
    assert not beside.lives()
    beside.report(NOON)
    beside.lives()
    for second in range(1, 90, 3):
        beside.report(NOON + timedelta(seconds=second))
        assert beside.lives(3)


@pytest.mark.parametrize("stepped", [timedelta(hours=-1), timedelta(days=-400), timedelta(hours=2)])
def test_a_dead_one_is_dead_after_half_a_minute_whatever_its_last_time_was(beside, stepped):
    """Its last report lies in what is our future, or our past, once the clock was set."""
    beside.report(NOON)
    beside.lives()
    beside.report(datetime.now(UTC) - stepped)
    assert beside.lives(1)
    assert beside.lives(29)
    assert not beside.lives(2)
    assert not beside.lives(3600)


@pytest.mark.parametrize("stepped", [timedelta(hours=-1), timedelta(days=400)])
def test_one_whose_clock_steps_lives_on(beside, stepped):
    beside.report(NOON)
    beside.lives()
    for second in range(1, 90, 10):
        beside.report(NOON + stepped + timedelta(seconds=second))
        assert beside.lives(10)


def test_what_a_dead_one_left_before_we_began_says_nothing(beside):
    beside.report(datetime.now(UTC) + timedelta(hours=1))
    assert not beside.lives()
    assert not beside.lives(5)
