"""The child in which a local run happens; `pipelines.runners.local_run` starts it. It clears from the cache
what must not be answered from it, builds the planned pipeline and runs it through `kfp.local`.
"""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.contracts import atomic_write_text, read_json, require_json
from components.feature_store.config import Settings as FeatureStoreSettings
from components.feature_store.online_state import holds_online
from components.processes.endings import end_group_with_parent
from components.progress import EVENTS_VARIABLE, report, stage
from pipelines.code_version import compiled_code
from pipelines.config import Config
from pipelines.leaves import users_modules
from pipelines.runners.containers import docker_runner
from pipelines.runners.local_task import LocalTasks
from pipelines.runners.warm.tasks import WarmTasks, can_fork
from pipelines.task_environment import TASK_ENVIRONMENT

# What a run folder keeps of the sources that cache keys are made of.
SOURCES = ".sources.json"


@dataclass(frozen=True)
class Plan:
    """What the child is to run, and how tasks run: subprocess, docker or pods; `options` are those of
    `pipelines.graphs.build.build_pipeline`.
    """

    pipeline: str
    runner: str
    options: Mapping[str, Any]
    config: Config

    @classmethod
    def read(cls, path: Path) -> "Plan":
        document = require_json(path)
        return cls(**{**document, "config": Config.model_validate(document["config"])})

    def write(self, path: Path) -> None:
        document = {
            "pipeline": self.pipeline,
            "runner": self.runner,
            "options": self.options,
            "config": self.config.model_dump(mode="json"),
        }
        atomic_write_text(path, json.dumps(document))


def execute(plan: Plan, folder: Path) -> None:
    """Run the plan in the run folder; leaves with exit code 1 where a task failed."""
    with _warm_tasks(plan) as warm:
        _execute(plan, folder, warm)


def _execute(plan: Plan, folder: Path, warm: WarmTasks | None) -> None:
    from kfp import local

    logging.getLogger().setLevel(logging.INFO)
    _forget_lost_publications(folder, plan.config.feature_store)
    moved = _forget_other_places(folder / "artifacts")
    local.init(
        runner=_runner(plan, folder),
        pipeline_root=str(folder / "artifacts"),
        workspace_root=os.environ["TMPDIR"],
        enable_caching=True,
        raise_on_error=True,
    )
    with stage("set-up"):
        if moved:
            elsewhere = "this folder was moved or copied since its last run"
            report("set-up", f"{elsewhere}: {moved} finished tasks run again")
        pipeline = _build(plan, folder)
    titles = _titles(pipeline)
    logging.getLogger().addHandler(_CacheHits(titles))
    if plan.runner == "subprocess":
        from pipelines.runners.side_by_side import run_side_by_side, tasks_at_a_time

        run_side_by_side(tasks_at_a_time())
    if plan.runner != "pods":
        LocalTasks(titles, Path(os.environ[EVENTS_VARIABLE]), warm).take_over()
    try:
        pipeline()
    except RuntimeError as error:
        print(error, flush=True)
        sys.exit(1)


@contextmanager
def _warm_tasks(plan: Plan) -> Iterator[WarmTasks | None]:
    """What forks tasks that are processes of this machine, where that is safe. It is started before all else,
    for it imports what every task needs while the pipeline is built.
    """
    if plan.runner != "subprocess" or not can_fork():
        yield None
        return
    with WarmTasks.start(Path(os.environ["TMPDIR"])) as warm:
        yield warm


def _build(plan: Plan, folder: Path):
    """The planned pipeline; where tasks run in pods that which a cluster would run, and kfp is told how."""
    if plan.runner == "pods":
        from pipelines.runners.pods.play import pipeline_in_pods

        scratch = Path(os.environ["TMPDIR"])
        return pipeline_in_pods(plan.pipeline, plan.config, folder, scratch=scratch, on_event=_add_event)
    from pipelines.graphs.build import build_pipeline
    from pipelines.reach import known_sources

    with known_sources(folder / SOURCES):
        return build_pipeline(plan.pipeline, plan.config, folder=str(folder), options=plan.options)


def _runner(plan: Plan, folder: Path):
    """kfp's runner of tasks: in subprocesses (`_build` lets them be pods), or in containers."""
    from kfp import local

    if plan.runner != "docker":
        return local.SubprocessRunner(use_venv=False)
    code = compiled_code(users_modules(plan.pipeline, plan.config))
    told = {**TASK_ENVIRONMENT, **plan.config.compute.environment}
    environment = {**told, EVENTS_VARIABLE: os.environ[EVENTS_VARIABLE], **code}
    return docker_runner(folder, plan.config, environment)


class _CacheHits(logging.Handler):
    """Turns kfp's log line about a cache hit into an event; `titles` maps task names to what people call
    them.
    """

    def __init__(self, titles: Mapping[str, str]) -> None:
        super().__init__()
        self.titles = titles

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if " cache hit (" in text:
            name = re.sub(r"\x1b\[\d+m|'", "", text.split()[1])
            event = {"time": time.time(), "event": "cached", "stage": self.titles.get(name, name)}
            _add_event(event)


def _add_event(event: Mapping[str, Any]) -> None:
    """Add a line to the run's events."""
    with open(os.environ[EVENTS_VARIABLE], "a", encoding="utf-8") as handle:
        handle.write(json.dumps(event) + "\n")


def _titles(pipeline) -> dict[str, str]:
    """Display name of each task of a pipeline, by the name that kfp gives it and by that of its component,
    which its folder has.
    """
    spec = pipeline.pipeline_spec
    graphs = [component.dag for component in (spec.root, *spec.components.values())]
    tasks = {name: task for graph in graphs for name, task in graph.tasks.items()}
    of_components = {task.component_ref.name.removeprefix("comp-"): task for task in tasks.values()}
    return {name: task.task_info.name for name, task in {**of_components, **tasks}.items()}


def _forget_lost_publications(folder: Path, settings: FeatureStoreSettings) -> None:
    """Remove the outputs of materialisations whose store is gone, lost its values or holds another
    publication or universe, so that the cache does not answer with them.
    """
    store = folder / "feature_store"
    current = read_json(store / "current.json")
    held = current["publication"] if current and holds_online(current, settings, store) else None
    for output in (folder / "artifacts").glob("*/materialise/registry"):
        universe = read_json(output.with_name("online_universe"))
        if require_json(output)["publication"] != held or universe != current.get("universe"):
            output.unlink()


def _forget_other_places(artifacts: Path) -> int:
    """Remove what the cache knows of artifacts outside this run folder, which was moved or copied since;
    returns how many tasks will run again.
    """
    own, gone = f"{artifacts}{os.sep}", 0
    for entry in (artifacts / ".kfp_cache").glob("*.json"):
        found = read_json(entry) or {}
        addresses = [
            output["uri"] for output in found.values() if isinstance(output, dict) and "uri" in output
        ]
        if not all(address.startswith(own) for address in addresses):
            entry.unlink()
            gone += 1
    return gone


if __name__ == "__main__":
    plan_path = Path(sys.argv[1])
    end_group_with_parent(int(sys.argv[2]))
    execute(Plan.read(plan_path), plan_path.parent)
