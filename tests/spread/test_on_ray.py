"""Pieces on Ray: one machine, three raylets. The same bytes as here; raylet and driver are killed; what
cannot be done is refused with a sentence.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from components.contracts import ContractError
from components.experts.errors import ExpertError
from components.experts.leaves import Leaf
from components.experts.training.processes import train_in_processes
from components.processes.sources import OtherCode
from components.progress import EVENTS_VARIABLE
from components.spread import engines, gang, on_ray
from components.spread.attempts import LOGS, read_attempts
from components.spread.choice import ADDRESS_VARIABLE, ENGINE_VARIABLE
from components.spread.gang import run_together
from components.spread.on_ray import RayError
from tests.experts.training.test_folds_elsewhere import (
    LIGHTGBM,
    TIMELINE,
    assignment,
    inputs,
    made,
    train,
)
from tests.processes.planted import plant
from tests.spread.raylets import Raylets, until
from tests.spread.test_spread import PARTS, REFUSE, SQUARE, files, pieces, said
from tests.spread.tick_stages import ingest, make_all

# Not imported: Ray reads when it is imported whether there is a token.
pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: alphaloop[ray]"),
    pytest.mark.timeout(1800),
]
__all__ = ["inputs"]


@pytest.fixture(scope="module")
def raylets(tmp_path_factory):
    """Three, of one core each; a process of Ray finds the tests' own modules as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.getcwd())
        found = Raylets(tmp_path_factory.mktemp("ray"), patch.setenv)
        with found:
            yield found


@pytest.fixture
def ray(raylets, monkeypatch):
    monkeypatch.setenv(ENGINE_VARIABLE, "ray")
    monkeypatch.setenv(ADDRESS_VARIABLE, raylets.address)
    return raylets


def test_from_outside_of_the_cluster_the_same_as_here_and_no_process_of_ours(tmp_path, ray, monkeypatch):
    heard = []
    monkeypatch.setenv(ADDRESS_VARIABLE, ray.address_from_outside)
    engines.map(SQUARE, pieces(tmp_path / "ray"), hear=lambda *one: heard.append(one))
    monkeypatch.setenv(ENGINE_VARIABLE, "local")
    engines.map(SQUARE, pieces(tmp_path / "here"))
    assert files(tmp_path / "ray") == files(tmp_path / "here")
    assert {"advanced", "warned"} == {event["event"] for _, event in heard}
    workers = {read_attempts(piece.folder)[0]["process"] for piece in pieces(tmp_path / "ray")}
    assert os.getpid() not in workers


def test_a_cluster_whose_process_for_a_driver_dies_at_its_start_is_asked_again(tmp_path, ray, monkeypatch):
    from ray.util.client.worker import Worker

    asked, begin = [], Worker._server_init

    def refused(worker, *arguments):
        asked.append(len(asked) >= refusals)
        if not asked[-1]:
            raise ConnectionAbortedError("Initialization failure from server")
        return begin(worker, *arguments)

    monkeypatch.setattr(Worker, "_server_init", refused)
    monkeypatch.setenv(ADDRESS_VARIABLE, ray.address_from_outside)
    refusals = on_ray.STARTS
    with pytest.raises(RayError, match="No Ray answers at ray://"):
        engines.map(SQUARE, pieces(tmp_path / "refused"))
    assert asked == [False] * on_ray.STARTS
    monkeypatch.setenv(ADDRESS_VARIABLE, ray.address)
    engines.map(SQUARE, pieces(tmp_path / "inside"))
    refusals = len(asked) + 1
    monkeypatch.setenv(ADDRESS_VARIABLE, ray.address_from_outside)
    engines.map(SQUARE, pieces(tmp_path / "outside"))
    assert asked[on_ray.STARTS :] == [False, True]
    assert files(tmp_path / "inside") == files(tmp_path / "outside") != {}


