"""The answer log's service side: what is acknowledged is on file whatever is killed, and no disk slows or
fails an answer.
"""

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.live import answer_log, segments
from serving.live.answer_log import AnswerLog
from serving.live.segments import MAGIC, read_segment, spool_bytes
from tests.serving.made_answers import COLUMNS, QUICK, answer

ROOT = Path(__file__).parents[3]
WAIT_S = 120


def logged(spool: Path, answers, settings=QUICK) -> list[bool]:
    log = AnswerLog(spool, settings)
    log.start()
    kept = [future.result(WAIT_S) for future in [log.append(a) for a in answers]]
    log.close()
    return kept


def contents(spool: Path):
    return [read_segment(path.read_bytes()) for path in sorted(spool.glob("*.segment"))]


def numbers(spool: Path) -> list[int]:
    return [int(a.request_id[1:]) for content in contents(spool) for a in content.answers]


def same(left, right) -> bool:
    arrays = ("timestamps_us", "known_times_us", "stale", "outputs", "features")
    plain = (
        "request_id",
        "endpoint",
        "answered_at_us",
        "model_version",
        "bundle_sha256",
        "publication",
        "columns",
    )
    return (
        list(left.symbols) == list(right.symbols)
        and all(getattr(left, n) == getattr(right, n) for n in plain)
        and all(np.array_equal(getattr(left, n), getattr(right, n), equal_nan=n != "stale") for n in arrays)
    )


def until(condition) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_all_that_waits_when_the_log_closes_is_written(tmp_path):
    log = AnswerLog(tmp_path, QUICK)
    futures = [log.append(answer(number)) for number in (1, 2, 3)]
    log.close()  # before the thread begins, so that it finds answers and the end at once
    log.start()
    assert [future.result(10) for future in futures] == [True] * 3
    assert numbers(tmp_path) == [1, 2, 3]


def test_answers_come_back_as_they_went_in_also_with_other_columns(tmp_path):
    given_answers = [answer(1), answer(2, columns=("other",)), answer(3, rows=500), answer(4)]
    assert logged(tmp_path, given_answers) == [True] * 4
    found = [a for content in contents(tmp_path) for a in content.answers]
    assert all(same(*pair) for pair in zip(given_answers, found, strict=True))
    assert not [content for content in contents(tmp_path) if content.torn_bytes or content.damage]


def test_probabilities_come_back_and_what_was_written_without_them_is_read(tmp_path):
    chances = np.array([[0.2, 0.5, 0.3], [0.7, 0.0, 0.3]])
    logged(tmp_path, [replace(answer(1), chances=chances), answer(2)])
    (with_them, without), (content,) = contents(tmp_path)[0].answers, contents(tmp_path)
    np.testing.assert_array_equal(with_them.chances, chances)
    assert without.chances is None
    assert same(with_them, answer(1, answered_at_us=with_them.answered_at_us))
    assert content.damage is None


