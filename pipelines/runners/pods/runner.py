"""What takes the place of `kfp.local`'s subprocesses: each task in a pod, with artifacts by content only,
and an account of what was lost with it.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

from components.contracts import require_json
from components.memory.deaths import how_it_ended, kernel_kills
from components.memory.lowered import what_to_lower
from components.memory.share import SHARE_VARIABLE, memory_share
from components.progress import EVENTS_VARIABLE, is_event
from components.spread.choice import ENGINE_VARIABLES
from pipelines.runners.local_task import Output
from pipelines.runners.pods.content import ArtifactError, copy_content, is_content, take_content
from pipelines.runners.pods.declared import Declared, PodError
from pipelines.runners.pods.machine import mount
from pipelines.runners.pods.pod import EVENTS, WORKING_FOLDER, Ended, Pod
from pipelines.runners.pods.volumes import Volumes

# The address under which tasks see the artifacts, and where Kubeflow's launcher lays what has one such.
BUCKET = "s3://alphaloop-pods"
BUCKET_FOLDER = "/s3/alphaloop-pods"
OUTPUTS_FOLDER = "/tmp/kfp/outputs"
OUTPUT_FILE = "/tmp/kfp_outputs/output_metadata.json"
INPUT_OPTION = "--executor_input"


@dataclass(frozen=True)
class Pods:
    """The pods of one run.

    `root`: folder of the artifacts here; `scratch`: an empty folder for pods that run; `declared`: what the
    IR gives each task; `secrets`: values of environment variables that come out of secrets; `on_event` is
    handed each event line; `run`: a name of this run that no other has.
    """

    root: Path
    scratch: Path
    declared: Mapping[str, Declared]
    volumes: Volumes
    secrets: Mapping[str, str]
    on_event: Callable[[dict[str, Any]], None]
    run: str = field(default_factory=lambda: uuid4().hex)

    def run_task(self, full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
        """Run one task in a pod; returns its exit code. It replaces kfp's `run_local_subprocess`."""
        at = full_command.index(INPUT_OPTION) + 1
        asked = json.loads(full_command[at])
        folder = Path(asked["outputs"]["outputFile"]).parent
        given = self.declared[folder.name]
        self.scratch.mkdir(parents=True, exist_ok=True)
        # A name that no other has: of an earlier run folders may be left that could not be removed.
        place = Path(mkdtemp(prefix=f"{folder.name}-", dir=self.scratch))
        try:
            pod = self._pod(place, folder.name, given, env_vars or {})
            out = self._add_artifacts(pod, asked, folder)
            command = [*full_command[:at], json.dumps(self._told(asked, given)), *full_command[at + 1 :]]
            heard, output, kills = [], Output(), kernel_kills()
            ended = pod.run(
                command,
                limit=given.memory_bytes,
                on_output=lambda line: output.take(f"{line}\n"),
                on_event=lambda line: heard.append(self._pass_on(line)),
            )
            if ended.code == 0:
                self._keep_outputs(asked, folder, out, pod)
            pod.scratch[self._seen(str(folder), BUCKET_FOLDER)] = out  # what is left there is lost as well
            self._account(given, ended, pod)
            if ended.code and ended.killed_at is None and "failed" not in heard:
                kills = kernel_kills() - kills
                said = how_it_ended(given.title, ended.code, output.end, peak=None, kernel_kills=kills)
                self._fail(given, said)
            return ended.code
        except (PodError, ArtifactError) as error:
            self._fail(given, str(error))
            return 1
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _pod(self, place: Path, name: str, given: Declared, declared: Mapping[str, str]) -> Pod:
        names = {*given.secrets, *given.optional_secrets} & self.secrets.keys()
        environment = {
            **declared,
            **{name: self.secrets[name] for name in names},
            **dict.fromkeys(given.run_names, self.run),
            EVENTS_VARIABLE: EVENTS,
            SHARE_VARIABLE: str(memory_share()),
            **{name: os.environ[name] for name in ENGINE_VARIABLES if name in os.environ},
        }
        hidden = (self.volumes.run_folder,)
        pod = Pod(place, name, environment, accelerator=given.accelerator, hidden=hidden)
        for target in ("/tmp", WORKING_FOLDER):
            pod.add_scratch(target)
        for empty in given.empty_folders:
            if empty.in_memory:
                pod.add_memory(empty.mount_path, empty.size or given.memory_bytes or 0)
            else:
                pod.add_scratch(empty.mount_path)
        pod.mounts.extend(self.volumes.mounts(given.claims))
        return pod

    def _add_artifacts(self, pod: Pod, asked: Mapping, folder: Path) -> Path:
        """Let the pod see its inputs, read-only, and have a place for its outputs; returns where that lies
        here.
        """
        tmp = pod.scratch["/tmp"]
        for inside in (OUTPUTS_FOLDER, str(Path(OUTPUT_FILE).parent)):
            (tmp / Path(inside).relative_to("/tmp")).mkdir(parents=True)
        inputs = _artifacts(asked["inputs"])
        for number, artifact in enumerate(inputs):
            source = Path(artifact["uri"])
            if not source.exists():
                continue  # an output that its task left out is nowhere in S3 either
            if not is_content(source):
                staged = pod.place / f"input_{number}"
                copy_content(source, staged)
                source = staged
            if source.exists():
                pod.mounts.append(mount(source, self._seen(artifact["uri"], BUCKET_FOLDER)))
        out = pod.place / "out"
        out.mkdir()
        pod.mounts.append(mount(out, self._seen(str(folder), BUCKET_FOLDER), writable=True))
        return out

    def _told(self, asked: Mapping, given: Declared) -> dict[str, Any]:
        """kfp's input of the task as a cluster's launcher would write it: addresses of a bucket, files of
        outputs in /tmp, and for a closing task a state as Kubeflow's backend has it.
        """
        told = json.loads(json.dumps(asked))
        for artifact in [*_artifacts(told["inputs"]), *_artifacts(told["outputs"])]:
            artifact["uri"] = self._seen(artifact["uri"], BUCKET)
        told["outputs"]["outputFile"] = OUTPUT_FILE
        for name, parameter in told["outputs"].get("parameters", {}).items():
            parameter["outputFile"] = f"{OUTPUTS_FOLDER}/{name}"
        values = told["inputs"].get("parameterValues", {})
        if given.status in values:
            values[given.status] = _as_on_a_cluster(values[given.status])
        return told

    def _keep_outputs(self, asked: Mapping, folder: Path, out: Path, pod: Pod) -> None:
        """Move what the task declared out of the pod, by content; of a task that failed Kubeflow keeps
        nothing.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for artifact in _artifacts(asked["outputs"]):
            target = Path(artifact["uri"])
            made = out / target.relative_to(folder)
            if made.exists() or made.is_symlink():
                take_content(made, target)
                shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
        tmp = pod.scratch["/tmp"]
        for name, parameter in asked["outputs"].get("parameters", {}).items():
            written = tmp / Path(OUTPUTS_FOLDER).relative_to("/tmp") / name
            if _is_of_the_pod(written, tmp):
                shutil.copyfile(written, parameter["outputFile"])
        said = tmp / Path(OUTPUT_FILE).relative_to("/tmp")
        if _is_of_the_pod(said, tmp):
            document = require_json(said)
            for artifact in _artifacts(document):
                artifact["uri"] = artifact["uri"].replace(BUCKET, str(self.root), 1)
            Path(asked["outputs"]["outputFile"]).write_text(json.dumps(document), encoding="utf-8")

    def _account(self, given: Declared, ended: Ended, pod: Pod) -> None:
        """Say what was lost with the pod, and why it was killed where its memory was too much."""
        lost = [{"path": one.path, "bytes": one.bytes} for one in pod.lost()]
        if lost:
            self._say({"event": "lost", "stage": given.title, "files": lost})
        if ended.killed_at is not None:
            self._fail(
                given,
                f"{given.title} was killed: it held {ended.killed_at / 1e6:,.0f} MB of memory, its limit is"
                f" {given.memory_limit}. On a cluster it would be killed as well."
                f" {what_to_lower(given.title)}",
            )

    def _fail(self, given: Declared, message: str) -> None:
        self._say(
            {"event": "failed", "stage": given.title, "message": message, "mendable": True, "seconds": 0.0}
        )

    def _say(self, event: dict[str, Any]) -> None:
        self.on_event({"time": time.time(), **event})

    def _pass_on(self, line: str) -> str:
        """Hand on an event and return its kind; whatever else a task writes to the pipe is a line of its
        log.
        """
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if is_event(event):
            self.on_event(event)
            return event["event"]
        print(line)
        return ""

    def _seen(self, path: str, base: str) -> str:
        """What a task sees in place of a path below the root of the artifacts."""
        return f"{base}/{Path(path).relative_to(self.root).as_posix()}"


def _artifacts(holder: Mapping) -> list[dict[str, Any]]:
    return [one for listed in holder.get("artifacts", {}).values() for one in listed["artifacts"]]


def _is_of_the_pod(path: Path, scratch: Path) -> bool:
    """Whether a file lies in a scratch folder of the pod, and not where a link would lead on this machine."""
    return path.is_file() and path.resolve().is_relative_to(scratch.resolve())


def _as_on_a_cluster(status: Mapping) -> dict[str, Any]:
    """The final status that Kubeflow's backend gives: it knows other states than kfp.local, and no error
    text.
    """
    state = "COMPLETE" if status.get("state") == "SUCCEEDED" else status.get("state", "")
    return {**status, "state": state, "error": {"code": 0, "message": ""}}
