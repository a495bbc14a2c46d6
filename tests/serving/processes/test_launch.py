"""`alphaloop serve` with the real service, watcher and writer: it starts, starts again what dies, stops in
order, and refuses what can't work.
"""

import os
import re
import shutil
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest

from components.contracts import served_parts
from components.registry.aliases import promote
from components.registry.client import open_registry
from components.registry.config import Settings as RegistrySettings
from serving.api.auth import UnsafeBinding
from serving.client import Client, ServiceError
from serving.processes.launch import LaunchError, serve
from serving.processes.plan import read_plan
from serving.replay import ReplayError, current_publication, replay
from tests.processes.planted import plant
from tests.serving.conftest import copy_run
from tests.serving.live_service import ROOT, Served, free_port, pid_of, processes_of, register, until
from tests.serving.made_answers import QUICK, make_plan

_LOOKED_BEFORE = """
from serving.processes import launch
look, looks = launch._require_free_port, []
launch._require_free_port = lambda *place: look(*place) if looks else looks.append(place)
launch._WAIT_FOR_REASON_S = 0.0
"""


@pytest.fixture
def plan(run_copy, empty_database) -> Path:
    """A run with an empty registry."""
    (run_copy.folder / "registry").mkdir()
    shutil.copy(empty_database, run_copy.folder / "registry" / "mlflow.db")
    return run_copy.plan({"port": free_port(), "registry_poll_seconds": 0.3, "log_segment_seconds": 0.5})


WORDS = {
    "log writer": "serving.processes.log_writer",
    "champion watcher": "serving.processes.registry_follower",
    "service": "bentoml serve",
}


@dataclass(frozen=True)
class Killed:
    """Process numbers by name, and how many lines had been said before."""

    processes: dict[str, int]
    lines: int


def kill(served: Served, folder: Path, *names: str) -> Killed:
    """Kill -9 of these processes of a `serve`."""
    killed = Killed({name: pid_of(folder, WORDS[name]) for name in names}, len(served.lines))
    for pid in killed.processes.values():
        os.kill(pid, signal.SIGKILL)
    return killed


def wait_for_others(served: Served, folder: Path, killed: Killed) -> None:
    """Wait until each was said to be gone and another one runs."""
    for name, before in killed.processes.items():
        served.wait_for(f"The {name} was killed by signal 9; starting it again", killed.lines)
        until(
            lambda word=WORDS[name], before=before: any(
                word in command for pid, command in processes_of(folder).items() if pid != before
            ),
            what=f"another {name}",
        )


def test_from_no_champion_to_served_through_kills_and_a_promotion_to_an_orderly_end(run_copy, plan):
    folder = run_copy.folder
    settings = read_plan(plan).serving
    served = Served(plan)
    try:
        served.wait_for("Not ready: .*no champion")
        register(run_copy, run_copy.bundles[0])
        served.wait_for("Ready: http://127.0.0.1:[0-9]+  champion small version 1")
        with Client(f"http://127.0.0.1:{settings.port}", timeout_s=120) as client:
            acknowledged = [client.signals(run_copy.market.symbols[:3])["request_id"] for _ in range(5)]
            assert client.status()["ready"]

            counts = replay(
                current_publication(folder / "feature_store"),
                client.url,
                first=run_copy.market.factors["timestamp"][-1].date(),
                bars_per_second=100,
            )
            assert (counts.bars, counts.versions) == (1, (1,))
            assert counts.rows == len(run_copy.market.factors.filter(pl.col("timestamp") == counts.last))

            # Two at a time, and answers go on meanwhile; then the one that answers.
            told = kill(served, folder, "log writer", "champion watcher")
            acknowledged.append(client.signals(run_copy.market.symbols[:3])["request_id"])
            wait_for_others(served, folder, told)
            acknowledged.append(client.signals(run_copy.market.symbols[:3])["request_id"])
            told = kill(served, folder, "service")
            wait_for_others(served, folder, told)
            served.wait_for("Ready: ", told.lines)
            said, worker = len(served.lines), pid_of(folder, "_bentoml_impl.worker.service")
            os.kill(worker, signal.SIGKILL)
            served.wait_for(rf"A worker of the service \(process {worker}\) ended; .*memory", said)
            until(lambda: client.status()["ready"], what="another worker")
            register(run_copy, run_copy.bundles[1], beats=False)
            promote(open_registry(RegistrySettings(), folder / "registry"), "small", 2, why="test", who="ada")
            served.wait_for("Ready: .*version 2")
            answer = client.signals(run_copy.market.symbols[:3])
            assert answer["model"]["version"] == 2
            acknowledged.append(answer["request_id"])
    finally:
        served.stop()
    assert served.process.returncode == 0
    assert served.lines[-1] == "Stopped\n"
    until(lambda: not processes_of(folder), what="the end of all processes")
    assert not list((folder / "serving" / "spool").glob("*.segment"))
    rows = pl.concat(
        [
            pl.read_parquet(part, columns=["request_id", "symbol", "timestamp"])
            for part in served_parts(folder / "served")
        ]
    )
    assert not rows.is_duplicated().any()
    assert set(acknowledged) <= set(rows["request_id"])


