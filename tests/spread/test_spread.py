"""The map over pieces: what is finished stays, who dies is replaced, what fails is told, nothing stray."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from components.contracts import ContractError
from components.settings import ConfigError
from components.spread import engines, local, on_ray
from components.spread.attempt import attempt, environment_of_attempts
from components.spread.attempts import LOGS, events_of, read_attempts
from components.spread.choice import ENGINE_VARIABLE
from components.spread.failures import LostPiece
from components.spread.needs import Needs
from components.spread.on_ray import RayError
from components.spread.piece import Piece, is_finished, make

PARTS = "tests.spread.parts"
SQUARE, DIE, REFUSE = f"{PARTS}:square", f"{PARTS}:die", f"{PARTS}:refuse"


def pieces(folder: Path, count: int = 4, **more) -> list[Piece]:
    return [
        Piece(f"key {number}", folder / f"piece_{number}", {"number": number, **more})
        for number in range(1, count + 1)
    ]


def files(folder: Path) -> dict[str, bytes]:
    """All that lies below a folder but the logs."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and LOGS not in path.parts
    }


def said(piece: Piece) -> list[str]:
    return [f"{line['event']} {line['attempt']}" for line in read_attempts(piece.folder)]


@pytest.fixture(autouse=True)
def parts_are_found(monkeypatch):
    """Other processes find the functions of these tests too."""
    monkeypatch.setenv("PYTHONPATH", os.getcwd())


@pytest.fixture
def two(monkeypatch):
    """Two processes, whatever this machine has."""
    monkeypatch.setattr(local, "slots", lambda needs: 2)


def test_here_and_side_by_side_make_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "slots", lambda needs: 1)
    engines.map(SQUARE, pieces(tmp_path / "here"))
    monkeypatch.setattr(local, "slots", lambda needs: 2)
    heard = []
    engines.map(SQUARE, pieces(tmp_path / "there"), hear=lambda *one: heard.append(one))
    assert files(tmp_path / "here") == files(tmp_path / "there")
    assert files(tmp_path / "there")["piece_3/square.txt"] == b"9"
    assert len(files(tmp_path / "there")) == 12
    told = [(piece.folder.name, event["event"]) for piece, event in heard]
    assert sorted(told) == sorted(
        [*((f"piece_{number}", "advanced") for number in range(1, 5)), ("piece_3", "warned")]
    )


def test_processes_make_several_pieces_each_and_none_is_this_one(tmp_path, two):
    (tmp_path / "who").mkdir()
    engines.map(SQUARE, pieces(tmp_path / "out", 6, who=str(tmp_path / "who")))
    workers = {path.name.split("-")[1] for path in (tmp_path / "who").iterdir()}
    assert 1 <= len(workers) <= 2
    assert str(os.getpid()) not in workers


def test_attempts_elsewhere_are_told_how_to_work_and_no_secret(monkeypatch):
    told = {"ALPHALOOP_MEMORY_SHARE": "0.5", ENGINE_VARIABLE: "ray", "OMP_NUM_THREADS": "3"}
    secrets = (
        "ALPHALOOP_API_KEY",
        "ALPHALOOP_KFP_TOKEN",
        "ALPHALOOP_KFP_COOKIES",
        "ALPHALOOP_SEARCH_STORAGE",
    )
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    for name in (*secrets, "ALPHALOOP_REDIS", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, "s3cret")
    sent = environment_of_attempts()
    assert sent.items() >= told.items()
    assert "s3cret" not in sent.values()


def test_what_is_finished_is_not_made_again(tmp_path):
    engines.map(SQUARE, pieces(tmp_path))
    assert [said(piece) for piece in pieces(tmp_path)] == [["began 1", "ended 1"]] * 4
    damaged, other = pieces(tmp_path)[1], Piece("another key", *_rest(pieces(tmp_path)[2]))
    (damaged.folder / "inner" / "again.txt").write_text("5")
    engines.map(SQUARE, [*pieces(tmp_path)[:2], other, pieces(tmp_path)[3]])
    assert [len(said(piece)) for piece in pieces(tmp_path)] == [2, 4, 4, 2]
    assert is_finished(damaged)
    assert is_finished(other)
    assert not is_finished(pieces(tmp_path)[2]), "it is now of another key"