def test_what_is_wrong_is_told_in_its_own_words(tmp_path, ray, monkeypatch):
    with pytest.raises(ContractError, match="is not wanted"):
        engines.map(REFUSE, pieces(tmp_path, 2))
    with pytest.raises(RayError, match=r"needs 7 cores.*none of the 3 nodes .* \(most: 1 cores"):
        engines.map(SQUARE, pieces(tmp_path), cpus=7)
    monkeypatch.setattr(on_ray, "task_sources", lambda: "0123456789abcdef")
    with pytest.raises(OtherCode, match="0123456789abcdef here"):
        engines.map(SQUARE, pieces(tmp_path))
    assert files(tmp_path) == {}


def test_folds_give_the_same_bytes(tmp_path, inputs, ray, monkeypatch):
    """Of trees; a linear expert's are compared in a run's folder, in tests/pipelines/test_end_to_end.py."""
    status = train(inputs, tmp_path / "ray", assignment(LIGHTGBM, TIMELINE))
    assert status.resumed_folds == 0
    monkeypatch.setenv(ENGINE_VARIABLE, "local")
    train(inputs, tmp_path / "here", assignment(LIGHTGBM, TIMELINE))
    assert made(tmp_path / "ray" / "expert") == made(tmp_path / "here" / "expert")
    tried = [read_attempts(tmp_path / "ray" / "work" / fit.fold) for fit in status.folds]
    assert all(len(lines) == 2 for lines in tried)


def test_symbol_sessions_of_ticks_give_the_same_bytes(tmp_path, ray, monkeypatch):
    raw = ingest(tmp_path)
    make_all(raw, tmp_path / "ray")
    monkeypatch.setenv(ENGINE_VARIABLE, "local")
    make_all(raw, tmp_path / "here")
    assert files(tmp_path / "ray") == files(tmp_path / "here")


DRIVER = """
    from pathlib import Path
    from components.spread import engines
    from tests.spread.test_spread import PARTS, pieces
    engines.map(f"{PARTS}:slow", pieces(Path("out"), until_gone="gate"))
"""


def test_a_killed_driver_goes_on_where_it_was(tmp_path, ray):
    gate, out = tmp_path / "gate", tmp_path / "out"
    all_of_them = pieces(out, until_gone=str(gate))
    engines.map(f"{PARTS}:slow", all_of_them[:1])
    gate.touch()
    code = textwrap.dedent(DRIVER).replace('"out"', repr(str(out))).replace('"gate"', repr(str(gate)))
    driver = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: any(said(piece) == ["began 1"] for piece in all_of_them[1:]))
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    workers = [line["process"] for piece in all_of_them[1:] for line in read_attempts(piece.folder)]
    until(lambda: not any(Path(f"/proc/{number}").exists() for number in workers))
    gate.unlink()
    engines.map(f"{PARTS}:slow", all_of_them)
    told = [said(piece) for piece in all_of_them]
    assert told[0] == ["began 1", "ended 1"]
    assert ["began 1", "lost 1", "began 2", "ended 2"] in told
    assert {path.name for path in out.iterdir()} == {LOGS, *(piece.folder.name for piece in all_of_them)}


FINDING = """
    import sys
    from pathlib import Path
    from components.spread import engines
    from components.spread.gang import run_together
    from components.spread.piece import Piece
    out = Path(sys.argv[1])
    engines.map("tests.spread.finding:found", [Piece("key", out / "piece", {})])
    print(run_together("tests.spread.finding", out / "argument", 1, cpus=1, hear=print, say=print))
"""


def test_nodes_find_modules_as_this_machine_does(tmp_path, ray):
    """The working folder comes last: what happens to be called like our packages, or like libraries, is not
    taken.
    """
    folder, out = plant(tmp_path / "mine"), tmp_path / "out"
    (folder / "polars.py").write_text("raise SystemExit(1)")
    (folder / "users_own.py").touch()
    out.mkdir()
    (out / "argument").touch()
    driver = tmp_path / "driver.py"
    driver.write_text(textwrap.dedent(FINDING))
    subprocess.run([sys.executable, "-P", str(driver), str(out)], cwd=folder, check=True)
    for place in (out / "piece", out):
        found = json.loads((place / "found.json").read_text())
        assert Path(found.pop("users_own")).parent == folder
        assert not any(Path(file).is_relative_to(folder) for file in found.values())


