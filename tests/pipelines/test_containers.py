"""The training pipeline and the service in containers: the same definitions, kfp's Docker runner, the
cluster's images; as any user, without rights, on a root that can't be written.

The tests that need an engine start one of their own (`make test-containers`); the others run always.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx
import polars as pl
import pytest

from components.contracts import read_stamp
from components.image import IMAGE
from components.processes.sources import MODULES_FOLDER
from pipelines.code_version import compiled_code
from pipelines.config import load_config
from pipelines.runners.containers import (
    CONFINED,
    FOLDER_LABEL,
    ContainerError,
    data_places,
    docker_runner,
    find_image,
    pinned_image,
    remove_containers,
    run_container,
)
from tests.pipelines.docker_engine import BASE, ROOT, SERVING, SYSTEM_PATH
from tests.pipelines.small_run import SETTINGS
from tests.serving.live_service import free_port, until

DEMO = ROOT / "pipelines" / "configs" / "demo.yaml"
SMALL = {
    "run.name": "containers",
    "market.simulator.symbols": "12",
    "market.simulator.bars": "300",
    "market.simulator.sectors": "3",
    "market.simulator.change": "null",
    "timeline.fold_bars": "40",
    "audit.cuts": "1",
    "audit.guided_cuts": "0",
    "experts.leaves": "[median/1d/base,elasticnet/1d/base,lightgbm/1d/base]",
    # The market is too short for the thresholds of real use; these let every model pass.
    **{f"gates.{name}": str(value) for name, value in SETTINGS["gates"].items()},
}
# Nobody in the image has this number.
STRANGER = 4321
AS_STRANGER = {"user": f"{STRANGER}:{STRANGER}", **CONFINED}
SOCKET = "/var/run/docker.sock"
# Runs a command and tells which names it asked the network for: it answers as a name server that knows none.
HEARKENING = """
import os, socket, subprocess, sys, threading
asked = set()
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
def listen():
    while True:
        query, sender = server.recvfrom(512)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        asked.add(".".join(labels))
        server.sendto(query[:2] + b"\\x81\\x83" + query[4:6] + bytes(6) + query[12:], sender)
