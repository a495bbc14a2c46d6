"""The training pipeline in containers: the same definitions, kfp's Docker runner, the cluster's image.

The tests that need an engine start one of their own (`make test-containers`); the others run always.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import docker
import polars as pl
import pytest

from components.contracts import read_stamp
from components.image import IMAGE
from pipelines.config import load_config
from pipelines.runners.containers import (
    FOLDER_LABEL,
    ContainerError,
    data_places,
    find_image,
    remove_containers,
    run_container,
)
from tests.pipelines.docker_engine import BASE, ROOT, build_image, docker_engine

DEMO = ROOT / "pipelines" / "configs" / "demo.yaml"
SMALL = {
    "run.name": "containers",
    "market.simulator.symbols": "12",
    "market.simulator.bars": "300",
    "market.simulator.sectors": "3",
    "timeline.fold_bars": "40",
    "audit.cuts": "1",
    "audit.guided_cuts": "0",
    "experts.leaves": "[median/1d/base,elasticnet/1d/base,lightgbm/1d/base]",
}
STRANGER = 4321
in_containers = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(2400)]


def alphaloop(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from pipelines.commands.cli import main; main()", *arguments]
    return subprocess.run(
        command, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )


def overrides(folder: Path) -> list[str]:
    settings = {**SMALL, "run.folder": str(folder)}
    return [part for item in settings.items() for part in ("--set", "=".join(item))]


def train(environment: dict[str, str], folder: Path, runner: str) -> subprocess.CompletedProcess:
    return alphaloop(environment, "run", "--runner", runner, *overrides(folder))


def events(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def table(folder: Path, place: str) -> Path:
    (found,) = folder.glob(f"artifacts/alphaloop-training-*/{place}")
    return found


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """The environment of clients, with the image built."""
    with docker_engine() as environment:
        build_image(environment, IMAGE, tmp_path_factory.mktemp("image"))
        yield environment


@pytest.fixture(scope="module")
def client(engine):
    client = docker.DockerClient(engine["DOCKER_HOST"])
    yield client
    client.close()


@pytest.fixture(scope="module")
def runs(engine, client, tmp_path_factory):
    """The same small training in containers and in subprocesses, and how each container of the first one
    ended.
    """
    folder = tmp_path_factory.mktemp("runs")
    since = int(time.time())
    told = train(engine, folder / "docker", "docker")
    ended = list(
        client.events(
            since=since,
            until=time.time() + 1,
            decode=True,
            filters={"event": "die", "label": f"{FOLDER_LABEL}={folder / 'docker'}"},
        )
    )
    plain = train(engine, folder / "subprocess", "subprocess")
    for outcome in (told, plain):
        assert outcome.returncode == 0, outcome.stdout[-3000:] + outcome.stderr[-3000:]
    return SimpleNamespace(
        folder=folder / "docker",
        plain=folder / "subprocess",
        told=told.stdout,
        ended=[event["Actor"]["Attributes"] for event in ended],
    )


class TestTraining:
    pytestmark = in_containers

    def test_it_ends_in_a_report_with_progress_on_the_terminal(self, runs):
        assert (runs.folder / "report.html").stat().st_size > 10_000
        assert json.loads((runs.folder / "summary.json").read_text())["registration"]
        assert "train lightgbm" in runs.told
        assert str(runs.folder / "report.html") in runs.told.replace("\n", "")
        seen = events(runs.folder)
        assert {e["event"] for e in seen} >= {"started", "said", "advanced", "finished"}
        assert {e["stage"] for e in seen if e["event"] == "finished"} == {
            e["stage"] for e in events(runs.plain) if e["event"] == "finished"
        }

    def test_each_task_was_a_container_of_the_image(self, runs):
        tasks = list(runs.folder.glob("artifacts/alphaloop-training-*/*/executor_output.json"))
        assert len(runs.ended) == len(tasks) > 15
        assert {(container["image"], container["exitCode"]) for container in runs.ended} == {(IMAGE, "0")}

    def test_the_image_is_part_of_the_code_version(self, runs):
        stamps = [read_stamp(table(folder, "build-features/factors")) for folder in (runs.folder, runs.plain)]
        assert stamps[0].code_version != stamps[1].code_version

    @pytest.mark.parametrize(
        "place",
        [
            "ingest/panel",
            "validate/clean",
            "build-features/factors",
            "make-labels/labels",
            "make-training-set/training_set",
        ],
    )
    def test_tables_are_those_of_a_run_in_subprocesses(self, runs, place):
        assert (
            read_stamp(table(runs.folder, place)).content_sha256
            == read_stamp(table(runs.plain, place)).content_sha256
        )

    def test_predictions_are_those_of_a_run_in_subprocesses(self, runs):
        keys = ["expert", "timestamp", "symbol", "horizon", "fold"]
        numbers = ["score", "p10", "p50", "p90"]
        both = [
            pl.read_parquet(table(folder, "stack/all_predictions")).select(*keys, *numbers).sort(keys)
            for folder in (runs.folder, runs.plain)
        ]
        assert both[0].select(keys).equals(both[1].select(keys))
        assert len(both[0]) > 1000
        furthest = (both[0].select(numbers) - both[1].select(numbers)).select(pl.all().abs().max()).row(0)
        assert max(furthest) <= 1e-9

    def test_what_tasks_wrote_belongs_to_who_ran_them(self, runs):
        owners = {(p.stat().st_uid, p.stat().st_gid) for p in runs.folder.rglob("*")}
        assert owners == {(os.getuid(), os.getgid())}

    def test_a_second_run_comes_from_the_cache_and_leaves_no_container(self, engine, client, runs):
        again = train(engine, runs.folder, "docker")
        assert again.returncode == 0, again.stderr
        cached = {e["stage"] for e in events(runs.folder) if e["event"] == "cached"}
        assert cached >= {
            "ingest",
            "validation",
            "features",
            "labels",
            "audit",
            "materialise",
            "training set",
            "train lightgbm",
            "stack",
            "backtest",
        }
        assert client.containers.list(all=True) == []


class TestGuards:
    pytestmark = in_containers

    def test_an_image_with_other_stages_is_refused(self, engine, client, tmp_path):
        alter = "import components.market.load as stage; open(stage.__file__, 'a').write('#')"
        altered = client.containers.run(IMAGE, ["python3", "-c", alter], detach=True)
        assert altered.wait()["StatusCode"] == 0
        altered.commit("alphaloop-altered", "1")
        altered.remove()
        refused = train({**engine, "ALPHALOOP_IMAGE": "alphaloop-altered:1"}, tmp_path / "run", "docker")
        assert refused.returncode == 2
        assert "holds other stages than this checkout" in refused.stderr
        assert "Traceback" not in refused.stderr

    def test_an_image_without_stages_is_refused(self, engine, tmp_path):
        refused = train({**engine, "ALPHALOOP_IMAGE": BASE}, tmp_path / "run", "docker")
        assert refused.returncode == 2
        assert (
            "can't tell which stages it holds (ModuleNotFoundError: No module named 'pipelines')"
            in refused.stderr
        )
        assert "Traceback" not in refused.stderr

    def test_an_image_that_is_not_there_is_not_pulled(self, engine, tmp_path):
        refused = train({**engine, "ALPHALOOP_IMAGE": "alphaloop-missing:1"}, tmp_path / "run", "docker")
        assert refused.returncode == 2
        assert "has no image alphaloop-missing:1. Build it" in refused.stderr
        assert "Traceback" not in refused.stderr

    def test_a_failed_task_is_a_failed_task_however_late_we_ask(self, client, monkeypatch):
        """kfp's own function takes this for a success: by the time it asks, the engine has removed the
        container.
        """
        print_as_it_is = print

        def slow_print(*arguments, **options):
            print_as_it_is(*arguments, **options)
            time.sleep(0.5)

        monkeypatch.setattr("builtins.print", slow_print)
        failing = ["sh", "-c", "echo said; exit 3"]
        assert run_container(client, IMAGE, failing, {}) == 3
        assert run_container(client, IMAGE, ["sh", "-c", "echo said"], {}) == 0
        assert client.containers.list(all=True) == []

    def test_containers_of_a_killed_run_are_removed_and_others_are_not(
        self, engine, client, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("DOCKER_HOST", engine["DOCKER_HOST"])
        mine, others = (
            client.containers.run(
                IMAGE, ["sleep", "600"], detach=True, labels={FOLDER_LABEL: str(tmp_path / name)}
            )
            for name in ("mine", "others")
        )
        assert remove_containers(tmp_path / "mine") == 1
        assert [c.id for c in client.containers.list(all=True)] == [others.id]
        assert remove_containers(tmp_path / "others") == 1
        assert remove_containers(tmp_path / "mine") == 0
        with pytest.raises(docker.errors.NotFound):
            mine.reload()

    def test_any_user_can_train_in_the_image_without_network(self, client, tmp_path):
        folder = tmp_path / "out"
        folder.mkdir()
        os.chown(folder, STRANGER, STRANGER)
        code = run_container(
            client,
            IMAGE,
            ["alphaloop", "run", *overrides(folder / "run")],
            {str(folder): {"bind": str(folder), "mode": "rw"}},
            user=f"{STRANGER}:{STRANGER}",
            network_mode="none",
        )
        assert code == 0
        assert (folder / "run" / "report.html").stat().st_uid == STRANGER


def test_without_an_engine_one_is_told_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(
        ContainerError,
        match=r"No Docker engine answers at unix://.*nothing\.sock .*leave out --runner docker",
    ):
        find_image()


def test_tasks_see_the_data_folder_and_what_lies_outside_of_it(tmp_path):
    data, outside = tmp_path / "data", tmp_path / "vendor" / "daily"
    data.mkdir()
    outside.mkdir(parents=True)

    def places(*overrides: str) -> list[Path]:
        return data_places(load_config(DEMO, list(overrides)), data)

    assert places() == [data]
    assert places("market.source=parquet", "market.path=inside.parquet") == [data]
    assert places("market.source=parquet", f"market.path={outside}") == [data, outside]
    assert places("market.source=parquet", f"market.path={outside}/*/2024-*.parquet") == [data, outside]
    assert places("market.source=parquet", "market.path=../vendor/daily") == [data, outside]
    assert places("market.source=parquet", f"market.path={tmp_path}/missing/x.parquet") == [data]
    assert places(
        "market.source=parquet", "market.path=inside.parquet", f"market.sectors.path={outside}"
    ) == [data, outside]