HOLDING = """
    import sys, time
    from pathlib import Path
    import ray
    from ray.util.placement_group import placement_group
    address, folder = sys.argv[1:]
    ray.init(address=address, log_to_driver=False)
    ray.get(placement_group([{"CPU": 1}] * 3).ready())
    Path(folder, "held").touch()
    while not Path(folder, "enough").exists():
        time.sleep(0.05)
"""


def test_a_group_says_that_it_waits_for_room_and_no_longer_than_there_are_nodes(tmp_path, ray, monkeypatch):
    """Another job holds all cores; then a node is missed, and later the other job ends."""
    monkeypatch.setattr(gang, "LOOK_S", 0.3)
    together = partial(run_together, "tests.spread.finding", tmp_path / "argument", 3, cpus=1, hear=print)
    (tmp_path / "users_own.py").touch()
    (tmp_path / "argument").touch()
    monkeypatch.chdir(tmp_path)
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDING), ray.address, str(tmp_path)], cwd=tmp_path
    )
    try:
        until((tmp_path / "held").exists)
        with monkeypatch.context() as patch:
            nodes = iter([3, 3, 3])
            patch.setattr(gang, "_resources", lambda ray: [{"CPU": 1.0}] * next(nodes, 1))
            with pytest.raises(RayError, match="the 1 nodes of Ray hold 1 of them"):
                together(say=print)
        said = []
        with ThreadPoolExecutor(1) as waiting:
            group = waiting.submit(together, say=said.append)
            until(lambda: said)
            time.sleep(1)
            (tmp_path / "enough").touch()
            assert group.result() is None
        assert said == [
            "waits until Ray's nodes have room for processes: 3, each with 1 cores and 0 GPUs, all at once"
        ]
    finally:
        other.kill()
        other.wait()


# A training whose processes lie on several nodes

GRU = Leaf(
    expert="gru",
    period="1d",
    processes=2,
    threads=1,
    settings={"lookback_bars": 4, "width": 8, "training": {"batch_windows": 128, "epochs": 1}},
)


def members_left(folder: Path) -> list[psutil.Process]:
    """Processes of a group that still run on something below the folder."""
    lines = {one: " ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])}
    return [one for one, line in lines.items() if "components.spread.member" in line and str(folder) in line]


def test_a_network_over_two_nodes_gives_the_bytes_of_torchrun_on_one(tmp_path, inputs, ray, monkeypatch):
    heard = tmp_path / "events"
    monkeypatch.setenv(EVENTS_VARIABLE, str(heard))
    # Each raylet has one core: the two processes can't lie on the same one.
    status = train(inputs, tmp_path / "ray", assignment(GRU, TIMELINE))
    assert status.status == "trained", status
    assert any(fold.fold in heard.read_text() for fold in status.folds)
    assert not list((tmp_path / "ray" / "work").glob(".processes-*"))
    monkeypatch.setenv(ENGINE_VARIABLE, "local")
    train(inputs, tmp_path / "here", assignment(GRU, TIMELINE))
    assert made(tmp_path / "ray" / "expert") == made(tmp_path / "here" / "expert")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("expert_error", r"fit failed: the second one is out of luck \(process 1 of 2\)"),
        ("killed", r"A process of 2 died, or hung, without a word \(process 1 ended with -9\)"),
    ],
)
def test_a_process_that_fails_on_one_node_ends_those_on_others(tmp_path, inputs, ray, harm, said):
    leaf = GRU.model_copy(
        update={
            "expert": "second_process",
            "module": "tests.experts.neural.second_process",
            "settings": {"harm": harm},
        }
    )
    with pytest.raises(ExpertError, match=said):
        train_in_processes(inputs, assignment(leaf, TIMELINE), tmp_path / "work")
    until(lambda: not members_left(tmp_path))


