"""The manifests as kustomize renders them: valid, hardened, and nothing names what is not there.

No cluster is needed. Custom resources (ServiceMonitor, PrometheusRule, Profile, Istio's) have no schema in
kubernetes-validate; of these it is tested that they name what is there.
"""

import copy
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from pipelines.config import load_config
from pipelines.graphs.build import PIPELINES
from pipelines.runners.ir import compile_pipeline, read_ir
from serving.config import Settings as ServingSettings
from serving.processes.launch import _STOP_S
from tests.infra.manifests import (
    OVERLAYS,
    RUNS_IN,
    Named,
    containers,
    copy_with_secrets,
    existing,
    find,
    insecure,
    kustomize,
    named_by_ir,
    named_by_pods,
    of_kind,
    pods,
    render,
)
from tests.infra.observed import PROMTOOL, ROOT
from tests.infra.write_generated import BASE, CONFIG, generated

CUSTOM = {"ServiceMonitor", "PrometheusRule", "Profile", "VirtualService", "AuthorizationPolicy"}
# Made by others in the namespace of the runs: by Kubeflow Pipelines itself.
KUBEFLOWS_OWN = {"kfp-launcher", "mlpipeline-minio-artifact"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return copy_with_secrets(tmp_path_factory.mktemp("manifests") / "infra")


@pytest.fixture(scope="module")
def rendered(folder):
    return {name: render(folder / "overlays" / name) for name in OVERLAYS}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The IR of every pipeline of the shipped cluster config."""
    target, config = tmp_path_factory.mktemp("ir"), load_config(CONFIG, ["selection.mode=quick"])
    return {name: read_ir(compile_pipeline(name, config, target / f"{name}.yaml")) for name in PIPELINES}


def faults_of_schema(manifest: dict) -> list[str]:
    """What Kubernetes' own schema says against an object, unknown fields included."""
    try:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{manifest['kind']} {manifest['metadata']['name']}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError:
        return [] if manifest["kind"] in CUSTOM else [f"{manifest['kind']} has no schema"]
    return []


@pytest.mark.parametrize("overlay", OVERLAYS)
class TestEachOverlay:
    def test_it_is_what_kubernetes_schema_says(self, rendered, overlay):
        assert [fault for one in rendered[overlay] for fault in faults_of_schema(one)] == []

    def test_all_that_its_pods_name_is_there(self, rendered, overlay):
        assert named_by_pods(rendered[overlay]) - existing(rendered[overlay]) == set()

    def test_all_that_the_compiled_pipelines_name_is_there(self, rendered, compiled, overlay):
        named = set().union(*(named_by_ir(documents, RUNS_IN[overlay]) for documents in compiled.values()))
        assert len(named) >= 5
        assert named - existing(rendered[overlay]) == set()

    def test_the_runners_account_and_claims_are_where_the_runs_are(self, rendered, overlay):
        there = existing(rendered[overlay])
        names = [("ServiceAccount", "alphaloop-runner")]
        names += [("PersistentVolumeClaim", name) for name in ("alphaloop", "alphaloop-data")]
        assert {Named(kind, RUNS_IN[overlay], name) for kind, name in names} - there == set()

    def test_no_pod_takes_more_than_the_restricted_profile_allows(self, rendered, overlay):
        found = {work["metadata"]["name"]: insecure(template) for work, template in pods(rendered[overlay])}
        assert {name: faults for name, faults in found.items() if faults} == {}

    def test_the_runner_may_do_little(self, rendered, overlay):
        rules = find(rendered[overlay], "Role", "alphaloop-runner")["rules"]
        assert of_kind(rendered[overlay], "ClusterRole", "ClusterRoleBinding") == []
        assert len(of_kind(rendered[overlay], "Role")) == 1
        allowed = {
            (resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]
        }
        assert "*" not in {part for pair in allowed for part in pair}
        assert {resource for resource, verb in allowed if verb != "get"} == {"workflowtaskresults"}
        (secrets,) = [rule for rule in rules if "secrets" in rule["resources"]]
        there = {one["metadata"]["name"] for one in of_kind(rendered[overlay], "Secret")}
        assert set(secrets["resourceNames"]) <= there | KUBEFLOWS_OWN

    def test_whoever_selects_finds(self, rendered, overlay):
        assert selections_without_pods(rendered[overlay]) == []

    def test_everything_carries_the_common_labels(self, rendered, overlay):
        for one in rendered[overlay]:
            if one["kind"] not in ("Namespace", "Profile"):
                assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "alphaloop", one["metadata"]

    def test_the_quota_holds_all_pods_at_once(self, rendered, overlay):
        quota = find(rendered[overlay], "ResourceQuota", "alphaloop")["spec"]["hard"]
        asked = most_requested(rendered[overlay])
        assert {name: amount for name, amount in asked.items() if amount > number(quota[name])} == {}
        # Tasks run in the same namespace: half of it is theirs.
        if RUNS_IN[overlay] == "alphaloop":
            assert asked["requests.memory"] < number(quota["requests.memory"]) / 2

    def test_each_workload_is_reached_through_a_policy(self, rendered, overlay):
        policies = of_kind(rendered[overlay], "NetworkPolicy")
        for work, template in pods(rendered[overlay]):
            labels = template["metadata"]["labels"]
            own = [one for one in policies if matches(one["spec"]["podSelector"], labels)]
            assert len(own) >= 2, work["metadata"]["name"]


def matches(selector: dict, labels: dict) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items()


def selections_without_pods(manifests: list[dict]) -> list[str]:
    """Services, budgets, scalers, policies and monitors that select nothing, or a port that nobody has."""
    templates = [template for _, template in pods(manifests)]
    services = of_kind(manifests, "Service")
    faults = []

    def chosen(selector: dict) -> list[dict]:
        return [one for one in templates if matches(selector, one["metadata"]["labels"])]

    def ports(selector: dict) -> set:
        return {
            value
            for template in chosen(selector)
            for container in containers(template)
            for port in container.get("ports", [])
            for value in (port["name"], port["containerPort"])
        }

    for one in services:
        selector = {"matchLabels": one["spec"]["selector"]}
        for port in one["spec"]["ports"]:
            if port["targetPort"] not in ports(selector):
                faults.append(f"Service {one['metadata']['name']}: port {port['targetPort']}")
    for one in of_kind(manifests, "PodDisruptionBudget", "NetworkPolicy"):
        selector = one["spec"].get("selector") or one["spec"]["podSelector"]
        if not chosen(selector):
            faults.append(f"{one['kind']} {one['metadata']['name']}: no pod")
        wanted = {port["port"] for rule in one["spec"].get("ingress", []) for port in rule.get("ports", [])}
        if wanted - ports(selector):
            faults.append(f"{one['kind']} {one['metadata']['name']}: ports {wanted - ports(selector)}")
    for one in of_kind(manifests, "HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        if not [
            work for work in of_kind(manifests, target["kind"]) if work["metadata"]["name"] == target["name"]
        ]:
            faults.append(f"HorizontalPodAutoscaler {one['metadata']['name']}: no {target['name']}")
    for one in of_kind(manifests, "ServiceMonitor"):
        found = [each for each in services if matches(one["spec"]["selector"], each["metadata"]["labels"])]
        named = {port["name"] for each in found for port in each["spec"]["ports"]}
        if {end["port"] for end in one["spec"]["endpoints"]} - named:
            faults.append(f"ServiceMonitor {one['metadata']['name']}: no such port")
    return faults


UNITS = {"m": 1e-3, "": 1.0, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def number(quantity: str) -> float:
    amount, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(quantity)).groups()
    return float(amount) * UNITS[unit]


def most_requested(manifests: list[dict]) -> dict[str, float]:
    """What the workloads of the namespace ask for when the service is scaled out and rolled over."""
    asked = dict.fromkeys(("pods", "requests.cpu", "requests.memory", "limits.memory"), 0.0)
    scaler = find(manifests, "HorizontalPodAutoscaler", "alphaloop")
    for work, template in pods(manifests):
        scaled = work["metadata"]["name"] == scaler["spec"]["scaleTargetRef"]["name"]
        replicas = scaler["spec"]["maxReplicas"] + 1 if scaled else work["spec"].get("replicas", 1)
        asked["pods"] += replicas
        for container in containers(template):
            for side, names in container["resources"].items():
                for name, quantity in names.items():
                    if f"{side}.{name}" in asked:
                        asked[f"{side}.{name}"] += replicas * number(quantity)
    return asked


class TestPlantedFaults:
    """Each check sees the fault that it is for."""

    @pytest.fixture
    def manifests(self, rendered):
        return copy.deepcopy(rendered["one-node-cpu"])

    @pytest.mark.parametrize(
        ("kind", "name", "key"),
        [
            ("ServiceAccount", "alphaloop-serving", ""),
            ("Secret", "mlflow", ""),
            ("Secret", "redis", "address"),
            ("ConfigMap", "alphaloop-config", ""),
        ],
    )
    def test_something_that_pods_name_is_missing(self, manifests, kind, name, key):
        here = [one for one in manifests if one["metadata"].get("namespace") == "alphaloop"]
        planted = find(here, kind, name)
        if key:
            del planted["data"][key]
        else:
            manifests.remove(planted)
        missing = named_by_pods(manifests) - existing(manifests)
        assert {(one.kind, one.key) for one in missing} >= {(kind, key)} or not key
        assert missing

    def test_a_secret_and_a_claim_that_the_ir_names_are_missing(self, rendered, tmp_path):
        config = load_config(
            CONFIG, ["cluster.volume_claim=elsewhere", "cluster.secrets.X={secret: s3, key: gone}"]
        )
        named = named_by_ir(
            read_ir(compile_pipeline("materialisation", config, tmp_path / "m.yaml")), "kubeflow"
        )
        assert named - existing(rendered["one-node-cpu"]) == {
            Named("PersistentVolumeClaim", "kubeflow", "elsewhere"),
            Named("Secret", "kubeflow", "s3", "gone"),
        }

    @pytest.mark.parametrize(
        "plant",
        [
            lambda pod, box: pod["securityContext"].pop("runAsNonRoot"),
            lambda pod, box: pod["securityContext"].update(runAsUser=0),
            lambda pod, box: pod["securityContext"].pop("seccompProfile"),
            lambda pod, box: pod.pop("automountServiceAccountToken"),
            lambda pod, box: pod.update(hostNetwork=True),
            lambda pod, box: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
            lambda pod, box: box["securityContext"].pop("allowPrivilegeEscalation"),
            lambda pod, box: box["securityContext"].pop("readOnlyRootFilesystem"),
            lambda pod, box: box["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
            lambda pod, box: box["resources"].pop("requests"),
            lambda pod, box: box["resources"].pop("limits"),
        ],
    )
    def test_a_pod_that_takes_too_much(self, manifests, plant):
        template = find(manifests, "Deployment", "mlflow")["spec"]["template"]
        plant(template["spec"], template["spec"]["containers"][0])
        assert len(insecure(template)) == 1

    @pytest.mark.parametrize(
        "plant",
        [
            lambda one: one["spec"].update(replica=2),
            lambda one: one["spec"].update(replicas="2"),
            lambda one: one["spec"]["template"]["spec"]["containers"][0]["env"].append(
                {"name": "A", "value": True}
            ),
            lambda one: one["metadata"]["labels"].update(port=8080),
        ],
    )
    def test_an_object_that_departs_from_the_schema(self, manifests, plant):
        deployment = find(manifests, "Deployment", "mlflow")
        plant(deployment)
        assert len(faults_of_schema(deployment)) == 1

    @pytest.mark.parametrize(
        ("kind", "name", "plant"),
        [
            ("Service", "redis", lambda spec: spec["selector"].update({"app.kubernetes.io/name": "rediss"})),
            ("Service", "mlflow", lambda spec: spec["ports"][0].update(targetPort="web")),
            ("NetworkPolicy", "redis", lambda spec: spec["ingress"][0]["ports"].append({"port": 6380})),
            ("PodDisruptionBudget", "alphaloop", lambda spec: spec["selector"]["matchLabels"].update(a="b")),
            ("HorizontalPodAutoscaler", "alphaloop", lambda spec: spec["scaleTargetRef"].update(name="b")),
            ("ServiceMonitor", "alphaloop", lambda spec: spec["endpoints"][0].update(port="web")),
        ],
    )
    def test_a_selection_of_nothing(self, manifests, kind, name, plant):
        plant(find(manifests, kind, name)["spec"])
        assert len(selections_without_pods(manifests)) == 1

    def test_a_scaler_that_outgrows_the_quota(self, manifests):
        find(manifests, "HorizontalPodAutoscaler", "alphaloop")["spec"]["maxReplicas"] = 60
        quota = find(manifests, "ResourceQuota", "alphaloop")["spec"]["hard"]
        asked = most_requested(manifests)
        assert {name for name, amount in asked.items() if amount > number(quota[name])} >= {"limits.memory"}


class TestSecrets:
    def test_without_secrets_of_ones_own_nothing_is_rendered(self, folder, tmp_path):
        bare = copy_with_secrets(tmp_path / "infra")
        (bare / "secrets" / "shared" / "s3.env").unlink()
        done = kustomize(bare / "overlays" / "gpu")
        assert done.returncode != 0
        assert "s3.env" in done.stderr

    def test_passwords_are_drawn_anew_and_what_is_there_stays(self, folder, tmp_path):
        other = copy_with_secrets(tmp_path / "infra")
        files = sorted(path.relative_to(folder) for path in folder.glob("secrets/*/*.env"))
        assert len(files) == 5
        before = {path: (other / path).read_text() for path in files}
        for path, text in before.items():
            assert text != (folder / path).read_text()
            assert "@random@" not in text
            assert "@password@" not in text
            assert (other / path).stat().st_mode & 0o077 == 0
        told = subprocess.run(
            [other.parent / "draw_secrets", other / "secrets"], capture_output=True, text=True, check=True
        ).stdout
        assert told.count("is there already") == 5
        assert before == {path: (other / path).read_text() for path in files}

    def test_addresses_hold_the_password_of_their_server(self, folder):
        for name in ("shared/redis", "platform/postgres"):
            lines = (folder / "secrets" / f"{name}.env").read_text().splitlines()
            values = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
            assert values["password"] in values["address"]
            assert len(values["password"]) >= 32

    def test_git_ignores_them(self):
        named = ["infra/kubernetes/secrets/shared/s3.env", "infra/compose/.env"]
        done = subprocess.run(
            ["git", "check-ignore", *named], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if "not a git repository" in done.stderr:
            pytest.skip("not a checkout")
        assert done.stdout.split() == named


class TestOneSource:
    def test_rules_and_config_are_those_of_their_source(self):
        assert {name: (BASE / name).read_text() for name in generated()} == generated()

    def test_the_operators_rules_are_prometheus_rules(self, rendered, tmp_path):
        made = find(rendered["gpu"], "PrometheusRule", "alphaloop")["spec"]
        assert made == yaml.safe_load((ROOT / "infra" / "prometheus" / "rules.yml").read_text())
        if PROMTOOL is None:
            pytest.skip("promtool is not installed (Debian package prometheus)")
        (tmp_path / "rules.yml").write_text(yaml.safe_dump(made))
        subprocess.run([PROMTOOL, "check", "rules", tmp_path / "rules.yml"], check=True, capture_output=True)

    def test_rules_ask_for_the_job_that_the_operator_names(self, rendered):
        # Without a jobLabel the job is the Service's name.
        monitor = find(rendered["gpu"], "ServiceMonitor", "alphaloop")
        assert "jobLabel" not in monitor["spec"]
        (service,) = [
            one
            for one in of_kind(rendered["gpu"], "Service")
            if matches(monitor["spec"]["selector"], one["metadata"]["labels"])
        ]
        jobs = set(re.findall(r'job="(\w+)"', (ROOT / "infra" / "prometheus" / "rules.yml").read_text()))
        assert jobs == {service["metadata"]["name"]}

    def test_the_service_gets_the_config_that_is_submitted(self, rendered, tmp_path):
        (tmp_path / "config.yaml").write_text(
            find(rendered["gpu"], "ConfigMap", "alphaloop-config")["data"]["config.yaml"]
        )
        assert load_config(tmp_path / "config.yaml") == load_config(CONFIG)

    def test_tasks_and_services_are_told_the_same_stores(self, rendered):
        stores = find(rendered["one-node-cpu"], "ConfigMap", "alphaloop-stores")["data"]
        environment = load_config(CONFIG).cluster.environment
        assert environment.items() <= stores.items()
        serving = find(rendered["one-node-cpu"], "Deployment", "alphaloop")["spec"]["template"]["spec"][
            "containers"
        ][0]
        told = {
            one["name"]: one["valueFrom"]["secretKeyRef"]
            for one in serving["env"]
            if one["name"] != "ALPHALOOP_API_KEY"
        }
        secrets = load_config(CONFIG).cluster.secrets
        assert told == {name: {"name": one.secret, "key": one.key} for name, one in secrets.items()}

    def test_addresses_name_services_that_are_there(self, rendered):
        manifests = rendered["one-node-cpu"]
        services = {
            (one["metadata"]["name"], port["port"])
            for one in of_kind(manifests, "Service")
            for port in one["spec"]["ports"]
        }
        texts = [
            CONFIG.read_text(),
            *find(manifests, "ConfigMap", "alphaloop-stores")["data"].values(),
            *(path.read_text() for path in (ROOT / "infra/kubernetes/secrets").glob("*/*.env.example")),
            (ROOT / "infra/kubernetes/kubeflow/patches/artifacts.yaml").read_text(),
        ]
        named = {
            (name, int(port))
            for text in texts
            for name, port in re.findall(r"\b([a-z0-9]+)\.alphaloop(?:\.svc[a-z.]*)?:(\d+)", text)
        }
        assert named == services - {("alphaloop", 3000)}


class TestServing:
    def test_it_has_time_to_end(self, rendered):
        """The grace covers what `alphaloop serve` may take after SIGTERM at its defaults."""
        defaults = ServingSettings()
        needed = defaults.drain_seconds + defaults.request_timeout_ms / 1000 + 1 + sum(_STOP_S.values())
        pod = find(rendered["gpu"], "Deployment", "alphaloop")["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] > needed

    def test_it_is_asked_often_enough_to_leave_before_it_ends(self, rendered):
        container = find(rendered["gpu"], "Deployment", "alphaloop")["spec"]["template"]["spec"][
            "containers"
        ][0]
        probe = container["readinessProbe"]
        noticed = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
        assert noticed < ServingSettings().drain_seconds

    def test_the_scaler_alone_says_how_many(self, rendered):
        for overlay in OVERLAYS:
            assert "replicas" not in find(rendered[overlay], "Deployment", "alphaloop")["spec"]

    def test_one_node_has_one(self, rendered):
        assert (
            find(rendered["one-node-cpu"], "HorizontalPodAutoscaler", "alphaloop")["spec"]["minReplicas"] == 1
        )


class TestMultiUser:
    def test_the_profile_makes_the_namespace(self, rendered):
        assert of_kind(rendered["multi-user"], "Namespace") == []
        assert find(rendered["multi-user"], "Profile", "alphaloop")

    def test_only_the_service_has_a_sidecar(self, rendered):
        inject = {
            work["metadata"]["name"]: template["metadata"]["labels"].get("sidecar.istio.io/inject")
            for work, template in pods(rendered["multi-user"])
        }
        assert inject == {"alphaloop": "true", "mlflow": "false", "redis": "false"}

    def test_the_gateway_leads_to_the_service(self, rendered):
        route = find(rendered["multi-user"], "VirtualService", "alphaloop")["spec"]["http"][0]["route"][0][
            "destination"
        ]
        service = find(rendered["multi-user"], "Service", "alphaloop")
        place = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
        assert (route["host"], route["port"]["number"]) == (place, service["spec"]["ports"][0]["port"])
        policy = find(rendered["multi-user"], "AuthorizationPolicy", "alphaloop")["spec"]
        labels = find(rendered["multi-user"], "Deployment", "alphaloop")["spec"]["template"]["metadata"][
            "labels"
        ]
        assert matches(policy["selector"], labels)


class TestYaml:
    """Nothing that a reader of YAML 1.1 and one of YAML 1.2 read differently."""

    FILES = sorted(
        path
        for path in (ROOT / "infra").rglob("*")
        if path.suffix in (".yaml", ".yml")
        and "wheels" not in path.parts
        # Alphaloop's own configs, which its own reader reads.
        and path.name != "config.yaml"
    )

    @pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "infra")))
    def test_no_plain_word_or_number_is_ambiguous(self, path):
        assert ambiguous(path.read_text()) == []

    @pytest.mark.parametrize("text", ["on", "No", "y", "OFF", "12:30:00", "0777", "1_000", "2026-11-30", "~"])
    def test_a_planted_one_is_found(self, text):
        assert ambiguous(f"a:\n  - {text}\n") == [text]
        assert ambiguous(f"{text}: 1\n") == [text]
        assert ambiguous(f'a: "{text}"\n') == []


AMBIGUOUS = re.compile(
    r"(?i:y|n|yes|no|on|off)|~|[-+]?0[0-7_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[-+]?[0-9]+_[0-9_]*"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}.*"
)


def ambiguous(text: str) -> list[str]:
    """Plain scalars that YAML 1.1 takes for a boolean, a number, a time or nothing, and YAML 1.2 for text."""
    tokens = (token for token in yaml.scan(text) if isinstance(token, yaml.ScalarToken))
    return [token.value for token in tokens if token.plain and AMBIGUOUS.fullmatch(token.value)]


def test_every_overlay_is_tested():
    assert {path.name for path in (Path(BASE).parent / "overlays").iterdir()} == set(OVERLAYS)