threading.Thread(target=listen, daemon=True).start()
ended = subprocess.call(sys.argv[1:])
print("ASKED", *sorted(asked - {socket.gethostname()}))
sys.exit(ended)
"""
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


@dataclass(frozen=True)
class Ended:
    """How a container ended."""

    code: int
    said: str


def contain(client: docker.DockerClient, image: str, command: list[str], **options: Any) -> Ended:
    """Run a container to its end, confined, as a user that the image does not know, without network."""
    given = {"network_mode": "none", **AS_STRANGER, **options}
    container = client.containers.run(image, command, detach=True, **given)
    try:
        code = container.wait()["StatusCode"]
        return Ended(code, container.logs().decode(errors="replace"))
    finally:
        container.remove(force=True)


def train_as_stranger(client: docker.DockerClient, engine: dict[str, str], folder: Path) -> Ended:
    """The training with its tasks in containers, started from a container: nothing of this machine's Python,
    and nothing of root, is in it.
    """
    place = str(folder.parent)
    own = engine["DOCKER_HOST"].removeprefix("unix://")
    binds = {own: {"bind": SOCKET, "mode": "rw"}, place: {"bind": place, "mode": "rw"}}
    command = ["alphaloop", "run", "--runner", "docker", *overrides(folder)]
    return contain(client, IMAGE, command, volumes=binds)


def events(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def table(folder: Path, place: str) -> Path:
    (found,) = folder.glob(f"artifacts/alphaloop-training-*/{place}")
    return found


@pytest.fixture(scope="module")
def client(engine):
    client = docker.DockerClient(engine["DOCKER_HOST"])
    yield client
    client.close()


@dataclass(frozen=True)
class Runs:
    """The same small training twice: in containers by a stranger, and in subprocesses here."""

    folder: Path
    plain: Path
    told: str
    containers: list[dict[str, str]]


@pytest.fixture(scope="module")
def runs(engine, client, tmp_path_factory):
    """Both trainings, with how each container of the first one ended."""
    folder = tmp_path_factory.mktemp("runs")
    owned = folder / "stranger"
    owned.mkdir()
    os.chown(owned, STRANGER, STRANGER)
    since = int(time.time())
    told = train_as_stranger(client, engine, owned / "docker")
    assert told.code == 0, told.said[-6000:]
    ended = list(
        client.events(
            since=since,
            until=time.time() + 1,
            decode=True,
            filters={"event": "die", "label": f"{FOLDER_LABEL}={owned / 'docker'}"},
        )
    )
    plain = train(engine, folder / "subprocess", "subprocess")
    assert plain.returncode == 0, plain.stdout[-3000:] + plain.stderr[-3000:]
    return Runs(
        owned / "docker", folder / "subprocess", told.said, [event["Actor"]["Attributes"] for event in ended]
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
        assert len(runs.containers) == len(tasks) > 15
        assert {(container["image"], container["exitCode"]) for container in runs.containers} == {
            (IMAGE, "0")
        }

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
        assert owners == {(STRANGER, STRANGER)}

    def test_a_second_run_comes_from_the_cache_and_leaves_no_container(self, engine, client, runs):
        again = train_as_stranger(client, engine, runs.folder)
        assert again.code == 0, again.said
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
        assert client.containers.list(all=True, filters={"label": FOLDER_LABEL}) == []


class TestGuards:
    pytestmark = in_containers

    def test_an_image_with_other_stages_is_refused(self, engine, client, tmp_path):
        alter = "import components.market.load as stage; open(stage.__file__, 'a').write('#')"
        altered = client.containers.run(IMAGE, ["python3", "-c", alter], user="0:0", detach=True)
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
        before = client.containers.list(all=True)
        assert run_container(client, IMAGE, failing, {}, print) == 3
        assert run_container(client, IMAGE, ["sh", "-c", "echo said"], {}, print) == 0
        assert client.containers.list(all=True) == before

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
        left = client.containers.list(all=True, filters={"label": FOLDER_LABEL})
        assert [container.id for container in left] == [others.id]
        assert remove_containers(tmp_path / "others") == 1
        assert remove_containers(tmp_path / "mine") == 0
        with pytest.raises(docker.errors.NotFound):
            mine.reload()

    def test_tasks_have_no_rights_and_nothing_to_write_to(self, engine, client, tmp_path, monkeypatch):
        monkeypatch.setenv("DOCKER_HOST", engine["DOCKER_HOST"])
        monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path / "data"))
        given = docker_runner(tmp_path, load_config(DEMO, []), {}).container_run_args
        ask = (
            "import pathlib; print(pathlib.Path('/proc/self/status').read_text());"
            " open('/tmp/x', 'w'); open('/opt/x', 'w')"
        )
        ended = contain(client, IMAGE, ["python3", "-c", ask], **given)
        assert "NoNewPrivs:\t1" in ended.said
        assert f"CapBnd:\t{0:016x}" in ended.said
        assert f"CapEff:\t{0:016x}" in ended.said
        assert ended.said.rstrip().endswith("OSError: [Errno 30] Read-only file system: '/opt/x'")

    def test_a_task_refuses_an_image_with_other_code_and_one_without_its_module(
        self, engine, client, tmp_path, monkeypatch
    ):
        (tmp_path / "expert_in_an_image.py").write_text("class Expert:\n    pass\n")
        (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY expert_in_an_image.py {MODULES_FOLDER}/\n")
        build = ["docker", "build", "--quiet", "-t", "alphaloop-with-module:1", tmp_path]
        subprocess.run(build, check=True, env=engine, stdout=subprocess.DEVNULL)
        monkeypatch.syspath_prepend(str(tmp_path))
        told = compiled_code(["expert_in_an_image"])
        task = ["python3", "-c", "from components.progress import stage\nwith stage('x'): print('done')"]
        assert "done" in contain(client, "alphaloop-with-module:1", task, environment=told).said
        lacks = contain(client, IMAGE, task, environment=told)
        assert (lacks.code, "done" in lacks.said) == (1, False)
        assert "has no module 'expert_in_an_image'" in lacks.said
        other = contain(client, IMAGE, task, environment={**told, "ALPHALOOP_SOURCES": "0" * 16})
        assert (other.code, "done" in other.said) == (1, False)
        assert "holds other code than this pipeline was compiled with" in other.said

    def test_a_tag_that_a_registry_has_is_named_by_its_digest(self, engine, client, tmp_path, monkeypatch):
        program = shutil.which("docker-registry", path=SYSTEM_PATH)
        if program is None:
            pytest.skip("docker-registry is not installed (Debian package docker-registry)")
        monkeypatch.setenv("DOCKER_HOST", engine["DOCKER_HOST"])
        port = free_port()
        place = {"storage": {"filesystem": {"rootdirectory": str(tmp_path / "store")}}}
        (tmp_path / "config.yml").write_text(
            json.dumps({"version": "0.1", "http": {"addr": f"127.0.0.1:{port}"}, **place})
        )
        registry = subprocess.Popen([program, "serve", tmp_path / "config.yml"], stderr=subprocess.DEVNULL)
        try:
            repository = f"localhost:{port}/team/alphaloop"
            client.images.get(BASE).tag(repository, "1")
            assert pinned_image(f"{repository}:1") == f"{repository}:1"
            until(lambda: httpx.get(f"http://localhost:{port}/v2/").status_code == 200, what="a registry")
            client.images.push(repository, "1")
            pinned = pinned_image(f"{repository}:1")
            assert re.fullmatch(f"{repository}@sha256:[0-9a-f]{{64}}", pinned)
            assert client.images.get(pinned).id == client.images.get(BASE).id
        finally:
            registry.terminate()
            registry.wait()

    def test_any_user_can_train_in_the_image_without_network_and_nothing_phones_home(self, client, tmp_path):
        folder = tmp_path / "out"
        folder.mkdir()
        os.chown(folder, STRANGER, STRANGER)
        hearkening = ["python3", "-c", HEARKENING]
        binds = {str(folder): {"bind": str(folder), "mode": "rw"}}
        heard = contain(
            client,
            IMAGE,
            [*hearkening, "python3", "-c", "import socket; socket.getaddrinfo('planted.example', 80)"],
            dns=["127.0.0.1"],
        )
        assert "ASKED planted.example" in heard.said
        ended = contain(
            client,
            IMAGE,
            [*hearkening, "alphaloop", "run", *overrides(folder / "run")],
            dns=["127.0.0.1"],
            volumes=binds,
        )
        assert ended.code == 0, ended.said[-6000:]
        assert ended.said.rstrip().splitlines()[-1] == "ASKED"
        assert (folder / "run" / "report.html").stat().st_uid == STRANGER


class TestImages:
    pytestmark = in_containers

    @pytest.mark.parametrize("image", [IMAGE, SERVING])
    def test_any_user_has_a_name_a_home_and_caches(self, client, image):
        ask = (
            "import getpass, os, pathlib, tempfile, matplotlib.font_manager;"
            " print(os.getuid(), getpass.getuser(), pathlib.Path.home(), tempfile.gettempdir())"
        )
        ended = contain(client, image, ["python3", "-c", ask])
        assert ended.said.splitlines()[-1] == f"{STRANGER} alphaloop /tmp /tmp"

    @pytest.mark.parametrize("image", [IMAGE, SERVING])
    def test_by_itself_it_is_a_numeric_user_and_says_nothing_secret(self, client, image):
        found = client.images.get(image)
        assert found.attrs["Config"]["User"] == "65532:65532"
        built = "".join(layer["CreatedBy"] for layer in found.history()) + str(found.attrs["Config"]["Env"])
        assert not re.search("(?i)password|token|secret|api_key", built)
        told = dict(entry.split("=", 1) for entry in found.attrs["Config"]["Env"])
        for name in (
            "DO_NOT_TRACK",
            "BENTOML_DO_NOT_TRACK",
            "MLFLOW_DISABLE_TELEMETRY",
            "ORT_DISABLE_TELEMETRY",
        ):
            assert told[name] in ("true", "1")

    @pytest.mark.parametrize("image", [IMAGE, SERVING])
    def test_nothing_of_its_making_is_left(self, client, image):
        places = [
            "/opt/source",
            "/tmp/*",
            "/added",
            "/root/.cache/*",
            "*/.git",
            "*/.netrc",
            "*/.pypirc",
            "/opt/*.whl",
        ]
        named = " -o ".join(f"-path '{place}'" for place in places)
        find = f"find / -xdev \\( {named} \\) -print"
        root = contain(client, image, ["sh", "-c", find], user="0:0")
        assert (root.code, root.said) == (0, "")

    def test_what_trains_is_not_in_the_image_that_serves_and_tools_of_developers_in_none(self, client):
        ask = (
            "import importlib.util, sys;"
            " print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name)))"
        )
        training = ["torch", "lightgbm", "xgboost", "evidently", "great_expectations", "kfp", "numba", "onnx"]
        tools = ["pytest", "ruff", "hypothesis", "schemathesis", "nvidia"]
        served = contain(client, SERVING, ["python3", "-c", ask, "mlflow", *training, *tools])
        assert served.said.split() == ["mlflow"]
        trained = contain(client, IMAGE, ["python3", "-c", ask, "mlflow", *training, *tools])
        assert trained.said.split() == ["mlflow", *training]

    def test_the_sizes(self, client):
        tasks, serving = (client.images.get(image).attrs["Size"] for image in (IMAGE, SERVING))
        print(f"tasks-cpu {tasks / 1e9:.2f} GB, serving {serving / 1e9:.2f} GB")
        assert tasks < 3.6e9
        assert serving < 1.8e9

    def test_the_targets_share_their_layers(self, client):
        tasks, serving = (client.images.get(image).attrs["RootFS"]["Layers"] for image in (IMAGE, SERVING))
        assert tasks[: len(serving) - 1] == serving[:-1]


class TestService:
    pytestmark = in_containers

    def test_it_answers_as_a_stranger_on_a_read_only_root_and_drains_when_told_to_end(self, client, runs):
        port, place = free_port(), str(runs.folder)
        symbols = pl.read_parquet(table(runs.folder, "stack/all_predictions"))["symbol"].unique().to_list()
        served = ["alphaloop", "serve", "--port", str(port), "--keyless", *overrides(runs.folder)]
        container = client.containers.run(
            SERVING,
            [*served, "--set", "serving.drain_seconds=3"],
            detach=True,
            network_mode="host",
            volumes={place: {"bind": place, "mode": "rw"}},
            **AS_STRANGER,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as asking:

                def ready() -> bool:
                    container.reload()
                    assert container.status == "running", container.logs().decode()[-4000:]
                    return asking.get("/readyz").status_code == 200

                until(ready, seconds=300, what="a ready service")
                answered = asking.post("/signals", json={"symbols": symbols[:3]})
                assert answered.status_code == 200, answered.text
                container.kill("SIGTERM")
                until(lambda: asking.get("/readyz").status_code == 503, seconds=30, what="not ready")
                assert asking.post("/signals", json={"symbols": symbols[:3]}).status_code == 200
                assert container.wait(timeout=120)["StatusCode"] == 0
            assert "Traceback" not in container.logs().decode()
        finally:
            container.remove(force=True)


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
