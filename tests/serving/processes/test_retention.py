"""What the answer log removes: the old and what is too much, never what drift still looks at, and no hour by
half.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.contracts import read_served, served_parts
from components.contracts.documents.champion import ChampionRecord
from components.retraining.collect import collect_served
from serving.processes import retention
from serving.processes.log_writer import LogWriter
from serving.processes.retention import Keep, remove_old
from tests.serving.made_answers import BAR_US, QUICK, answer, make_plan
from tests.serving.processes.test_log_writer import HOUR_US, NOON_US, log_answers, opened

OLD, NEW = "a" * 64, "b" * 64
NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
KEEP = Keep(days=None, most_bytes=None, bars=1, bundles=())


def written(folder: Path, hours: int, *, per_hour: int = 1, settings=QUICK, **of_answer) -> LogWriter:
    """A log with answers of so many hours from noon on; bar and request number rise together."""
    plan = make_plan(folder, settings)
    log_answers(
        plan,
        [
            replace(
                answer(hour * per_hour + each, answered_at_us=NOON_US + hour * HOUR_US + each), **of_answer
            )
            for hour in range(hours)
            for each in range(per_hour)
        ],
    )
    writer = opened(plan)
    writer.take_closed()
    return writer


def hours_left(folder: Path) -> list[int]:
    names = sorted({part.parent.name for part in served_parts(folder / "served")})
    moments = [datetime.strptime(name, "hour=%Y-%m-%dT%H").replace(tzinfo=UTC) for name in names]
    return [int((moment - NOON) / timedelta(hours=1)) for moment in moments]


def test_hours_older_than_the_limit_go_and_it_is_said(tmp_path, capsys):
    settings = QUICK.model_copy(update={"keep_served_days": 3 / 24})
    writer = written(tmp_path, 8, settings=settings)
    assert writer.remove_old(now=NOON + timedelta(hours=7, minutes=59)) == 4
    assert hours_left(tmp_path) == [4, 5, 6, 7]
    said = capsys.readouterr().err
    assert "removed 4 hours of answers" in said
    assert "hour=2024-05-06T12 to hour=2024-05-06T15" in said
    assert writer.remove_old(now=NOON + timedelta(hours=7, minutes=59)) == 0
    assert capsys.readouterr().err == ""


def test_nothing_goes_by_default_from_a_young_small_log(tmp_path):
    assert written(tmp_path, 4).remove_old(now=NOON + timedelta(days=399)) == 0
    assert hours_left(tmp_path) == [0, 1, 2, 3]


def test_a_clock_that_runs_ahead_removes_nothing(tmp_path):
    """Twenty years from now, says the clock; the log knows better."""
    assert written(tmp_path, 4).remove_old(now=NOON + timedelta(days=20 * 365)) == 0
    assert hours_left(tmp_path) == [0, 1, 2, 3]


def test_the_oldest_hours_go_where_the_log_takes_too_much(tmp_path):
    written(tmp_path, 6)
    sizes = [part.stat().st_size for part in served_parts(tmp_path / "served")]
    keep = replace(KEEP, most_bytes=sum(sizes[3:]) + 1)
    removed = remove_old(tmp_path / "served", keep, now=NOON)
    assert (hours_left(tmp_path), removed.size, removed.beyond) == ([3, 4, 5], sum(sizes[:3]), 0)


def test_the_newest_hour_stays_whatever_it_takes(tmp_path, capsys):
    settings = QUICK.model_copy(update={"keep_served_bytes": 1})
    assert written(tmp_path, 3, settings=settings).remove_old(now=NOON) == 2
    assert hours_left(tmp_path) == [2]
    assert "more than serving.keep_served_bytes" in capsys.readouterr().err


def champion(bundle: str) -> ChampionRecord:
    return ChampionRecord(
        version=1,
        run_id="r",
        bundle_sha256=bundle,
        inputs={},
        horizon=5,
        known_until=datetime.fromtimestamp(BAR_US / 1e6 - 1, UTC),
        train_window="",
        history=[],
        newest=None,
    )


@pytest.mark.parametrize("limit", [{"days": 1 / 24}, {"most_bytes": 1}])
def test_what_drift_still_looks_at_stays_for_every_champion_on_disk(tmp_path, limit):
    # The old champion answered for 12 hours, then the new one; a third one is on disk no more.
    written(tmp_path, 12, bundle_sha256=OLD)._lock.close()
    plan = make_plan(tmp_path)
    later = [answer(100 + hour, answered_at_us=NOON_US + (20 + hour) * HOUR_US) for hour in range(10)]
    gone = [answer(200 + hour, answered_at_us=NOON_US + hour * HOUR_US) for hour in range(3)]
    log_answers(plan, [replace(each, bundle_sha256=NEW) for each in later])
    log_answers(plan, [replace(each, bundle_sha256="c" * 64) for each in gone])
    opened(plan).take_closed()
    looked_at = {
        bundle: collect_served(tmp_path / "served", champion(bundle), window_bars=4) for bundle in (OLD, NEW)
    }
    keep = Keep(**{"days": None, "most_bytes": None, **limit}, bars=4, bundles=(OLD, NEW))
    remove_old(tmp_path / "served", keep, now=NOON + timedelta(hours=29))
    assert set(hours_left(tmp_path)) == {8, 9, 10, 11, 26, 27, 28, 29}
    for bundle, before in looked_at.items():
        assert len(before) == 8
        after = collect_served(tmp_path / "served", champion(bundle), window_bars=4)
        assert after.equals(before)


def test_cut_short_an_hour_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    writer = written(tmp_path, 5, per_hour=3, settings=QUICK.model_copy(update={"keep_served_days": 1 / 24}))
    rmtree, calls = retention.shutil.rmtree, []

    def killed(folder, **how):
        calls.append(folder)
        if len(calls) == 2:
            next(folder.iterdir()).unlink()
            raise KeyboardInterrupt
        rmtree(folder, **how)

    monkeypatch.setattr(retention.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        writer.remove_old(now=NOON + timedelta(hours=4, minutes=1))
    monkeypatch.undo()
    assert hours_left(tmp_path) == [2, 3, 4]
    assert len(read_served(tmp_path / "served")) == 3 * 3 * 2
    writer._lock.close()
    opened(make_plan(tmp_path))
    assert sorted(path.name for path in (tmp_path / "served").iterdir()) == [
        f"hour=2024-05-06T{hour}" for hour in (14, 15, 16)
    ]


def test_a_log_without_answers_is_left_alone(tmp_path):
    writer = opened(make_plan(tmp_path, QUICK.model_copy(update={"keep_served_bytes": 1})))
    assert writer.remove_old() == 0