def test_more_processes_than_the_nodes_hold_are_refused(tmp_path, inputs, ray):
    leaf = GRU.model_copy(update={"processes": 4})
    with pytest.raises(RayError, match=r"processes: 4, each with 1 cores.*the 3 nodes of Ray hold 3"):
        train_in_processes(inputs, assignment(leaf, TIMELINE), tmp_path / "work")


def test_a_killed_raylet_costs_a_second_attempt_and_no_byte(tmp_path, ray):
    """A raylet is killed while one of its workers is in an attempt, and is gone for the tests that follow."""
    gate, out = tmp_path / "gate", tmp_path / "out"
    gate.touch()
    with ray.killing_one_at_work(out, gate) as killed:
        engines.map(f"{PARTS}:slow", pieces(out, until_gone=str(gate)))
    told = {piece.folder.name: said(piece) for piece in pieces(out)}
    assert told[killed.piece] == ["began 1", "lost 1", "began 2", "ended 2"]
    assert [len(lines) for name, lines in told.items() if name != killed.piece] == [2, 2, 2]
    assert [(piece.folder / "square.txt").read_text() for piece in pieces(out)] == ["1", "4", "9", "16"]
    assert {path.name for path in out.iterdir()} == {LOGS, *told}


def test_a_node_that_dies_ends_the_group_and_the_next_call_goes_on(tmp_path, inputs, ray, monkeypatch):
    gate, work = tmp_path / "gate", tmp_path / "work"
    leaf = GRU.model_copy(
        update={
            "expert": "second_process",
            "module": "tests.experts.neural.second_process",
            "settings": {"until_gone": str(gate)},
        }
    )
    gate.touch()
    with ThreadPoolExecutor(1) as other:
        killing = other.submit(kill_a_node, ray, tmp_path)
        with pytest.raises(ExpertError, match=r"ended with its node, as Ray tells"):
            train_in_processes(inputs, assignment(leaf, TIMELINE), work)
        killing.result()
    until(lambda: not members_left(tmp_path))
    gate.unlink()
    monkeypatch.setenv(ENGINE_VARIABLE, "local")
    status = train_in_processes(inputs, assignment(leaf, TIMELINE), work)
    assert len(status.folds) > 1


def kill_a_node(ray: Raylets, folder: Path) -> None:
    """Once both processes are at it."""
    until(lambda: len(members_left(folder)) == 2)
    ray.kill_raylet_of([one.parent() for one in members_left(folder)])


TWICE = """
    import sys
    from pathlib import Path
    from components.spread import engines
    from tests.spread.test_spread import SQUARE, pieces
    for number in ("1", "2"):
        engines.map(SQUARE, pieces(Path(sys.argv[1], number), 1))
"""


def test_ray_is_started_here_as_often_as_it_is_asked(tmp_path, monkeypatch):
    """In a task of a run, whose own scratch folder has a path too long for Ray's sockets, too."""
    scratch = tmp_path / ("long" * 20)
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv(ENGINE_VARIABLE, "ray")
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    for name in (ADDRESS_VARIABLE, *on_ray.TOKENS):
        monkeypatch.delenv(name, raising=False)
    subprocess.run([sys.executable, "-c", textwrap.dedent(TWICE), str(tmp_path)], check=True)
    assert [(tmp_path / number / "piece_1/square.txt").read_text() for number in ("1", "2")] == ["1", "1"]


def test_a_ray_that_does_not_answer_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(ENGINE_VARIABLE, "ray")
    monkeypatch.setenv(ADDRESS_VARIABLE, "127.0.0.1:1")
    with pytest.raises(RayError, match=r"No Ray answers at 127\.0\.0\.1:1"):
        engines.map(SQUARE, pieces(tmp_path))
