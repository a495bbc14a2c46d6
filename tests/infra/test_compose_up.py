"""The compose file brought up for real: PostgreSQL, S3, Redis, MLflow, service, watch and Prometheus, a model
trained by its own command and asked for through the service.

No registry is reached: Alphaloop's images are built here, and the stores come out of one image of Debian's
packages under the commands of the file. Grafana is not in Debian and stays out.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from tests.infra.observed import ROOT
from tests.infra.test_compose import told
from tests.pipelines.docker_engine import SYSTEM_PATH
from tests.pipelines.small_run import SETTINGS

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(3000)]
STORES = "alphaloop-stores:test"
PACKAGES = "ca-certificates,redis-server,postgresql,prometheus,wget"
# A loopback address of its own: the ports of the file are fixed, and others may use them on 127.0.0.1.
LISTEN = "127.77.0.1"
SERVICES = ("postgres", "s3", "redis", "mlflow", "service", "prometheus")
WAIT_S = 240
WEED = Path(sys.executable).with_name("weed")


class Box:
    """The compose project of one test folder."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder, self.environment, self.values = folder, environment, told(folder)

    def __call__(self, *arguments: str, check: bool = True) -> str:
        files = ["-f", "docker-compose.yml", "-f", str(ROOT / "tests" / "infra" / "compose_offline.yml")]
        done = subprocess.run(
            ["docker-compose", *files, *arguments],
            cwd=self.folder,
            env={**self.environment, "LISTEN": LISTEN},
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            logs = "" if arguments[0] == "logs" else self("logs", "--tail", "40", check=False)
            raise AssertionError(f"{arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}{logs[-6000:]}")
        return done.stdout

    def inspect(self, service: str) -> dict:
        (identity,) = self("ps", "-q", service).split()
        command = ["docker", "inspect", identity]
        return json.loads(
            subprocess.run(command, env=self.environment, capture_output=True, check=True).stdout
        )[0]

    def ask(self, method: str, path: str, port: int = 3000, **arguments) -> httpx.Response:
        return httpx.request(method, f"http://{LISTEN}:{port}{path}", timeout=30, **arguments)

    def wait_for(self, path: str, status: int, port: int = 3000) -> None:
        deadline, seen = time.monotonic() + WAIT_S, None
        while time.monotonic() < deadline:
            try:
                seen = self.ask("GET", path, port)
                if seen.status_code == status:
                    return
            except httpx.HTTPError as error:
                seen = error
            time.sleep(1)
        raise AssertionError(f"{path}: {seen!r}, wanted {status}; {self('logs', '--tail', '60')[-6000:]}")


def build_stores(environment: dict[str, str], scratch: Path) -> None:
    """The image of the stores' servers, from Debian's packages and the S3 server of this environment."""
    root = scratch / "stores"
    root.mkdir(mode=0o755)
    debootstrap = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root]
    subprocess.run(debootstrap, check=True, env=environment, stdout=subprocess.DEVNULL)
    shutil.copy(WEED, root / "usr" / "bin" / "weed")
    # As in upstream's image: PostgreSQL's user has a name, and may put a socket where it looks for it.
    (root / "run" / "postgresql").chmod(0o3777)
    for name, line in (("passwd", "store:x:999:999::/data:/bin/sh\n"), ("group", "store:x:999:\n")):
        with (root / "etc" / name).open("a") as table:
            table.write(line)
    archive = subprocess.Popen(["tar", "-C", root, "--numeric-owner", "-c", "."], stdout=subprocess.PIPE)
    subprocess.run(
        ["docker", "import", "-", STORES],
        stdin=archive.stdout,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    assert archive.wait() == 0
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def box(engine, tmp_path_factory):
    if shutil.which("docker-compose", path=SYSTEM_PATH) is None:
        pytest.skip("docker-compose is not installed (Debian package docker-compose)")
    scratch = tmp_path_factory.mktemp("box")
    shutil.copytree(ROOT / "infra", scratch / "infra", ignore=shutil.ignore_patterns("wheels", ".env"))
    folder = scratch / "infra" / "compose"
    subprocess.run([scratch / "infra" / "draw_secrets", folder], check=True, stdout=subprocess.DEVNULL)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["market"]["simulator"] |= {"symbols": 12, "sectors": 3}
    config["experts"]["leaves"] = ["median/1d/base", "elasticnet/1d/base"]
    config["audit"] = {"cuts": 1, "guided_cuts": 0}
    config["gates"] = SETTINGS["gates"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    build_stores(engine, scratch)
    box = Box(folder, {**os.environ, **engine})
    try:
        yield box
    finally:
        box("down", "-v", check=False)


class TestOneBox:
    """In this order: each test goes on from the state that the one before left."""

    def test_all_come_up_and_say_that_they_are_well(self, box):
        box("up", "-d", *SERVICES)
        deadline = time.monotonic() + WAIT_S
        while (
            health := {name: box.inspect(name)["State"]["Health"]["Status"] for name in SERVICES}
        ) != dict.fromkeys(SERVICES, "healthy"):
            assert time.monotonic() < deadline, (health, box("logs", "--tail", "30")[-6000:])
            time.sleep(2)

    def test_without_a_model_the_service_lives_and_is_not_ready(self, box):
        assert box.ask("GET", "/livez").status_code == 200
        assert box.ask("GET", "/readyz").status_code == 503

    def test_mlflow_asks_for_its_user(self, box):
        path = "/api/2.0/mlflow/experiments/search?max_results=1"
        headers = {"Host": "localhost:5000"}
        assert box.ask("GET", path, 5000, headers=headers).status_code == 401
        user = ("alphaloop", box.values["MLFLOW_PASSWORD"])
        assert box.ask("GET", path, 5000, headers=headers, auth=user).status_code == 200

    def test_a_model_is_trained_and_answers(self, box):
        box(
            "run",
            "--rm",
            "-T",
            "alphaloop",
            "run",
            "--config",
            "/etc/alphaloop/config.yaml",
            "--require-approved",
        )
        box.wait_for("/readyz", 200)
        key = box.values["ALPHALOOP_API_KEY"]
        body = {"symbols": ["S01", "S02"]}
        assert box.ask("POST", "/signals", json=body).status_code == 401
        answer = box.ask("POST", "/signals", json=body, headers={"X-API-Key": key})
        assert answer.status_code == 200, answer.text
        assert [one["symbol"] for one in answer.json()["signals"]] == body["symbols"]

    def test_the_watch_checks_what_was_served(self, box):
        box("up", "-d", "watch")
        deadline = time.monotonic() + WAIT_S
        while "next check" not in box("logs", "watch"):
            assert time.monotonic() < deadline, box("logs", "--tail", "60", "watch")
            time.sleep(2)
        assert "failed" not in box("logs", "watch")

    def test_prometheus_sees_the_service(self, box):
        deadline = time.monotonic() + WAIT_S
        while True:
            found = box.ask("GET", "/api/v1/query", 9090, params={"query": 'up{job="alphaloop"} == 1'}).json()
            if found["data"]["result"]:
                break
            assert time.monotonic() < deadline, found
            time.sleep(2)

    @pytest.mark.parametrize("name", [*SERVICES, "watch"])
    def test_each_runs_without_rights(self, box, name):
        found = box.inspect(name)
        assert found["Config"]["User"].split(":")[0] not in ("", "0", "root")
        assert found["HostConfig"]["ReadonlyRootfs"]
        assert found["HostConfig"]["CapDrop"] == ["ALL"]

    def test_the_service_ends_in_order_and_begins_again(self, box):
        began = time.monotonic()
        box("stop", "service")
        assert time.monotonic() - began < 90
        assert "Stopped" in box("logs", "--tail", "5", "service")
        box("up", "-d", "service")
        box.wait_for("/readyz", 200)
