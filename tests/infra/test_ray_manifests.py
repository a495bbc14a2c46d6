"""The manifests of Ray as kustomize renders them. kubernetes-validate has no schema of KubeRay's resources:
their pods are held against Kubernetes' own, their other fields against those that KubeRay 1.7 documents.
"""

import copy
import json
import re

import kubernetes_validate
import pytest
import yaml

from components.image import IMAGE
from components.spread.choice import ADDRESS_VARIABLE, ENGINE_VARIABLE
from pipelines.config import load_config
from tests.infra.manifests import containers, find, insecure, kustomize, of_kind, render
from tests.infra.observed import ROOT

FOLDER = ROOT / "infra" / "kubernetes" / "ray"
OF_A_RUN = ROOT / "infra" / "kubernetes" / "ray-job"
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
    "job": {
        *("activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint"),
        *("entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata"),
        *("preRunningDeadlineSeconds", "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes"),
        *("submissionMode", "submitterConfig", "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished"),
    },
}


@pytest.fixture(scope="module")
def rendered():
    return render(FOLDER)


@pytest.fixture
def cluster(rendered):
    return copy.deepcopy(find(rendered, "RayCluster", "alphaloop-ray"))


@pytest.fixture(scope="module")
def rendered_job():
    return render(OF_A_RUN)


@pytest.fixture
def job(rendered_job):
    return copy.deepcopy(find(rendered_job, "RayJob", "alphaloop-ray-job"))


def faults(spec: dict) -> list[str]:
    """Where the spec of a RayCluster departs from what KubeRay and Kubernetes know."""
    workers = spec["workerGroupSpecs"]
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
    return [*found, *(fault for template in templates(spec) for fault in faults_of_pod(template))]


def faults_of_job(job: dict) -> list[str]:
    """The same of a RayJob."""
    spec = job["spec"]
    unknown = [f"{name} is unknown" for name in sorted(spec.keys() - FIELDS["job"])]
    return [*unknown, *faults(spec["rayClusterSpec"]), *faults_of_pod(spec["submitterPodTemplate"])]


def faults_of_pod(template: dict) -> list[str]:
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "ray"}, "template": template}
    try:
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return [error.message]
    return []


def templates(spec: dict) -> list[dict]:
    return [spec["headGroupSpec"]["template"], *(one["template"] for one in spec["workerGroupSpecs"])]


def test_it_is_what_the_schemas_say(rendered, cluster, rendered_job, job):
    assert faults(cluster["spec"]) == []
    assert faults_of_job(job) == []
    for one in (*rendered, *rendered_job):
        if one["kind"] not in ("RayCluster", "RayJob"):
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
    assert faults(cluster["spec"])


@pytest.mark.parametrize(
    "plant",
    [
        lambda spec: spec.update(entryPoint="alphaloop run"),
        lambda spec: spec["rayClusterSpec"]["workerGroupSpecs"][0].update(replica=2),
        lambda spec: spec["submitterPodTemplate"]["spec"].update(volumes={}),
    ],
)
def test_a_departure_of_the_job_is_seen(job, plant):
    plant(job["spec"])
    assert faults_of_job(job)


def test_the_job_brings_the_same_cluster_with_a_head_that_has_room_for_the_run(cluster, job):
    standing, own = cluster["spec"], job["spec"]["rayClusterSpec"]
    heads = [containers(one["headGroupSpec"]["template"])[0] for one in (standing, own)]
    assert heads[0]["resources"] != heads[1]["resources"]
    for head in heads:
        del head["resources"], head["ports"]
    assert standing == own


def test_the_job_runs_on_the_cluster_that_it_brings(rendered_job, job):
    given = [text for text in job["spec"]["entrypoint"].split() if "=" in text]
    config = load_config(ROOT / "pipelines" / "configs" / "demo.yaml", given)
    assert config.compute.environment[ENGINE_VARIABLE] == "ray"
    assert config.compute.environment[ADDRESS_VARIABLE] == "auto"
    assert config.run.folder.startswith("/mnt/alphaloop/")
    (policy,) = of_kind(rendered_job, "NetworkPolicy")
    wanted = policy["spec"]["podSelector"]["matchLabels"]
    every = [*templates(job["spec"]["rayClusterSpec"]), job["spec"]["submitterPodTemplate"]]
    assert all(wanted.items() <= one["metadata"]["labels"].items() for one in every)


def test_all_pods_are_hardened_and_of_one_image_and_one_volume(rendered, cluster, job):
    submitter = job["spec"]["submitterPodTemplate"]
    assert insecure(submitter) == []
    assert [one["image"] for one in containers(submitter)] == [IMAGE]
    run = find(rendered, "Job", "alphaloop-ray-run")["spec"]["template"]
    for template in (*templates(cluster["spec"]), *templates(job["spec"]["rayClusterSpec"]), run):
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


@pytest.mark.parametrize("folder", [FOLDER, OF_A_RUN], ids=["standing", "of a run"])
def test_an_overlay_sets_one_digest_everywhere(tmp_path, folder):
    lines = [
        "resources: [base]",
        "images:",
        f"  - {{name: alphaloop-python, newName: r.example/a, digest: 'sha256:{'0' * 64}'}}",
    ]
    (tmp_path / "base").symlink_to(folder)
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
    labels = [one["metadata"]["labels"] for one in templates(cluster["spec"])]
    wanted = policy["spec"]["podSelector"]["matchLabels"]
    assert all(wanted.items() <= found.items() for found in labels)
    asked = [one["from"][0]["podSelector"]["matchLabels"] for one in policy["spec"]["ingress"]]
    job = find(rendered, "Job", "alphaloop-ray-run")["spec"]["template"]["metadata"]["labels"]
    assert [{**labels[0]}.items() >= asked[0].items(), job.items() >= asked[1].items()] == [True, True]


def test_tasks_of_kubeflow_reach_it_as_elsewhere_and_with_its_token(rendered, cluster):
    """As docs/cluster.md has them do."""
    (policy,) = of_kind(rendered, "NetworkPolicy")
    task = {"podSelector": {"matchLabels": {"pipelines.kubeflow.org/v2_component": "true"}}}
    (rule,) = [one for one in policy["spec"]["ingress"] if task in one["from"]]
    assert rule["ports"] == [{"port": 10001}]
    shown = (ROOT / "docs" / "cluster.md").read_text().partition("compute: ")[2].partition("```")[0]
    asked = yaml.safe_load(f"compute: {shown}")
    given = [f"{part}.{name}={json.dumps(to)}" for part in asked for name, to in asked[part].items()]
    config = load_config(ROOT / "pipelines" / "configs" / "cluster.yaml", given)
    assert config.compute.environment[ADDRESS_VARIABLE].startswith("ray://alphaloop-ray-head-svc.")
    token = config.cluster.secrets["RAY_AUTH_TOKEN"]
    assert (token.secret, token.key) == (cluster["metadata"]["name"], "auth_token")
    assert (config.cluster.volume_claim, config.cluster.mount_path) == ("alphaloop", "/mnt/alphaloop")


def test_its_version_is_the_locked_one(cluster):
    locked = re.search(r"^ray==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert cluster["spec"]["rayVersion"] == locked[1]
