"""The champion watcher on a real MLflow registry: hands over what is whole, refuses what is not, and outlives
the registry.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from components.contracts import verify_bundle, write_manifest
from components.contracts.documents.verdict import Verdict, VerdictStamp
from components.registry.aliases import promote
from components.registry.client import open_registry
from components.registry.config import Settings as RegistrySettings
from components.registry.register import register_model
from components.registry.trials import Trial
from serving.processes.plan import write_plan
from serving.processes.registry_follower import RegistryFollower
from tests.registry.made_documents import nothing_scored
from tests.serving.made_answers import QUICK, make_plan

ROOT = Path(__file__).parents[3]
WAIT_S = 120
SETTINGS = QUICK.model_copy(
    update={"registry_poll_seconds": 0.2, "registry_timeout_s": 10.0, "keep_champions": 2}
)
TRIAL = {
    "period": "1d",
    "target": "log_return",
    "test_start": "2024-01-01T00:00:00Z",
    "test_end": "2024-02-01T00:00:00Z",
}


def register(folder: Path, score: float, *, beats: bool = True) -> int:
    """Register a model of one file and promote it if it `beats`; returns its version."""
    bundle = folder / f"made-{score}"
    bundle.mkdir()
    (bundle / "weights.json").write_text(json.dumps(score))
    about = {"schema": "s", "period": "1d", "horizon": 5, "target": "log_return", "experts": [], "inputs": {}}
    write_manifest(bundle, about)
    verdict = Verdict(
        candidate="stack",
        champion_version=None,
        approved=True,
        beats_champion=beats,
        reason=f"better by {score}",
        gates=(),
        stamp=VerdictStamp(code_version="c", config_hash="h"),
    )
    return register_model(
        RegistrySettings(),
        "demo",
        folder / "registry",
        bundle=bundle,
        verdict=verdict,
        trial=Trial(**TRIAL),
        scored=nothing_scored(),
    ).version


@pytest.fixture
def plan(tmp_path):
    return make_plan(tmp_path, SETTINGS)


@pytest.fixture
def registered(plan, empty_database):
    """A plan whose registry has tables."""
    (plan.folder / "registry").mkdir()
    shutil.copy(empty_database, plan.folder / "registry" / "mlflow.db")
    return plan


def stored_bundle(folder: Path, version: int) -> Path:
    source = (
        open_registry(RegistrySettings(), folder / "registry").get_model_version("demo", str(version)).source
    )
    return Path(source.removeprefix("file://"))


def looked(plan) -> RegistryFollower:
    follower = RegistryFollower(plan)
    follower.look()
    return follower


def champion(plan) -> dict:
    return json.loads(plan.champion_file.read_text())


def status(plan) -> dict:
    try:
        return json.loads((plan.serving_folder / "champion_watch.json").read_text())
    except FileNotFoundError:
        return {}


def until(condition) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_it_waits_for_a_registry_and_for_a_champion_and_makes_neither(plan, tmp_path, empty_database):
    follower = looked(plan)
    assert "no registry" in follower.problem
    assert not (tmp_path / "registry").exists()
    (tmp_path / "registry").mkdir()
    shutil.copy(empty_database, tmp_path / "registry" / "mlflow.db")
    follower.look()
    assert "names no champion of demo" in follower.problem
    register(tmp_path, 0.1)
    follower.look()
    assert (follower.problem, follower.refused, champion(plan)["version"]) == (None, None, 1)


def test_it_hands_over_the_champion_and_each_change_and_keeps_the_last_few(registered, tmp_path, capsys):
    register(tmp_path, 0.1)
    follower = looked(registered)
    first = champion(registered)
    assert {
        "name",
        "version",
        "bundle_sha256",
        "manifest_sha256",
        "folder",
        "since",
        "who",
        "why",
        "verdict",
        "fetched_at",
    } == first.keys()
    assert (first["version"], first["who"], first["why"], first["verdict"]["reason"]) == (
        1,
        "pipeline",
        "better by 0.1",
        "better by 0.1",
    )
    assert verify_bundle(first["folder"])["sha256"] == first["bundle_sha256"] == Path(first["folder"]).name
    register(tmp_path, 0.2)
    follower.look()
    assert champion(registered)["version"] == 2
    promote(open_registry(RegistrySettings(), tmp_path / "registry"), "demo", 1, why="back", who="ada")
    follower.look()
    assert (champion(registered)["version"], champion(registered)["who"], champion(registered)["why"]) == (
        1,
        "ada",
        "back",
    )
    register(tmp_path, 0.3)
    follower.look()
    assert [
        path.name
        for path in (registered.serving_folder / "champions").iterdir()
        if path.name == champion(registered)["bundle_sha256"]
    ]
    assert len(list((registered.serving_folder / "champions").iterdir())) == 2
    said = capsys.readouterr().err
    assert [said.count(f"champion is demo version {version} ") for version in (1, 2, 3)] == [2, 1, 1]


@pytest.mark.parametrize("stepped_s", [10 * 365 * 86400, -10 * 365 * 86400])
def test_the_last_few_are_kept_in_the_order_in_which_they_came_whatever_the_clock_was(
    registered, tmp_path, stepped_s
):
    """The first came while the clock ran ten years ahead, or behind."""
    bundles, names = registered.serving_folder / "champions", []
    for number in range(1, 5):
        register(tmp_path, number / 10)
        looked(registered)
        names.append(champion(registered)["bundle_sha256"])
        if number == 1:
            stamp = time.time() + stepped_s
            os.utime(bundles / names[0], (stamp, stamp))
    assert {path.name for path in bundles.iterdir()} == set(names[-2:])


def test_a_change_of_nothing_writes_nothing(registered, tmp_path):
    register(tmp_path, 0.1)
    follower = looked(registered)
    before = registered.champion_file.stat().st_mtime_ns
    follower.look()
    register(tmp_path, 0.2, beats=False)
    follower.look()
    assert registered.champion_file.stat().st_mtime_ns == before


@pytest.mark.parametrize("fault", ["changed", "missing", "surplus", "another", "unstamped"])
def test_a_bundle_that_is_broken_or_tampered_with_is_refused_and_the_old_one_goes_on(
    registered, tmp_path, capsys, fault
):
    register(tmp_path, 0.1)
    follower = looked(registered)
    register(tmp_path, 0.2)
    bundle = stored_bundle(tmp_path, 2)
    kept = tmp_path / "kept"
    shutil.copytree(bundle, kept)
    if fault == "changed":
        (bundle / "weights.json").write_text("0.9")
    elif fault == "missing":
        (bundle / "weights.json").unlink()
    elif fault == "surplus":
        (bundle / "more.json").write_text("{}")
    elif fault == "another":
        # Consistent in itself, but not what was registered.
        (bundle / "weights.json").write_text("0.9")
        (bundle / "manifest.json").unlink()
        write_manifest(bundle, {"schema": "s"})
    else:
        open_registry(RegistrySettings(), tmp_path / "registry").delete_model_version_tag(
            "demo", "2", "bundle_sha256"
        )
    follower.look()
    follower.look()
    assert champion(registered)["version"] == 1
    assert (follower.refused.version, follower.problem) == (2, None)
    assert capsys.readouterr().err.count("refused version 2") == 1
    assert len(list((registered.serving_folder / "champions").iterdir())) == 1
    if fault != "unstamped":
        shutil.rmtree(bundle)
        shutil.copytree(kept, bundle)
        follower._try_again_at = 0.0
        follower.look()
        assert (champion(registered)["version"], follower.refused) == (2, None)


def test_its_own_copy_that_was_changed_is_fetched_again(registered, tmp_path):
    register(tmp_path, 0.1)
    looked(registered)
    copy = Path(champion(registered)["folder"])
    (copy / "weights.json").write_text("0.9")
    looked(registered)
    assert verify_bundle(copy)
    whole = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(json.dumps({**json.loads(whole), "schema": "another"}))
    looked(registered)
    assert (copy / "manifest.json").read_text() == whole


def test_a_registry_that_is_gone_changes_nothing_and_is_found_again(registered, tmp_path):
    register(tmp_path, 0.1)
    follower = looked(registered)
    registry, away = tmp_path / "registry", tmp_path / "away"
    registry.rename(away)
    follower.look()
    assert "no registry" in follower.problem
    assert champion(registered)["version"] == 1
    away.rename(registry)
    follower.look()
    assert follower.problem is None


def test_a_server_that_refuses_connections_is_a_problem_and_no_exception(plan, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    follower = looked(replace(plan, registry=RegistrySettings(tracking_uri="http://127.0.0.1:9")))
    assert "tracking_uri" in follower.problem


def test_a_registry_that_is_gone_is_one_line_in_the_log(registered, tmp_path, capsys):
    follower = looked(registered)
    (tmp_path / "registry").rename(tmp_path / "away")
    follower.look()
    follower.look()
    said = capsys.readouterr().err
    assert said.count("no registry") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "planted",
    [
        RuntimeError("planted for https://ada:secret@example.org"),
        MlflowException("planted", error_code=INVALID_PARAMETER_VALUE),
    ],
)
def test_an_unexpected_fault_leaves_its_trace_once_and_no_secret(registered, capsys, monkeypatch, planted):
    def present_champion(*_):
        raise planted

    with monkeypatch.context() as patch:
        patch.setattr("components.registry.aliases.present_champion", present_champion)
        follower = looked(registered)
        follower.look()
    said = capsys.readouterr().err
    assert f"{type(planted).__name__}: planted" in follower.problem
    assert said.count("Traceback") == said.count("in present_champion\n") == 1
    assert "secret" not in said + follower.problem
    follower.write_report()
    assert status(registered)["problem"] == follower.problem
    follower.look()
    assert "Traceback" not in capsys.readouterr().err


def test_a_server_that_says_it_can_not_answer_now_is_one_line_in_the_log(registered, capsys, monkeypatch):
    def present_champion(*_):
        raise MlflowException("planted", error_code=TEMPORARILY_UNAVAILABLE)

    monkeypatch.setattr("components.registry.aliases.present_champion", present_champion)
    assert "planted" in looked(registered).problem
    said = capsys.readouterr().err
    assert "planted" in said
    assert "Traceback" not in said


def start(plan) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "serving.processes.registry_follower", str(write_plan(plan))],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    process.send_signal(signal.SIGTERM)
    try:
        said = process.communicate(timeout=WAIT_S)[1]
    finally:
        process.kill()
    assert process.returncode == 0
    return said


def test_the_process_follows_the_registry_also_when_its_database_is_replaced(registered, tmp_path):
    database = tmp_path / "registry" / "mlflow.db"
    for version in (1, 2):
        register(tmp_path, version / 10)
        shutil.copy(database, tmp_path / f"{version}.db")
    database.unlink()
    shutil.copy(tmp_path / "1.db", database)
    process = start(registered)
    try:
        until(lambda: registered.champion_file.exists() and status(registered).get("problem", "x") is None)
        assert champion(registered)["version"] == 1
        # Another database at the same place, as after a restore from a backup. The whole folder is taken away
        # meanwhile: where only the file is, SQLite makes an empty one in the middle of a look.
        registry, away = tmp_path / "registry", tmp_path / "away"
        registry.rename(away)
        until(lambda: "no registry" in (status(registered)["problem"] or ""))
        assert champion(registered)["version"] == 1
        (away / "mlflow.db").unlink()
        shutil.copy(tmp_path / "2.db", away / "mlflow.db")
        away.rename(registry)
        until(lambda: champion(registered)["version"] == 2 and status(registered)["problem"] is None)
    finally:
        said = finish(process)
    assert "champion is demo version 2" in said


def test_a_registry_that_hangs_is_given_up_and_asked_again(plan):
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls = []

        def accept() -> None:
            while True:
                try:
                    calls.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        settings = SETTINGS.model_copy(update={"registry_timeout_s": 3.0})
        process = start(
            replace(
                plan,
                serving=settings,
                registry=RegistrySettings(tracking_uri=f"http://127.0.0.1:{server.getsockname()[1]}"),
            )
        )
        try:
            until(
                lambda: (
                    "not answered" in (status(plan).get("problem") or "")
                    or "did not answer" in (status(plan).get("problem") or "")
                )
            )
            asked = len(calls)
            until(lambda: len(calls) > asked)
        finally:
            finish(process)
