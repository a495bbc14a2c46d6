"""Renders the manifests with secrets drawn for the test, and asks them who names what and what there is."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.infra.observed import ROOT

OVERLAYS = ("one-node-cpu", "gpu", "multi-user")
# Where each overlay has the pods of pipelines run.
RUNS_IN = {"one-node-cpu": "kubeflow", "gpu": "kubeflow", "multi-user": "alphaloop"}
KUBECTL = Path(sys.executable).with_name("kubectl")

Manifest = dict[str, Any]


@dataclass(frozen=True, order=True)
class Named:
    """Something that another object names: its kind, namespace, name and, of secret or config map, a key."""

    kind: str
    namespace: str
    name: str
    key: str = ""


def kustomize(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)


def copy_with_secrets(target: Path) -> Path:
    """A copy of the manifests with fresh secrets; returns its `kubernetes` folder."""
    leave_out = shutil.ignore_patterns("wheels", "*.env.new")
    shutil.copytree(ROOT / "infra", target, ignore=leave_out)
    folder = target / "kubernetes"
    for own in folder.glob("secrets/*/*.env"):
        own.unlink()
    subprocess.run([target / "draw_secrets", folder / "secrets"], check=True, capture_output=True)
    return folder


def render(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder; an error of its is an assertion with its words."""
    done = kustomize(folder)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [one for one in manifests if one["kind"] in kinds]


def find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The only object of that kind whose name is `name`, a hash behind it apart."""
    (found,) = [
        one
        for one in of_kind(manifests, kind)
        if re.fullmatch(rf"{re.escape(name)}(-[a-z0-9]{{10}})?", one["metadata"]["name"])
    ]
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Each workload with the template of its pods."""
    for one in of_kind(manifests, "Deployment", "StatefulSet", "Job", "DaemonSet"):
        yield one, one["spec"]["template"]


def containers(template: Manifest) -> list[Manifest]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def existing(manifests: list[Manifest]) -> set[Named]:
    """All that can be named, with each key of secrets and config maps."""
    found = set()
    for one in manifests:
        place = (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
        found.add(Named(*place))
        found |= {Named(*place, key) for key in (one.get("data") or {})}
    return found


def named_by_pods(manifests: list[Manifest]) -> set[Named]:
    """Service accounts, claims, secrets and config maps that the workloads name."""
    found = set()
    for workload, template in pods(manifests):
        namespace, spec = workload["metadata"]["namespace"], template["spec"]
        found.add(Named("ServiceAccount", namespace, spec["serviceAccountName"]))
        for volume in spec.get("volumes", []):
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                found.add(Named("PersistentVolumeClaim", namespace, claim))
            if "secret" in volume:
                found.add(Named("Secret", namespace, volume["secret"]["secretName"]))
            if "configMap" in volume:
                found.add(Named("ConfigMap", namespace, volume["configMap"]["name"]))
        for container in containers(template):
            for source in container.get("envFrom", []):
                for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                    if field in source:
                        found.add(Named(kind, namespace, source[field]["name"]))
            for variable in container.get("env", []):
                for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                    if field in variable.get("valueFrom", {}):
                        ref = variable["valueFrom"][field]
                        found.add(Named(kind, namespace, ref["name"], ref["key"]))
    return found


def named_by_ir(documents: list[dict[str, Any]], namespace: str) -> set[Named]:
    """Claims, secrets and config maps that a compiled pipeline names for its tasks."""
    found = set()
    for document in documents[1:]:
        executors = document["platforms"]["kubernetes"].get("deploymentSpec", {}).get("executors", {})
        for settings in executors.values():
            found |= {Named("PersistentVolumeClaim", namespace, name) for name in _claims(settings)}
            for field, kind in (("secretAs", "Secret"), ("configMapAs", "ConfigMap")):
                for mount in (*settings.get(f"{field}Env", []), *settings.get(f"{field}Volume", [])):
                    name = mount.get("secretName") or mount["configMapName"]
                    keys = [
                        each.get("secretKey") or each["configMapKey"] for each in mount.get("keyToEnv", [])
                    ]
                    found |= {Named(kind, namespace, name, key) for key in keys or [""]}
            for secret in settings.get("imagePullSecret", []):
                found.add(Named("Secret", namespace, secret["secretName"]))
    return found


def _claims(settings: dict[str, Any]) -> set[str]:
    mounts = settings.get("pvcMount", [])
    return {
        mount.get("constant") or mount["pvcNameParameter"]["runtimeValue"]["constant"] for mount in mounts
    }


def insecure(template: Manifest) -> list[str]:
    """Where a pod takes more than Kubernetes' restricted profile allows, or a root that can be written."""
    spec, faults = template["spec"], []
    pod = spec.get("securityContext", {})
    if not pod.get("runAsNonRoot"):
        faults.append("may run as root")
    if not isinstance(pod.get("runAsUser"), int) or not pod["runAsUser"]:
        faults.append("its user is no number")
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        faults.append("no seccomp profile")
    if spec.get("automountServiceAccountToken") is not False:
        faults.append("holds a token of the API")
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            faults.append(field)
    faults += ["hostPath" for volume in spec.get("volumes", []) if "hostPath" in volume]
    for container in containers(template):
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            faults.append(f"{container['name']} may gain privileges")
        if not own.get("readOnlyRootFilesystem"):
            faults.append(f"{container['name']} writes to its root")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            faults.append(f"{container['name']} keeps capabilities")
        if not {"cpu", "memory"} <= set(container.get("resources", {}).get("requests", {})):
            faults.append(f"{container['name']} requests no resources")
        if "memory" not in container.get("resources", {}).get("limits", {}):
            faults.append(f"{container['name']} has no limit of memory")
    return faults
