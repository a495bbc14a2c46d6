"""The commands of the manifests, started as they stand with the real programs: Redis asks for its password,
MLflow for its users and for the names under which it is reached.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.infra.manifests import copy_with_secrets, find, render
from tests.stores import Server, free_port, listens, postgres_server

WAIT_S = 90


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    folder = copy_with_secrets(tmp_path_factory.mktemp("commands") / "infra")
    return render(folder / "overlays" / "one-node-cpu" / "platform")


def container(manifests, kind: str, name: str) -> dict:
    (found,) = find(manifests, kind, name)["spec"]["template"]["spec"]["containers"]
    return found


def started(name: str, command: list[str], environment: dict[str, str], folder, port: int) -> Server:
    server = Server(name, command, port, f"127.0.0.1:{port}", folder, own_environment=environment)
    server.start()
    return server


class TestRedis:
    @pytest.fixture(scope="class")
    def server(self, manifests, tmp_path_factory):
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed (Debian package redis-server)")
        folder, port = tmp_path_factory.mktemp("redis"), free_port()
        one = container(manifests, "StatefulSet", "redis")
        script = one["args"][0].replace("/data", str(folder)).strip() + f" --port {port} --bind 127.0.0.1"
        server = started("redis", [*one["command"], script], {"REDIS_PASSWORD": "a" * 20}, folder, port)
        yield server
        server.kill()

    def test_it_asks_for_the_password(self, server):
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)).set("a", 1)
        client = redis.Redis(port=server.port, password="a" * 20)
        assert client.set("a", 1)
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"

    def test_its_probe_sees_it_only_with_the_password(self, manifests, server):
        probe = container(manifests, "StatefulSet", "redis")["readinessProbe"]["exec"]["command"]
        asked = [*probe[:2], probe[2].replace("redis-cli", f"redis-cli -p {server.port}")]
        with_password = {**os.environ, "REDISCLI_AUTH": "a" * 20}
        assert subprocess.run(asked, env=with_password, check=False, capture_output=True).returncode == 0
        assert subprocess.run(asked, check=False, capture_output=True).returncode != 0

    def test_no_command_line_shows_the_password(self, server):
        told = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert "a" * 20 not in told


class TestMLflow:
    @pytest.fixture(scope="class")
    def server(self, manifests, tmp_path_factory, s3):
        if importlib.util.find_spec("flask_wtf") is None:
            pytest.skip("Flask-WTF is not installed, and MLflow's users need it (extra server)")
        folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
        one = container(manifests, "Deployment", "mlflow")
        stores = find(manifests, "ConfigMap", "alphaloop-stores")["data"]
        ini = find(manifests, "ConfigMap", "mlflow-auth")["data"]["basic_auth.ini"]
        (folder / "basic_auth.ini").write_text(ini.replace("/tmp/", f"{folder}/"))
        with postgres_server() as database:
            plain = {each["name"]: each["value"] for each in one["env"] if "value" in each}
            environment = {
                **stores,
                **plain,
                **s3.environment,
                "MLFLOW_BACKEND_STORE_URI": database.address,
                "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
                "MLFLOW_AUTH_ADMIN_PASSWORD": "password-of-a-test",
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "key-of-a-test",
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            }
            command = [*one["command"], *one["args"]]
            for name, value in environment.items():
                command = [part.replace(f"$({name})", value) for part in command]
            command = [
                part.replace("--port=5000", f"--port={port}").replace("0.0.0.0", "127.0.0.1")
                for part in command
            ]
            assert not [part for part in command if "$(" in part]
            server = started("mlflow", command, environment, folder, port)
            deadline = time.monotonic() + WAIT_S
            while not (listens(port) and _health(port) == 200):
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield server
            server.kill()

    @pytest.mark.parametrize(
        ("host", "password", "status"),
        [
            ("mlflow.alphaloop:5000", "password-of-a-test", 200),
            ("mlflow.alphaloop.svc.cluster.local:5000", "password-of-a-test", 200),
            ("mlflow.alphaloop:5000", "another", 401),
            ("elsewhere.example", "password-of-a-test", 403),
        ],
    )
    def test_it_answers_its_names_and_its_user(self, server, host, password, status):
        answer = httpx.get(
            f"http://127.0.0.1:{server.port}/api/2.0/mlflow/experiments/search?max_results=1",
            headers={"Host": host},
            auth=("alphaloop", password),
        )
        assert answer.status_code == status, answer.text

    def test_its_probe_needs_no_user(self, manifests, server):
        probe = container(manifests, "Deployment", "mlflow")["readinessProbe"]["httpGet"]
        headers = {one["name"]: one["value"] for one in probe["httpHeaders"]}
        address = f"http://127.0.0.1:{server.port}{probe['path']}"
        assert httpx.get(address, headers=headers).status_code == 200


def _health(port: int) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code
    except httpx.HTTPError:
        return 0