def test_in_a_folder_with_packages_called_like_ours_our_own_are_served_until_the_terminal_closes(
    run_copy, plan, tmp_path
):
    # The kernel tells of a parent's death on Linux only.
    place = plant(tmp_path / "mine") if sys.platform == "linux" else ROOT
    # Tests that run under nohup hand on that a closed terminal is to be ignored.
    served = Served(
        plan, working_folder=place, first="import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    )
    try:
        served.wait_for("Not ready: .*no champion")
        words = " ".join(processes_of(run_copy.folder).values())
        for word in WORDS.values():
            assert word in words
        assert not served.said("ended with"), served.lines
        served.process.send_signal(signal.SIGHUP)
        served.process.wait(60)
    finally:
        served.stop()
    assert served.process.returncode == 0
    assert served.lines[-1] == "Stopped\n"
    until(lambda: not processes_of(run_copy.folder), what="the end of all processes")


def test_when_serve_itself_is_killed_nothing_of_it_stays(run_copy, plan):
    served = Served(plan)
    try:
        until(lambda: len(processes_of(run_copy.folder)) >= 4, what="all processes")
        served.process.kill()
        until(lambda: not processes_of(run_copy.folder), what="the end of all processes")
    finally:
        served.process.kill()
        for pid in processes_of(run_copy.folder):
            os.kill(pid, signal.SIGKILL)


def test_of_two_on_one_port_the_loser_says_so_and_ends(run_copy, plan, tmp_path, empty_database):
    """The loser looked at the port before the winner took it: its first look finds it free, whatever is."""
    register(run_copy, run_copy.bundles[0])
    other = copy_run(run_copy, tmp_path / "other")
    late_plan = other.plan({"port": read_plan(plan).serving.port, "registry_poll_seconds": 0.3})
    winner = Served(plan)
    loser = None
    try:
        winner.wait_for("Ready: ")
        loser = Served(late_plan, first=_LOOKED_BEFORE)
        loser.process.wait(120)
        assert loser.process.returncode == LaunchError.exit_code != 0
        assert winner.process.poll() is None
    finally:
        winner.stop()
        if loser is not None:
            loser.stop()
    assert not loser.said("^Ready"), loser.lines
    assert loser.said("Not ready: another service answers"), loser.lines
    assert re.match(r"Can't listen on 127\.0\.0\.1:\d+: .* --set serving\.port=", loser.lines[-1])


@pytest.fixture
def small_plan(tmp_path):
    """A plan over a folder with something like a registry."""
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "mlflow.db").write_bytes(b"")
    return make_plan(tmp_path, QUICK.model_copy(update={"port": free_port()}))


def test_a_run_folder_without_a_registry_is_refused(tmp_path):
    with pytest.raises(LaunchError, match="alphaloop run"):
        serve(make_plan(tmp_path))


def test_a_port_in_use_is_refused(small_plan):
    import socket

    with (
        socket.create_server(("127.0.0.1", small_plan.serving.port)),
        pytest.raises(LaunchError, match=r"serving\.port"),
    ):
        serve(small_plan)


def test_a_second_serve_on_the_same_folder_is_refused(small_plan):
    import fcntl

    small_plan.serving_folder.mkdir()
    with (small_plan.serving_folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(LaunchError, match="Another `alphaloop serve`"):
            serve(small_plan)


def test_an_open_address_without_a_key_is_refused(small_plan, monkeypatch):
    monkeypatch.delenv("ALPHALOOP_API_KEY", raising=False)
    with pytest.raises(UnsafeBinding, match="ALPHALOOP_API_KEY"):
        serve(replace(small_plan, serving=small_plan.serving.model_copy(update={"host": "0.0.0.0"})))


def test_a_replay_says_what_the_publication_lacks(tmp_path):
    with pytest.raises((ReplayError, ServiceError)):
        replay(tmp_path, "http://127.0.0.1:9")