def test_an_attempt_at_what_was_finished_meanwhile_makes_nothing(tmp_path):
    """Its process died behind the end, before it could say so; or a first attempt was there after all."""
    one = pieces(tmp_path)[0]
    make(SQUARE, one)
    make(SQUARE, one)
    assert said(one) == ["began 1", "ended 1"]


def test_an_attempt_of_other_code_is_refused(tmp_path):
    one = pieces(tmp_path)[0]
    assert attempt(SQUARE, one.to_json(), {}, "0123")["kind"] == "components.processes.sources:OtherCode"
    assert not said(one)


def test_a_line_that_is_still_being_written_is_heard_once_it_is_whole(tmp_path):
    one, heard, places = pieces(tmp_path)[0], [], {}
    events = events_of(one.folder, 1)
    events.parent.mkdir()
    events.write_text('{"event": "said"}\n{"event": "war')
    engines._tell([one], places, lambda _, event: heard.append(event["event"]))
    assert heard == ["said"]
    with events.open("a") as file:
        file.write('ned"}\n')
    engines._tell([one], places, lambda _, event: heard.append(event["event"]))
    assert heard == ["said", "warned"]


def _rest(piece: Piece):
    return piece.folder, piece.arguments


def test_a_process_that_is_killed_is_replaced_and_leaves_nothing(tmp_path, two):
    one = Piece("key", tmp_path / "out" / "one", {"tries": str(tmp_path / "tries"), "times": 2})
    engines.map(DIE, [one, *pieces(tmp_path / "out", 1, tries=str(tmp_path / "none"), times=0)])
    assert said(one) == ["began 1", "lost 1", "began 2", "lost 2", "began 3", "ended 3"]
    assert (one.folder / "half.txt").read_text() == "whole"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one", "piece_1", LOGS}
    assert {path.name for path in (tmp_path / "out" / LOGS).iterdir()} == {"one.jsonl", "piece_1.jsonl"}


def test_a_piece_that_always_dies_ends_with_a_sentence(tmp_path, two):
    one = Piece("key", tmp_path / "out" / "one", {"tries": str(tmp_path / "tries"), "times": 9})
    other = Piece("key", tmp_path / "out" / "other", {"tries": str(tmp_path / "more"), "times": 9})
    with pytest.raises(LostPiece, match=r"2 attempts died without a word, the last one with exit code -9"):
        engines.map(DIE, [one, other], retries=1)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {LOGS}


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_what_a_piece_raises_is_raised_once(tmp_path, monkeypatch, side_by_side):
    monkeypatch.setattr(local, "slots", lambda needs: side_by_side)
    with pytest.raises(ContractError, match="is not wanted"):
        engines.map(REFUSE, pieces(tmp_path, 2))
    assert "failed 1" in [*said(pieces(tmp_path)[0]), *said(pieces(tmp_path)[1])]
    with pytest.raises((ZeroDivisionError, RuntimeError), match="by nothing"):
        engines.map(f"{PARTS}:stumble", pieces(tmp_path, 2))
    assert files(tmp_path) == {}


DRIVER = """
    from pathlib import Path
    from components.spread import engines, local, on_ray
    from tests.spread.test_spread import PARTS, pieces
    local.slots = lambda needs: 2
    engines.map(f"{PARTS}:slow", pieces(Path("out"), until_gone="gate"))
"""