def test_a_record_cut_off_at_any_byte_is_left_out_and_the_ones_before_it_stay(tmp_path):
    logged(tmp_path, [answer(1), answer(2)])
    data = next(tmp_path.glob("*.segment")).read_bytes()
    begins = data.rindex(b"\xa1REC")
    assert [len(read_segment(data[:cut]).answers) for cut in range(begins, len(data))] == [1] * (
        len(data) - begins
    )
    assert all(
        read_segment(data[:cut]).torn_bytes == cut - begins and not read_segment(data[:cut]).damage
        for cut in range(begins, len(data))
    )
    assert [read_segment(MAGIC[:cut]).torn_bytes for cut in range(len(MAGIC))] == list(range(len(MAGIC)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_changed_byte_is_seen_and_never_an_exception(data):
    whole = SEGMENT
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    content = read_segment(changed)
    assert content.damage or content.torn_bytes
    assert all(any(same(a, b) for b in ANSWERS) for a in content.answers)


@pytest.mark.parametrize("flip", [1, 2, 3, 128, 255])
def test_every_byte_is_watched(flip):
    for place in range(len(SEGMENT)):
        content = read_segment(SEGMENT[:place] + bytes([SEGMENT[place] ^ flip]) + SEGMENT[place + 1 :])
        assert content.damage or content.torn_bytes, place


ANSWERS = [answer(k, answered_at_us=k) for k in (1, 2, 3)]
SEGMENT = (
    MAGIC
    + segments.framed(1, b'["momentum", "volatility", "value"]')
    + b"".join(segments.framed(2, segments.encode(a, 0)) for a in ANSWERS)
)


@given(st.binary(max_size=300))
def test_any_bytes_are_answered(data):
    assert read_segment(data).answers == []
    read_segment(MAGIC + data)


def test_an_answer_of_the_wrong_shape_is_dropped_alone_and_leaves_a_trace(tmp_path, caplog):
    wrong = replace(answer(2), features=np.zeros((7, 1), dtype=np.float32))
    log = AnswerLog(tmp_path, QUICK)
    log.start()
    futures = [log.append(a) for a in (answer(1), wrong, answer(3))]
    assert [future.result(WAIT_S) for future in futures] == [True, False, True]
    log.close()
    assert (numbers(tmp_path), log.dropped, log.queued) == ([1, 3], 1, 0)
    assert caplog.text.count("Traceback") == 1


def test_a_segment_is_locked_while_it_is_written_and_let_go_by_itself_when_nothing_comes(tmp_path):
    import fcntl

    log = AnswerLog(tmp_path, QUICK.model_copy(update={"log_segment_seconds": 1.5}))
    log.start()
    log.append(answer(1)).result(WAIT_S)
    (path,) = tmp_path.glob("*.segment")

    def is_free() -> bool:
        with path.open("rb") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    assert not is_free()
    until(is_free)
    log.append(answer(2)).result(WAIT_S)
    log.close()
    assert len(list(tmp_path.glob("*.segment"))) == 2


def test_a_segment_ends_at_its_bytes(tmp_path):
    settings_ = QUICK.model_copy(update={"log_segment_seconds": 60.0})
    log = AnswerLog(tmp_path, settings_)
    log.start()
    for number in range(60):
        log.append(answer(number, rows=50)).result(WAIT_S)
    log.close()
    sizes = [path.stat().st_size for path in tmp_path.glob("*.segment")]
    assert len(sizes) >= 3
    assert max(sizes) < QUICK.log_segment_bytes + 20_000
    assert numbers(tmp_path) == list(range(60))


def test_a_disk_that_stalls_costs_no_answer_its_time_and_what_was_dropped_is_counted(tmp_path, monkeypatch):
    """The segment is a pipe that nobody reads: write(2) blocks, as on a disk that hangs."""
    reader, writer = os.pipe()
    monkeypatch.setattr(
        answer_log.Segment, "begin", classmethod(lambda cls, spool: cls(spool / "stalled", writer))
    )
    log = AnswerLog(
        tmp_path,
        QUICK.model_copy(
            update={"log_queue_answers": 20, "log_segment_seconds": 3600.0, "log_segment_bytes": 2**30}
        ),
    )
    log.start()
    futures = [log.append(answer(number, rows=200)) for number in range(200)]
    assert futures.count(None) == log.dropped > 100
    assert log.queued <= 20
    until(lambda: log.behind)
    threading.Thread(
        target=lambda: [None for _ in iter(lambda: os.read(reader, 2**16), b"")], daemon=True
    ).start()
    assert all(future.result(WAIT_S) for future in futures if future is not None)
    until(lambda: not log.behind and log.queued == 0)
    assert log.append(answer(1)).result(WAIT_S)
    log.close()


def test_the_spool_limit_stops_the_log_and_room_lets_it_go_on(tmp_path):
    log = AnswerLog(tmp_path, QUICK.model_copy(update={"log_spool_bytes": 2**20}))
    log.start()
    kept = [log.append(answer(number, rows=300)).result(WAIT_S) for number in range(80)]
    assert kept[0] is True
    assert kept[-1] is False
    assert spool_bytes(tmp_path) < 2**20 + 50_000
    assert "its limit" in log.problem
    assert log.dropped == kept.count(False)
    for path in tmp_path.glob("*.segment"):
        path.unlink()
    until(lambda: log.append(answer(99)).result(WAIT_S))
    assert log.problem is None
    log.close()
    assert numbers(tmp_path)[-1] == 99


FULL_DISK = """
import resource, sys, time
from pathlib import Path
from serving.live.answer_log import AnswerLog
from tests.serving.made_answers import QUICK, answer
log = AnswerLog(Path(sys.argv[1]), QUICK)
log.start()
first = log.append(answer(1)).result(120)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
during = [log.append(answer(n)).result(120) for n in range(2, 30)]
problem, dropped = log.problem, log.dropped
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
deadline = time.monotonic() + 120
while not log.append(answer(99)).result(120) and time.monotonic() < deadline:
    time.sleep(0.05)
log.close()
print(first, any(during), dropped, problem is not None, log.problem)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
def test_a_disk_that_takes_nothing_drops_and_counts_and_recovers(tmp_path):
    """RLIMIT_FSIZE 0: every write fails, as on a full disk."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "spool")]
    said = subprocess.run(
        command, capture_output=True, text=True, timeout=WAIT_S, check=True, cwd=ROOT
    ).stdout.split()
    assert said == ["True", "False", "28", "True", "None"]
    assert numbers(tmp_path / "spool") == [1, 99]
    assert not [content for content in contents(tmp_path / "spool") if content.torn_bytes or content.damage]


@pytest.fixture
def tiny_disk(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_no_half_record_and_the_log_goes_on_when_there_is_room(tiny_disk):
    log = AnswerLog(tiny_disk / "spool", QUICK)
    log.start()
    kept = [log.append(answer(number, rows=300)).result(WAIT_S) for number in range(100)]
    assert 10 < kept.count(True) < 90
    assert log.dropped == kept.count(False)
    assert "No space left" in log.problem
    oldest = min((tiny_disk / "spool").glob("*.segment"))
    gone = len(read_segment(oldest.read_bytes()).answers)
    oldest.unlink()
    until(lambda: log.append(answer(1000)).result(WAIT_S))
    log.close()
    found = numbers(tiny_disk / "spool")
    expected = [number for number, good in enumerate(kept) if good][gone:]
    assert found == [*expected, 1000]
    assert not [content for content in contents(tiny_disk / "spool") if content.torn_bytes or content.damage]


def test_a_folder_that_can_not_be_made_is_a_problem_and_no_exception(tmp_path):
    (tmp_path / "file").write_text("")
    log = AnswerLog(tmp_path / "file" / "spool", QUICK)
    log.start()
    assert log.append(answer(1)).result(WAIT_S) is False
    assert log.problem
    log.close()


def test_a_fault_that_nobody_expected_leaves_its_trace_once(tmp_path, monkeypatch, caplog):
    def begin(spool):
        raise RuntimeError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(answer_log.Segment, "begin", begin)
        patch.setattr(answer_log, "_TRY_AGAIN_S", 0.0)
        log = AnswerLog(tmp_path, QUICK)
        log.start()
        assert [log.append(answer(number)).result(WAIT_S) for number in range(3)] == [False] * 3
    assert log.problem == "planted"
    assert caplog.text.count("Traceback") == caplog.text.count("in begin\n") == 1
    log.close()


def test_a_disk_that_takes_nothing_is_one_line_in_the_log(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(answer_log, "_TRY_AGAIN_S", 0.0)
    (tmp_path / "file").write_text("")
    log = AnswerLog(tmp_path / "file" / "spool", QUICK)
    log.start()
    assert [log.append(answer(number)).result(WAIT_S) for number in range(3)] == [False] * 3
    log.close()
    assert caplog.text.count("does not take answers") == 1
    assert "Traceback" not in caplog.text


def test_after_close_answers_are_dropped_and_counted(tmp_path):
    log = AnswerLog(tmp_path, QUICK)
    log.start()
    log.close()
    assert log.append(answer(1)) is None
    assert log.dropped == 1


def test_kill_9_of_the_writing_processes_loses_nothing_acknowledged(tmp_path):
    processes = [log_until_killed(tmp_path, k * 1_000_000) for k in range(2)]
    try:
        said: list[list[int]] = [[], []]
        readers = [
            threading.Thread(
                target=lambda k=k: said[k].extend(
                    int(line) for line in processes[k].stdout if line.endswith("\n")
                )
            )
            for k in range(2)
        ]
        for reader in readers:
            reader.start()
        until(lambda: min(len(part) for part in said) > 300)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for reader in readers:
        reader.join(WAIT_S)
    found = numbers(tmp_path)
    acknowledged = {number for part in said for number in part}
    assert len(found) == len(set(found))
    assert acknowledged <= set(found)
    # What is there beyond was on its way when the process was killed.
    assert len(set(found) - acknowledged) <= 4
    assert not [content for content in contents(tmp_path) if content.damage]


def log_until_killed(spool: Path, first: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.serving.log_until_killed", str(spool), str(first)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_columns_travel_once_a_segment(tmp_path):
    wide = tuple(f"{name}_{k}" for name in COLUMNS for k in range(60))
    logged(
        tmp_path,
        [answer(k, rows=1, columns=wide) for k in range(20)],
        QUICK.model_copy(update={"log_segment_seconds": 60.0}),
    )
    assert sum(path.read_bytes().count(b"momentum_59") for path in tmp_path.glob("*.segment")) == 1


def test_segments_are_taken_in_the_order_in_which_they_began_whatever_the_clock_does(tmp_path, monkeypatch):
    """The clock steps back an hour, then ahead a year; two processes share the spool."""
    began = []
    for step_s in (0, -3600, 365 * 86400, -7200):
        monkeypatch.setattr(segments.time, "time_ns", lambda step_s=step_s: (1_800_000_000 + step_s) * 10**9)
        monkeypatch.setattr(segments.time, "time", lambda step_s=step_s: 1_800_000_000 + step_s)
        segment = segments.Segment.begin(tmp_path)
        began.append(segment.path)
        segment.close()
    assert sorted(tmp_path.glob("*.segment")) == began
    began.pop(0).unlink()
    segment = segments.Segment.begin(tmp_path)
    segment.close()
    assert sorted(tmp_path.glob("*.segment")) == [*began, segment.path]
