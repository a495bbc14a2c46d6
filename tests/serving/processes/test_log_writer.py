"""The log writer: every logged answer ends up in Parquet exactly once, whatever is killed,
damaged or full.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.contracts import SERVED, ContractError, read_served, read_stamp, read_table, served_parts
from components.contracts.classes import CLASS_COLUMNS
from serving.live.answer_log import AnswerLog
from serving.live.segments import UNKNOWN_TIME_US
from serving.processes import log_writer
from serving.processes.feature_shift import shift_of
from serving.processes.log_writer import LogWriter, WriterError
from serving.processes.plan import write_plan
from tests.metrics.sketches import quantile_sketch
from tests.serving.made_answers import COLUMNS, QUICK, answer, make_plan, notice

ROOT = Path(__file__).parents[3]
WAIT_S = 120
HOUR_US = 3_600_000_000
NOON_US = int(datetime(2024, 5, 6, 12, tzinfo=UTC).timestamp()) * 1_000_000


def log_answers(plan, answers) -> None:
    log = AnswerLog(plan.serving_folder / "spool", plan.serving)
    log.start()
    assert all(future.result(WAIT_S) for future in [log.append(a) for a in answers])
    log.close()


def opened(plan) -> LogWriter:
    writer = LogWriter(plan)
    writer.open()
    return writer


def request_ids(folder: Path) -> list[str]:
    return sorted(
        name
        for part in served_parts(folder / "served")
        for name in pl.read_parquet(part, columns=["request_id"])["request_id"].unique()
    )


def until(condition) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_segment_becomes_a_stamped_table_with_the_values_that_were_logged(tmp_path):
    plan = make_plan(tmp_path)
    given = answer(1, rows=4, answered_at_us=NOON_US)
    given.known_times_us[1] = UNKNOWN_TIME_US
    log_answers(plan, [given])
    assert opened(plan).take_closed() == 1
    (part,) = served_parts(tmp_path / "served")
    assert part.parent.name == "hour=2024-05-06T12"
    assert read_stamp(part).code_version == "c"
    table = read_table(part, SERVED)
    assert table.columns == [*SERVED.columns, *COLUMNS]
    np.testing.assert_array_equal(
        table.select("score", "uncertainty", "p10", "p50", "p90", "position").to_numpy(), given.outputs
    )
    np.testing.assert_array_equal(table.select(COLUMNS).to_numpy(), given.features)
    # Unknown is null, not NaN.
    assert table.row(0, named=True)["momentum"] is None
    assert [moment is None for moment in table["known_time"]] == [False, True, False, False]
    assert table["answered_at"].dt.epoch("us").to_list() == [NOON_US] * 4
    assert table["timestamp"].dt.epoch("us").to_list() == given.timestamps_us.tolist()
    assert not list((plan.serving_folder / "spool").glob("*.segment"))


def test_hours_and_column_sets_get_parts_of_their_own(tmp_path):
    plan = make_plan(tmp_path)
    log_answers(
        plan,
        [
            answer(1, answered_at_us=NOON_US - 1),
            answer(2, answered_at_us=NOON_US),
            answer(3, answered_at_us=NOON_US, columns=("other",)),
        ],
    )
    writer = opened(plan)
    writer.take_closed()
    assert [part.parent.name for part in served_parts(tmp_path / "served")] == [
        "hour=2024-05-06T11",
        "hour=2024-05-06T12",
        "hour=2024-05-06T12",
    ]
    assert request_ids(tmp_path) == ["r1", "r2", "r3"]
    assert (writer.rows_written, writer.parts_written) == (6, 3)
    read = read_served(tmp_path / "served")
    # The newest answer is the one with the other column.
    assert read.columns == [*SERVED.columns, "other", *sorted(COLUMNS)]
    assert read.filter(pl.col("request_id") == "r3")["momentum"].null_count() == 2


def test_work_cut_short_before_the_segment_is_deleted_is_done_again_into_the_same_files(tmp_path):
    plan = make_plan(tmp_path)
    log_answers(plan, [answer(number) for number in range(5)])
    spool, kept = plan.serving_folder / "spool", tmp_path / "kept"
    shutil.copytree(spool, kept)
    opened(plan).take_closed()
    first = {part.name: part.read_bytes() for part in served_parts(tmp_path / "served")}
    shutil.copytree(kept, spool, dirs_exist_ok=True)
    # A part that the killed writer had not finished.
    half = served_parts(tmp_path / "served")[0].parent / ".x.parquet.abc"
    half.mkdir()
    opened(plan).take_closed()
    assert {part.name: part.read_bytes() for part in served_parts(tmp_path / "served")} == first
    assert not half.exists()


def test_an_active_segment_is_left_alone(tmp_path):
    plan = make_plan(tmp_path, QUICK.model_copy(update={"log_segment_seconds": 60.0}))
    log = AnswerLog(plan.serving_folder / "spool", plan.serving)
    log.start()
    log.append(answer(1)).result(WAIT_S)
    writer = opened(plan)
    assert writer.take_closed() == 0
    log.close()
    assert writer.take_closed() == 1
    assert request_ids(tmp_path) == ["r1"]


def test_a_segment_that_has_no_name_yet_is_left_alone(tmp_path):
    """Between the making of the file and its lock, the writer must not take it for a closed one."""
    plan = make_plan(tmp_path)
    writer = opened(plan)
    hidden = writer.spool / ".1-1-a.segment"
    hidden.write_bytes(b"")
    assert writer.take_closed() == 0
    assert hidden.exists()
    hidden.rename(writer.spool / "1-1-a.segment")
    assert writer.take_closed() == 1


def test_a_torn_record_is_dropped_and_counted(tmp_path, capsys):
    plan = make_plan(tmp_path)
    log_answers(plan, [answer(1), answer(2)])
    (segment,) = (plan.serving_folder / "spool").glob("*.segment")
    with segment.open("r+b") as handle:
        handle.truncate(segment.stat().st_size - 10)
    writer = opened(plan)
    writer.take_closed()
    assert (request_ids(tmp_path), writer.torn, writer.broken) == (["r1"], 1, 0)
    assert "never finished" in capsys.readouterr().err


def test_a_damaged_segment_is_kept_aside_with_what_could_be_read_of_it(tmp_path, capsys):
    plan = make_plan(tmp_path)
    log_answers(plan, [answer(1), answer(2)])
    (segment,) = (plan.serving_folder / "spool").glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[-10] ^= 1
    segment.write_bytes(data)
    (plan.serving_folder / "spool" / "0-0-0.segment").write_bytes(b"nothing of ours")
    writer = opened(plan)
    writer.take_closed()
    assert request_ids(tmp_path) == ["r1"]
    assert writer.report().broken == 2
    assert segment.with_name(segment.name + ".broken").read_bytes() == data
    assert "does not match its checksum" in capsys.readouterr().err
    assert writer.take_closed() == 0


def test_a_column_that_is_called_like_one_of_the_log_sets_its_segment_aside(tmp_path):
    plan = make_plan(tmp_path)
    log_answers(plan, [answer(1), answer(2, columns=("score",))])
    writer = opened(plan)
    writer.take_closed()
    assert (request_ids(tmp_path), writer.broken) == (["r1"], 1)


def test_a_full_disk_keeps_the_segment_and_the_next_try_writes_it(tmp_path):
    """`served` is a file, so nothing can be written below it until it is a folder again."""
    plan = make_plan(tmp_path)
    log_answers(plan, [answer(1)])
    writer = opened(plan)
    (tmp_path / "served").rmdir()
    (tmp_path / "served").write_text("")
    with pytest.raises(Exception, match="served"):
        writer.take_closed()
    (tmp_path / "served").unlink()
    assert writer.take_closed() == 1
    assert request_ids(tmp_path) == ["r1"]


def test_only_one_writer_works_on_a_folder(tmp_path):
    plan = make_plan(tmp_path)
    first = opened(plan)
    with pytest.raises(WriterError, match="Another log writer"):
        LogWriter(plan).open()
    first._lock.close()
    opened(plan)


def test_past_hours_are_merged_without_losing_or_doubling_a_row(tmp_path):
    plan = make_plan(tmp_path)
    for number in range(6):
        log_answers(
            plan,
            [
                answer(number, answered_at_us=NOON_US + number),
                answer(100 + number, answered_at_us=NOON_US + number, columns=("other",)),
            ],
        )
    log_answers(plan, [answer(50, answered_at_us=NOON_US + HOUR_US)])
    writer = opened(plan)
    writer.take_closed()
    before = read_served(tmp_path / "served")
    hour = datetime(2024, 5, 6, 12, tzinfo=UTC)
    assert writer.merge_hours(now=hour + timedelta(minutes=65)) == 0
    parts = {part: part.read_bytes() for part in served_parts(tmp_path / "served")}
    assert writer.merge_hours(now=hour + timedelta(minutes=75)) == 10
    assert len(served_parts(tmp_path / "served")) == 3
    assert request_ids(tmp_path) == sorted(before["request_id"].unique())
    assert read_served(tmp_path / "served").equals(before)
    # Killed before the small parts were deleted: the next writer deletes them.
    for part, data in parts.items():
        part.write_bytes(data)
    writer._lock.close()
    opened(plan)
    assert request_ids(tmp_path) == sorted(before["request_id"].unique())


def test_probabilities_of_classes_are_kept_where_the_champion_gives_any(tmp_path):
    """Beside answers of a number with the same columns, in a segment, in parts of an hour and merged."""
    chances = np.array([[0.2, 0.5, 0.3], [0.7, 0.0, 0.3]])
    of_classes = replace(answer(1, answered_at_us=NOON_US), chances=chances)
    plan = make_plan(tmp_path)
    log_answers(plan, [of_classes, answer(2, answered_at_us=NOON_US)])
    log_answers(plan, [answer(3, answered_at_us=NOON_US)])
    writer = opened(plan)
    writer.take_closed()
    for merged in (False, True):
        if merged:
            assert writer.merge_hours(now=datetime(2024, 5, 6, 14, tzinfo=UTC)) == 1
        for columns in (None, ["value"]):
            found = read_served(tmp_path / "served", columns=columns)
            told = found.select("request_id", *CLASS_COLUMNS)
            np.testing.assert_array_equal(
                told.filter(request_id="r1").select(CLASS_COLUMNS).to_numpy(), chances
            )
            assert told.filter(pl.col("request_id") != "r1")["p_up"].null_count() == 4
            assert len(told) == 6


def test_read_served_gives_the_newest_answer_for_each_bar_and_symbol(tmp_path):
    plan = make_plan(tmp_path)
    assert read_served(tmp_path / "served").shape == (0, len(SERVED.columns))
    old, new = answer(1, answered_at_us=NOON_US), answer(1, answered_at_us=NOON_US + HOUR_US)
    new.outputs[:] = 7.0
    log_answers(plan, [new])
    log_answers(plan, [old, answer(2, answered_at_us=NOON_US)])
    opened(plan).take_closed()
    read = read_served(tmp_path / "served", columns=["value", "unheard_of"])
    assert read.columns == [*SERVED.columns, "value", "unheard_of"]
    assert read["unheard_of"].null_count() == len(read)
    assert read.rows() == read.sort("timestamp", "symbol").rows()
    assert read["score"].to_list()[:2] == [7.0, 7.0]
    assert len(read) == 4
    since = datetime(2024, 5, 6, 13, tzinfo=UTC)
    assert read_served(tmp_path / "served", since=since)["score"].to_list() == [7.0, 7.0]


def test_made_up_features_of_a_client_do_not_displace_what_the_store_held(tmp_path):
    plan = make_plan(tmp_path)
    real, tried, other = (
        answer(1, answered_at_us=NOON_US),
        answer(1, answered_at_us=NOON_US + 1),
        answer(1, answered_at_us=NOON_US + 2),
    )
    only_tried = answer(2, answered_at_us=NOON_US)
    tried, only_tried = replace(tried, endpoint="score"), replace(only_tried, endpoint="score")
    other = replace(other, bundle_sha256="b" * 64)
    log_answers(plan, [real, tried, only_tried, other])
    opened(plan).take_closed()
    read = read_served(tmp_path / "served", bundle_sha256="a" * 64)
    assert read["endpoint"].to_list() == ["signals", "signals", "score", "score"]
    assert read["answered_at"].dt.epoch("us").to_list() == [NOON_US] * 4
    assert read_served(tmp_path / "served")["bundle_sha256"].to_list() == ["b" * 64] * 2 + ["a" * 64] * 2


def test_a_merge_stays_within_its_size(tmp_path, monkeypatch):
    plan = make_plan(tmp_path)
    for number in range(6):
        log_answers(plan, [answer(number, answered_at_us=NOON_US + number)])
    writer = opened(plan)
    writer.take_closed()
    sizes = sorted(part.stat().st_size for part in served_parts(tmp_path / "served"))
    monkeypatch.setattr(log_writer, "_MERGE_BYTES", sum(sizes[:3]))
    assert writer.merge_hours() == 2
    assert len(served_parts(tmp_path / "served")) == 4
    assert request_ids(tmp_path) == [f"r{number}" for number in range(6)]


def test_read_served_names_a_part_that_is_cut_off(tmp_path):
    plan = make_plan(tmp_path)
    log_answers(plan, [answer(1)])
    opened(plan).take_closed()
    (part,) = served_parts(tmp_path / "served")
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(ContractError, match=part.name):
        read_served(tmp_path / "served")


def test_shift_is_near_nothing_for_the_same_and_large_for_a_moved_feature():
    rng = np.random.default_rng(3)
    reference = {name: rng.normal(size=20_000).astype(np.float32) for name in ("a", "b", "dead")}
    sketch = pl.DataFrame({name: quantile_sketch(values) for name, values in reference.items()}).with_columns(
        pl.lit(0.0).alias("score")
    )
    moved = pl.DataFrame(
        {name: rng.normal(size=2_000).astype(np.float32) for name in ("a", "b")}
        | {"dead": pl.Series([None] * 2_000, dtype=pl.Float32)}
    )
    assert shift_of(moved, sketch).largest_ks < 0.06
    shifted = shift_of(moved.with_columns(pl.col("b") + 1), sketch)
    assert shifted.largest_column == "b"
    # Two unit normals one apart: 2 * Phi(1/2) - 1.
    assert shifted.largest_ks == pytest.approx(0.383, abs=0.04)
    assert (shifted.rows, shifted.share_above_0_1) == (2_000, 0.5)
    assert shift_of(moved.head(199), sketch) is None
    assert shift_of(moved, pl.DataFrame()) is None


def test_a_column_with_a_handful_of_values_says_nothing_of_a_shift():
    rng = np.random.default_rng(4)
    sketch = pl.DataFrame({name: quantile_sketch(rng.normal(size=9_000)) for name in ("full", "few")})
    few = np.where(np.arange(2_000) < 5, rng.normal(size=2_000), np.nan)
    rows = pl.DataFrame({"full": rng.normal(size=2_000), "few": few})
    found = shift_of(rows, sketch)
    assert found.largest_column == "full"
    assert (found.largest_ks, found.share_above_0_1) == (pytest.approx(0.03, abs=0.03), 0.0)
    assert shift_of(rows.select("few"), sketch) is None


def test_the_status_follows_what_is_served_and_survives_a_restart(tmp_path):
    plan = make_plan(tmp_path)
    rng = np.random.default_rng(0)
    folder = tmp_path / "bundle" / "reference"
    folder.mkdir(parents=True)
    pl.DataFrame(
        {name: quantile_sketch(rng.normal(size=20_000).astype(np.float32)) for name in COLUMNS}
    ).write_parquet(folder / "sketch.parquet")
    plan.serving_folder.mkdir()
    notice(tmp_path / "bundle").write(plan.champion_file)
    log_answers(plan, [answer(number, rows=20) for number in range(30)])
    writer = opened(plan)
    assert writer.report().feature_shift is None
    writer.take_closed()
    calm = writer.report().feature_shift
    assert calm.rows == 600
    assert calm.largest_ks < 0.1
    # The same bars answered again do not count twice; moved ones replace them.
    log_answers(plan, [answer(number, rows=20, shift=2.0) for number in range(30)])
    writer.take_closed()
    moved = writer.report().feature_shift
    assert moved.rows == 600
    assert moved.mean_ks > 0.5
    writer._lock.close()
    assert opened(plan).report().feature_shift == moved


@pytest.fixture
def served(tmp_path, capsys):
    """A writer that has taken answers of the champion whose bundle lies in `bundle`, and said nothing."""
    plan = make_plan(tmp_path)
    plan.serving_folder.mkdir()
    notice(tmp_path / "bundle").write(plan.champion_file)
    log_answers(plan, [answer(number, rows=20) for number in range(30)])
    writer = opened(plan)
    writer.take_closed()
    assert capsys.readouterr().err == ""
    return writer


def test_a_bundle_without_a_sketch_has_no_shift_and_needs_no_word(served, capsys):
    assert served.report().feature_shift is None
    assert capsys.readouterr().err == ""


def test_a_sketch_that_can_not_be_read_leaves_its_trace_once(served, tmp_path, capsys):
    sketch = tmp_path / "bundle" / "reference" / "sketch.parquet"
    sketch.parent.mkdir(parents=True)
    sketch.write_bytes(b"no table")
    assert [served.report().feature_shift for _ in range(3)] == [None] * 3
    said = capsys.readouterr().err
    assert str(sketch) in said
    assert said.count("Traceback") == said.count("in _read_sketch\n") == 1


def test_a_fault_of_measuring_the_shift_leaves_its_trace_and_the_log_goes_on(
    served, tmp_path, capsys, monkeypatch
):
    def shift_of(*_):
        raise RuntimeError("planted")

    monkeypatch.setattr("serving.processes.feature_shift.shift_of", shift_of)
    report = served.report()
    assert (report.feature_shift, report.rows_written) == (None, 600)
    assert capsys.readouterr().err.count("Traceback") == 1


def test_an_unexpected_fault_of_a_step_is_a_problem_with_its_trace_said_once(served, capsys, monkeypatch):
    def read_segment(data):
        raise RuntimeError("planted")

    log_answers(served.plan, [answer(99)])
    with monkeypatch.context() as patch:
        patch.setattr(log_writer, "read_segment", read_segment)
        assert not log_writer._attempt(served, served.take_closed)
        assert not log_writer._attempt(served, served.take_closed)
    assert served.report().problem == "RuntimeError: planted"
    said = capsys.readouterr().err
    assert said.count("Traceback") == said.count("in read_segment\n") == 1
    assert log_writer._attempt(served, served.take_closed)
    assert served.report().problem is None
    assert "r99" in request_ids(served.plan.folder)


def test_a_folder_that_can_not_be_written_is_one_line(served, capsys):
    shutil.rmtree(served.served)
    served.served.write_text("")
    log_answers(served.plan, [answer(99)])
    assert not log_writer._attempt(served, served.take_closed)
    said = capsys.readouterr().err
    assert "served" in said
    assert "Traceback" not in said


def start_writer(plan) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "serving.processes.log_writer", str(write_plan(plan))],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )


def test_kill_9_of_the_writer_and_of_the_service_under_load_loses_and_doubles_nothing(tmp_path):
    plan = make_plan(tmp_path)
    spool = plan.serving_folder / "spool"
    said: list[int] = []
    service = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.log_until_killed", str(spool), "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    reader = threading.Thread(
        target=lambda: said.extend(int(line) for line in service.stdout if line.endswith("\n"))
    )
    reader.start()
    writer = start_writer(plan)
    try:
        for kill in range(4):
            until(lambda: len(served_parts(tmp_path / "served")) >= 2 * (kill + 1))  # noqa: B023
            time.sleep(0.05 * kill)
            writer.kill()
            writer.wait()
            writer = start_writer(plan)
        service.kill()
        service.wait()
        reader.join(WAIT_S)
        until(lambda: not list(spool.glob("*.segment")))
        writer.send_signal(signal.SIGTERM)
        assert writer.wait(WAIT_S) == 0
    finally:
        for process in (service, writer):
            process.kill()
            process.wait()
    rows = pl.concat(
        [
            pl.read_parquet(part, columns=["request_id", "symbol"])
            for part in served_parts(tmp_path / "served")
        ]
    )
    found = rows["request_id"].str.strip_prefix("r").cast(pl.Int64)
    assert not rows.is_duplicated().any()
    assert set(said) <= set(found)
    # Beyond these only what was on its way when the service was killed.
    assert len(set(found) - set(said)) <= 2
    assert len(rows) == 5 * found.n_unique()
    assert json.loads((plan.serving_folder / "log_writer.json").read_text())["problem"] is None


def test_sigterm_lets_the_writer_finish_the_spool(tmp_path):
    plan = make_plan(tmp_path)
    writer = start_writer(plan)
    until((plan.serving_folder / "log_writer.json").exists)
    log_answers(plan, [answer(number) for number in range(20)])
    writer.send_signal(signal.SIGTERM)
    assert writer.wait(WAIT_S) == 0
    assert not list((plan.serving_folder / "spool").glob("*.segment"))
    assert len(request_ids(tmp_path)) == 20


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a parent's death on Linux only")
def test_the_writer_ends_when_its_parent_is_killed(tmp_path):
    plan = make_plan(tmp_path)
    text = (
        "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-m',"
        f" 'serving.processes.log_writer', {str(write_plan(plan))!r}]);"
        " print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    until((plan.serving_folder / "log_writer.json").exists)
    parent.kill()
    parent.wait()

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    try:
        until(gone)
    finally:
        if not gone():
            os.kill(pid, signal.SIGKILL)
