"""The manifests of Ray as kustomize renders them. kubernetes-validate has no schema of KubeRay's resource:
its pods are held against Kubernetes' own, its other fields against those that KubeRay 1.7 documents.
"""

import copy
import re

import kubernetes_validate
import pytest

from components.image import IMAGE
from components.spread.choice import ADDRESS_VARIABLE, ENGINE_VARIABLE
from pipelines.config import load_config
from tests.infra.manifests import containers, find, insecure, kustomize, of_kind, render
from tests.infra.observed import ROOT

FOLDER = ROOT / "infra" / "kubernetes" / "ray"
# https://ray-project.github.io/kuberay/reference/api: what we may write, by place.
FIELDS = {
    "spec": {
        *("authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions"),
        *("headGroupSpec", "headServiceAnnotations", "managedBy", "networkPolicy", "rayVersion", "suspend"),
        *("tlsOptions", "upgradeStrategy", "workerGroupSpecs"),
    },
    "authOptions": {"mode", "secretName", "enableK8sTokenAuth"},
    "head": {
        *("template", "headService", "rayStartParams", "serviceType", "enableIngress", "resources", "labels"),
    },
    "worker": {
        *("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"),
        *("numOfHosts", "scaleStrategy", "suspend", "idleTimeoutSeconds", "resources", "labels", "priority"),
    },
}


@pytest.fixture(scope="module")
def rendered():
    return render(FOLDER)


@pytest.fixture
def cluster(rendered):
    return copy.deepcopy(find(rendered, "RayCluster", "alphaloop-ray"))


def faults(cluster: dict) -> list[str]:
    """Where a RayCluster departs from what KubeRay and Kubernetes know."""
    spec, workers = cluster["spec"], cluster["spec"]["workerGroupSpecs"]
    places = [
        (spec, FIELDS["spec"]),
        (spec["authOptions"], FIELDS["authOptions"]),
        (spec["headGroupSpec"], FIELDS["head"]),
        *((one, FIELDS["worker"]) for one in workers),
    ]
    found = [f"{name} is unknown" for given, known in places for name in sorted(given.keys() - known)]
    # `ray start` is given these as text.
    groups = (spec["headGroupSpec"], *workers)
    found += [
        f"{name} is no text"
        for group in groups
        for name, value in group["rayStartParams"].items()
        if not isinstance(value, str)
    ]
    for one in workers:
        if not one["minReplicas"] <= one["replicas"] <= one["maxReplicas"]:
            found.append(f"{one['groupName']} has a number of nodes beyond its bounds")
    for template in templates(cluster):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "ray"}, "template": template}
        try:
            kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(error.message)
    return found


def templates(cluster: dict) -> list[dict]:
    spec = cluster["spec"]
    return [spec["headGroupSpec"]["template"], *(one["template"] for one in spec["workerGroupSpecs"])]


def test_it_is_what_the_schemas_say(rendered, cluster):
    assert faults(cluster) == []
    for one in rendered:
        if one["kind"] != "RayCluster":
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    "plant",
    [
        lambda spec: spec.update(raysVersion="2.60.0"),
        lambda spec: spec["authOptions"].update(token="x"),
        lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda spec: spec["workerGroupSpecs"][0].update(replica=2),
        lambda spec: spec["workerGroupSpecs"][0].update(replicas=3),
        lambda spec: spec["headGroupSpec"]["template"]["spec"]["containers"][0].update(images="x"),
        lambda spec: spec["workerGroupSpecs"][0]["template"]["spec"].update(volumes={}),
    ],
)
def test_a_departure_is_seen(cluster, plant):
    plant(cluster["spec"])
    assert faults(cluster)


def test_all_pods_are_hardened_and_of_one_image_and_one_volume(rendered, cluster):
    job = find(rendered, "Job", "alphaloop-ray-run")["spec"]["template"]
    for template in (*templates(cluster), job):
        assert insecure(template) == []
        (container,) = containers(template)
        assert container["image"] == IMAGE
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        claims = {
            one["name"]: one["persistentVolumeClaim"]["claimName"]
            for one in template["spec"]["volumes"]
            if "persistentVolumeClaim" in one
        }
        assert {claim: mounts[name] for name, claim in claims.items()} == {"alphaloop": "/mnt/alphaloop"}


def test_an_overlay_sets_one_digest_everywhere(tmp_path):
    lines = [
        "resources: [base]",
        "images:",
        f"  - {{name: alphaloop-python, newName: r.example/a, digest: 'sha256:{'0' * 64}'}}",
    ]
    (tmp_path / "base").symlink_to(FOLDER)
    (tmp_path / "kustomization.yaml").write_text("\n".join(lines))
    done = kustomize(tmp_path)
    assert done.returncode == 0, done.stderr
    images = re.findall(r"image: (\S+)", done.stdout)
    assert images == [f"r.example/a@sha256:{'0' * 64}"] * 3


def test_the_job_asks_the_cluster_that_is_there(rendered, cluster):
    (container,) = containers(find(rendered, "Job", "alphaloop-ray-run")["spec"]["template"])
    given = [text for text in container["args"] if "=" in text]
    config = load_config(ROOT / "pipelines" / "configs" / "demo.yaml", given)
    name = cluster["metadata"]["name"]
    assert config.compute.environment[ENGINE_VARIABLE] == "ray"
    assert config.compute.environment[ADDRESS_VARIABLE] == f"ray://{name}-head-svc:10001"
    assert config.run.folder.startswith("/mnt/alphaloop/")
    token = next(one for one in container["env"] if one["name"] == "RAY_AUTH_TOKEN")
    assert token["valueFrom"]["secretKeyRef"] == {"name": name, "key": "auth_token"}, "as KubeRay draws it"
    head = containers(cluster["spec"]["headGroupSpec"]["template"])[0]
    assert {one["name"]: one["containerPort"] for one in head["ports"]}["client"] == 10001


def test_only_ray_and_the_job_reach_it(rendered, cluster):
    (policy,) = of_kind(rendered, "NetworkPolicy")
    labels = [one["metadata"]["labels"] for one in templates(cluster)]
    wanted = policy["spec"]["podSelector"]["matchLabels"]
    assert all(wanted.items() <= found.items() for found in labels)
    asked = [one["from"][0]["podSelector"]["matchLabels"] for one in policy["spec"]["ingress"]]
    job = find(rendered, "Job", "alphaloop-ray-run")["spec"]["template"]["metadata"]["labels"]
    assert [{**labels[0]}.items() >= asked[0].items(), job.items() >= asked[1].items()] == [True, True]


def test_its_version_is_the_locked_one(cluster):
    locked = re.search(r"^ray==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert cluster["spec"]["rayVersion"] == locked[1]