def test_a_killed_driver_takes_its_processes_along_and_goes_on_where_it_was(tmp_path, two):
    """Two pieces are under way when it is killed; the others it has not begun."""
    gate = tmp_path / "gate"
    engines.map(f"{PARTS}:slow", pieces(tmp_path / "out", 1, until_gone="gate"))
    gate.touch()
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(DRIVER)], cwd=tmp_path, env=environment)
    all_of_them = pieces(tmp_path / "out", until_gone="gate")
    try:
        _until(lambda: sum(said(piece) == ["began 1"] for piece in all_of_them) == 2)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    workers = [line["process"] for piece in all_of_them[1:] for line in read_attempts(piece.folder)]
    _until(lambda: not any(Path(f"/proc/{number}").exists() for number in workers))
    gate.unlink()
    engines.map(f"{PARTS}:slow", all_of_them)
    told = [said(piece) for piece in all_of_them]
    assert told[0] == ["began 1", "ended 1"]
    assert sorted(told[1:]) == sorted(
        [["began 1", "lost 1", "began 2", "ended 2"]] * 2 + [["began 1", "ended 1"]]
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        LOGS,
        *(p.folder.name for p in all_of_them),
    }


def _until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_each_process_has_gpus_of_its_own(tmp_path, two, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    engines.map(f"{PARTS}:gpus", pieces(tmp_path), gpus=1)
    assert {(piece.folder / "gpus.txt").read_text() for piece in pieces(tmp_path)} == {"4", "7"}


def test_as_many_side_by_side_as_cores_gpus_and_memory_allow(monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 9.0)
    monkeypatch.setattr(local, "target", lambda: 10 * 2**30)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    assert local.slots(Needs()) == 9
    assert local.slots(Needs(cpus=2)) == 4
    assert local.slots(Needs(cpus=20)) == 1
    assert local.slots(Needs(gpus=2)) == 2
    assert local.slots(Needs(memory_gib=3)) == 3
    assert local.slots(Needs(memory_gib=30)) == 1
    monkeypatch.setattr(local, "target", lambda: None)
    assert local.slots(Needs(memory_gib=30)) == 9


@pytest.mark.parametrize(("quota", "found"), [("150000 100000", 1.5), ("max 100000", 8), (None, 8)])
def test_a_container_has_the_cores_of_its_quota(tmp_path, monkeypatch, quota, found):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    if quota:
        (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
        (tmp_path / "sys/fs/cgroup/cpu.max").write_text(quota)
    assert local.cores(tmp_path) == found


def test_an_engine_that_there_is_not_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(ENGINE_VARIABLE, "spark")
    with pytest.raises(ConfigError, match="ALPHALOOP_ENGINE=spark: there is no such engine"):
        engines.map(SQUARE, pieces(tmp_path))


def test_without_ray_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv(ENGINE_VARIABLE, "ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayError, match=r"Ray is not installed here\. Install it with pip install"):
        engines.map(SQUARE, pieces(tmp_path))


# Holds a folder for Ray's sockets until it is killed.
HOLD_SCRATCH = """
import sys, time
from components.spread import on_ray
on_ray.SHORT = sys.argv[1]
with on_ray._scratch() as folder:
    print(folder, flush=True)
    time.sleep(600)
"""


def test_folders_of_killed_drivers_go_and_those_of_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "SHORT", str(tmp_path))
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD_SCRATCH, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        killed, alive = (Path(driver.stdout.readline().strip()) for driver in drivers)
        (killed / "session" / "sockets").mkdir(parents=True)
        (tmp_path / "ray-of-another-program").mkdir()
        (tmp_path / "elsewhere").mkdir()
        drivers[0].kill()
        drivers[0].wait()
        with on_ray._scratch() as folder:
            there = {path.name for path in tmp_path.iterdir()}
        assert there == {alive.name, Path(folder).name, "ray-of-another-program", "elsewhere"}
    finally:
        for driver in drivers:
            driver.kill()
            driver.wait()


@pytest.mark.skipif(os.name != "posix", reason="links of another user's")
def test_what_another_user_left_is_never_followed(tmp_path, monkeypatch):
    """A folder that is not this user's, and so a link, keeps its lock file and all else."""
    monkeypatch.setattr(on_ray, "SHORT", str(tmp_path))
    (tmp_path / "ray-bait").mkdir()
    (tmp_path / "ray-bait" / on_ray.LOCK).write_text("kept")
    monkeypatch.setattr(os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    with on_ray._scratch():
        pass
    assert (tmp_path / "ray-bait" / on_ray.LOCK).read_text() == "kept"
