"""What we change in Kubeflow Pipelines 2.17, applied to a small stand-in for its objects.

Upstream's own manifests are fetched by kustomize when it renders, and no network is at hand here.
"""

import copy
import shutil

import pytest
import yaml

from pipelines.config import load_config
from tests.infra.manifests import copy_with_secrets, find, kustomize, render
from tests.infra.observed import ROOT
from tests.infra.write_generated import CONFIG

KUBEFLOW = ROOT / "infra" / "kubernetes" / "kubeflow"
STAND_IN = ROOT / "tests" / "infra" / "upstream_2_17.yaml"
# What Kubeflow's compiler writes for a task with set_retry: the number and the pauses, no policy.
OF_A_TASK = {"limit": "{{inputs.parameters.retry-max-count}}", "backoff": {"duration": "30"}}
FAILED, POD_DELETED, EVICTED, GROUP = (
    {"status": "Failed", "exitCode": "1", "message": "main: Error (exit code 1)"},
    {"status": "Error", "exitCode": "-1", "message": "pod deleted"},
    {"status": "Failed", "exitCode": "-1", "message": "The node was low on resource: memory."},
    {"status": "Failed", "exitCode": "-1", "message": ""},
)


def build(folder, upstream: str):
    """The standalone install with `upstream` in the place of the remote resource."""
    shutil.copytree(KUBEFLOW, folder)
    text = (folder / "standalone" / "kustomization.yaml").read_text()
    document = yaml.safe_load(text)
    document["resources"] = ["upstream.yaml"]
    (folder / "standalone" / "kustomization.yaml").write_text(yaml.safe_dump(document))
    (folder / "standalone" / "upstream.yaml").write_text(upstream)
    return folder / "standalone"


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    return render(build(tmp_path_factory.mktemp("kubeflow") / "kubeflow", STAND_IN.read_text()))


def is_retried(strategy: dict, last: dict) -> bool:
    """Argo's decision after a try, its limit apart.

    Of expressions it reads the kind that we use: inequalities joined by `or`.
    """
    policies = {"Always": ("Failed", "Error"), "OnError": ("Error",), "OnFailure": ("Failed",)}
    if last["status"] not in policies[strategy.get("retryPolicy", "OnFailure")]:
        return False
    expression = strategy.get("expression")
    if not expression:
        return True
    parts = [part.split(" != ") for part in expression.split(" || ")]
    return any(last[name.removeprefix("lastRetry.")] != value.strip('"') for name, value in parts)


def strategy_of(manifests: list[dict], own: dict) -> dict:
    """A template's retryStrategy with the defaults below it, as Argo merges them."""
    defaults = yaml.safe_load(
        find(manifests, "ConfigMap", "workflow-controller-configmap")["data"]["workflowDefaults"]
    )
    return {**defaults["spec"]["templateDefaults"]["retryStrategy"], **own}


class TestRetries:
    @pytest.mark.parametrize("last", [FAILED, POD_DELETED, EVICTED])
    def test_a_task_is_tried_again_after_failure_deletion_and_eviction(self, patched, last):
        assert is_retried(strategy_of(patched, OF_A_TASK), last)

    def test_a_task_keeps_its_own_number_of_tries(self, patched):
        assert strategy_of(patched, OF_A_TASK)["limit"] == OF_A_TASK["limit"]

    def test_a_group_of_tasks_is_not_run_again_as_a_whole(self, patched):
        assert not is_retried(strategy_of(patched, {}), GROUP)

    def test_upstream_alone_tries_no_failed_task_again(self):
        upstream = list(yaml.safe_load_all(STAND_IN.read_text()))
        assert not is_retried(strategy_of(upstream, OF_A_TASK), FAILED)
        assert is_retried(strategy_of(upstream, OF_A_TASK), POD_DELETED)


class TestArtifacts:
    def test_the_launcher_is_told_store_and_secret(self, patched, tmp_path):
        launcher = find(patched, "ConfigMap", "kfp-launcher")["data"]
        store = yaml.safe_load(launcher["providers"])["s3"]["default"]
        environment = load_config(CONFIG).cluster.environment
        assert environment["AWS_ENDPOINT_URL"] == f"http://{store['endpoint']}"
        assert store["disableSSL"] is store["forcePathStyle"] is True
        assert launcher["defaultPipelineRoot"].startswith("s3://alphaloop/")
        secret = store["credentials"]["secretRef"]
        folder = copy_with_secrets(tmp_path / "infra")
        there = find(render(folder / "overlays" / "one-node-cpu" / "tasks"), "Secret", secret["secretName"])
        assert {secret["accessKeyKey"], secret["secretKeyKey"]} <= set(there["data"])
        # And the account of the tasks may read it.
        role = find(render(folder / "overlays" / "gpu" / "tasks"), "Role", "alphaloop-runner")
        (rule,) = [one for one in role["rules"] if "secrets" in one["resources"]]
        assert secret["secretName"] in rule["resourceNames"]


class TestUpstream:
    def test_it_is_pinned(self):
        (resource,) = yaml.safe_load((KUBEFLOW / "standalone" / "kustomization.yaml").read_text())[
            "resources"
        ]
        assert resource.startswith("https://github.com/kubeflow/pipelines/manifests/kustomize/")
        assert "ref=2.17.0" in resource

    def test_what_the_patches_leave_alone_stays(self, patched):
        before = {one["metadata"]["name"]: one for one in yaml.safe_load_all(STAND_IN.read_text())}
        kept = find(patched, "ConfigMap", "workflow-controller-configmap")["data"]
        for key in ("artifactRepository", "executor"):
            assert kept[key] == before["workflow-controller-configmap"]["data"][key]
        assert {one["metadata"]["namespace"] for one in patched} == {"kubeflow"}

    def test_an_upstream_without_the_object_is_refused(self, tmp_path):
        (first, second) = yaml.safe_load_all(STAND_IN.read_text())
        renamed = copy.deepcopy(second)
        renamed["metadata"]["name"] = "launcher"
        done = kustomize(build(tmp_path / "kubeflow", yaml.safe_dump_all([first, renamed])))
        assert done.returncode != 0
        assert "kfp-launcher" in done.stderr
