"""One box for a team: the compose file is what Debian's docker-compose takes, every service is watched and
fenced, and what they name of each other is there.
"""

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipelines.config import load_config
from serving.config import Settings as ServingSettings
from serving.processes.launch import _STOP_S
from tests.infra.observed import PROMTOOL, ROOT
from tests.infra.write_generated import CONFIG

FOLDER = ROOT / "infra" / "compose"
COMPOSE = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
# They end by themselves, or run for one command.
ONCE = {"volumes", "bucket", "alphaloop"}
# Debian's docker-compose brings the schema of the Compose specification along.
SCHEMA = Path("/usr/lib/python3/dist-packages/compose/config/compose_spec.json")


@pytest.fixture
def folder(tmp_path):
    """A copy with secrets drawn for the test."""
    shutil.copytree(ROOT / "infra", tmp_path / "infra", ignore=shutil.ignore_patterns("wheels", ".env"))
    subprocess.run([tmp_path / "infra" / "draw_secrets", tmp_path / "infra" / "compose"], check=True)
    return tmp_path / "infra" / "compose"


def told(folder: Path) -> dict[str, str]:
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def docker_compose(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed (Debian package docker-compose)")
    command = ["docker-compose", "-f", folder / "docker-compose.yml", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def exposed(services: dict) -> list[str]:
    """Services that take more than they need: root, capabilities, ports beyond this machine."""
    faults = []
    for name, service in services.items():
        if not service.get("read_only") or "no-new-privileges:true" not in service.get("security_opt", []):
            faults.append(f"{name} writes to its root or may gain privileges")
        if service.get("cap_drop") != ["ALL"] or set(service.get("cap_add", [])) - {"CHOWN"}:
            faults.append(f"{name} keeps capabilities")
        user = service.get("user", "" if "ALPHALOOP" in service["image"] else "0")
        if user.startswith("0") and service.get("network_mode") != "none":
            faults.append(f"{name} runs as root")
        if [port for port in service.get("ports", []) if not port.startswith("${LISTEN:-127.0.0.1}:")]:
            faults.append(f"{name} listens for everybody")
        if "privileged" in service or "docker.sock" in str(service.get("volumes")):
            faults.append(f"{name} holds the host")
    return faults


def unwatched(services: dict) -> list[str]:
    """Services that last without a health check or a restart, or that wait for one that shows neither."""
    faults = []
    for name, service in services.items():
        if name not in ONCE and service.get("restart") != "unless-stopped":
            faults.append(f"{name} is not started again")
        if name not in ONCE | {"watch"} and "healthcheck" not in service:
            faults.append(f"{name} has no health check")
        for other, wait in service.get("depends_on", {}).items():
            healthy = wait["condition"] == "service_healthy" and "healthcheck" in services.get(other, {})
            ended = wait["condition"] == "service_completed_successfully" and other in ONCE
            if other not in services or not (healthy or ended):
                faults.append(f"{name} waits in vain for {other}")
    return faults


class TestTheFile:
    def test_docker_compose_takes_it(self, folder):
        done = docker_compose(folder, "config")
        assert done.returncode == 0, done.stderr
        services = yaml.safe_load(done.stdout)["services"]
        assert set(services) == set(SERVICES)
        # What a shell in a container shall see stays as it is.
        assert '"$$REDISCLI_AUTH"' in services["redis"]["command"][0]

    def test_it_is_what_the_specification_says(self):
        if not SCHEMA.is_file():
            pytest.skip("no schema of the Compose specification here (Debian package docker-compose)")
        schema = json.loads(SCHEMA.read_text())
        assert list(jsonschema.Draft7Validator(schema).iter_errors(COMPOSE)) == []
        planted = copy.deepcopy(COMPOSE)
        planted["services"]["redis"]["restarts"] = "always"
        assert list(jsonschema.Draft7Validator(schema).iter_errors(planted)) != []

    def test_without_secrets_it_says_what_to_run(self, folder):
        (folder / ".env").unlink()
        done = docker_compose(folder, "config")
        assert done.returncode != 0
        assert "run infra/draw_secrets infra/compose" in done.stderr

    def test_no_password_stands_in_it(self):
        text = (FOLDER / "docker-compose.yml").read_text()
        variables = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
        example = told_example()
        assert variables == set(example)
        drawn = {name for name, value in example.items() if value == "@random@"}
        assert {name for name in variables if re.search("PASSWORD|KEY", name)} - drawn == {"S3_ACCESS_KEY"}
        for name in drawn | {"S3_ACCESS_KEY"}:
            assert re.findall(rf"\$\{{{name}(.*?)\}}", text), name
            assert set(re.findall(rf"\$\{{{name}(.*?)\}}", text)) == {
                ":?run infra/draw_secrets infra/compose"
            }

    def test_passwords_are_drawn_anew(self, folder):
        values = told(folder)
        drawn = [values[name] for name, value in told_example().items() if value == "@random@"]
        assert len(set(drawn)) == len(drawn) == 7
        assert min(map(len, drawn)) >= 32

    def test_every_service_is_fenced(self):
        assert exposed(SERVICES) == []

    @pytest.mark.parametrize(
        "plant",
        [
            lambda one: one.pop("read_only"),
            lambda one: one.pop("cap_drop"),
            lambda one: one.update(cap_add=["SYS_ADMIN"]),
            lambda one: one.update(user="0:0"),
            lambda one: one.update(ports=["6379:6379"]),
            lambda one: one.update(volumes=["/var/run/docker.sock:/var/run/docker.sock"]),
        ],
    )
    def test_a_planted_gap_is_found(self, plant):
        planted = copy.deepcopy(SERVICES)
        plant(planted["redis"])
        assert len(exposed(planted)) == 1

    def test_every_service_is_watched_and_started_again(self):
        assert unwatched(SERVICES) == []

    @pytest.mark.parametrize(
        "plant",
        [
            lambda services: services["mlflow"].pop("restart"),
            lambda services: services["service"].pop("healthcheck"),
            lambda services: services["mlflow"]["depends_on"]["bucket"].update(condition="service_healthy"),
            lambda services: services.pop("volumes"),
        ],
    )
    def test_a_planted_neglect_is_found(self, plant):
        planted = copy.deepcopy(SERVICES)
        plant(planted)
        assert unwatched(planted) != []


def told_example() -> dict[str, str]:
    lines = (FOLDER / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


class TestWhatTheyNameOfEachOther:
    def test_files_and_volumes_are_there(self):
        for name, service in SERVICES.items():
            for volume in service.get("volumes", []):
                source = re.sub(r"\$\{[A-Z0-9_]+:-(.*?)\}", r"\1", volume).split(":")[0]
                if source.startswith("."):
                    assert (FOLDER / source).exists() or source == "./data", (name, source)
                else:
                    assert source in COMPOSE["volumes"], (name, source)

    def test_each_volume_belongs_to_its_server(self):
        given = re.findall(r"chown (\d+):\d+ /(\w+)", SERVICES["volumes"]["command"][0])
        owners = {place: user for user, place in given}
        assert set(owners) == set(COMPOSE["volumes"])
        for service in SERVICES.values():
            if "user" in service and service["user"] != "0:0":
                mine = [one.split(":")[0] for one in service["volumes"] if one.split(":")[0] in owners]
                assert {owners[one] for one in mine} == {service["user"].split(":")[0]}

    def test_addresses_lead_to_services(self):
        config = load_config(FOLDER / "config.yaml")
        texts = [
            config.registry.tracking_uri,
            (FOLDER / "prometheus.yml").read_text(),
            *(str(service.get("environment")) + str(service.get("command")) for service in SERVICES.values()),
        ]
        named = {
            host
            for text in texts
            for host in re.findall(r"(?:http://|@|targets: \[\"|ALPHALOOP_REDIS': ')([a-z0-9]+):\d+", text)
        }
        assert named == {"mlflow", "service", "s3", "postgres", "redis", "prometheus"}
        assert named <= set(SERVICES)

    def test_the_config_is_the_clusters_but_for_where_things_are(self):
        here, there = (load_config(path).model_dump() for path in (FOLDER / "config.yaml", CONFIG))
        differ = {name for name in here if here[name] != there[name]}
        assert differ <= {"run", "registry", "experts", "cluster"}

    def test_prometheus_asks_the_service_and_else_does_the_same(self, folder):
        here, there = (
            yaml.safe_load(path.read_text())
            for path in (FOLDER / "prometheus.yml", ROOT / "infra" / "prometheus" / "prometheus.yml")
        )
        assert here["scrape_configs"][0].pop("static_configs") == [{"targets": ["service:3000"]}]
        there["scrape_configs"][0].pop("static_configs")
        assert here == there
        if PROMTOOL is None:
            pytest.skip("promtool is not installed (Debian package prometheus)")
        shutil.copy(ROOT / "infra" / "prometheus" / "rules.yml", folder)
        subprocess.run(
            [PROMTOOL, "check", "config", folder / "prometheus.yml"], check=True, capture_output=True
        )

    def test_grafana_finds_prometheus_and_dashboards(self):
        service = SERVICES["grafana"]
        assert service["environment"]["ALPHALOOP_PROMETHEUS_URL"] == "http://prometheus:9090"
        place = service["environment"]["ALPHALOOP_GRAFANA_DASHBOARDS"]
        assert f"../grafana/dashboards:{place}:ro" in service["volumes"]

    def test_the_service_has_time_to_end(self):
        defaults = ServingSettings()
        needed = defaults.drain_seconds + defaults.request_timeout_ms / 1000 + 1 + sum(_STOP_S.values())
        assert float(SERVICES["service"]["stop_grace_period"].removesuffix("s")) > needed
