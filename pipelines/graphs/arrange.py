"""What every task of a graph gets: a title, its cache switch, a cluster's resources, retries; and the task
that lays artifacts side by side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kfp import dsl, kubernetes
from kfp.dsl.pipeline_channel import PipelineChannel

from components.gather.component import gather
from pipelines.code_version import code_version
from pipelines.config import Config
from pipelines.task_environment import DATA_VARIABLE, TASK_ENVIRONMENT

Arrange = Callable[..., dsl.PipelineTask]


@dataclass(frozen=True)
class Pods:
    """What tasks that run in pods of their own are given beside what the config says; processes and
    containers of this machine need none of it, for they have this machine's environment.

    `data`: the folder in which a task finds relative market paths; `retries`: how often a failed task is
    tried again; `code`: the environment by which a task checks that its image holds the code that is compiled
    here.
    """

    data: str
    retries: int = 0
    code: Mapping[str, str] = field(default_factory=dict)


def arranger(config: Config, pods: Pods | None) -> Arrange:
    """A function that gives a task its title, cache switch, resource limits, volume, and in `pods` its
    environment, secrets and retries.
    """

    def arrange(task: dsl.PipelineTask, title: str, *, cached: bool = True) -> dsl.PipelineTask:
        task.set_display_name(title)
        task.set_caching_options(cached)
        task.set_memory_limit(config.cluster.memory_limit).set_cpu_limit(config.cluster.cpu_limit)
        if pods:
            _set_environment(task, config, pods)
            if pods.retries:
                task.set_retry(pods.retries, backoff_duration="30s")
        if config.cluster.volume_claim:
            kubernetes.mount_pvc(
                task, pvc_name=config.cluster.volume_claim, mount_path=config.cluster.mount_path
            )
        return task

    return arrange


def _set_environment(task: dsl.PipelineTask, config: Config, pods: Pods) -> None:
    """A pod has nothing of the submitter's environment: all that a task reads is said here, passwords by the
    name of the secret that holds them.
    """
    for name, value in {
        **TASK_ENVIRONMENT,
        DATA_VARIABLE: pods.data,
        **config.cluster.environment,
        **pods.code,
    }.items():
        task.set_env_variable(name, value)
    for name, place in config.cluster.secrets.items():
        kubernetes.use_secret_as_env(task, secret_name=place.secret, secret_key_to_env={place.key: name})


def side_by_side(arrange: Arrange, what: str, items: Mapping[str, PipelineChannel]) -> PipelineChannel:
    """The task that lays `items` side by side under their names; returns its folder."""
    slots = {f"item_{number}": item for number, item in enumerate(items.values(), start=1)}
    task = gather(what=what, names=list(items), code=code_version(gather), **slots)
    return arrange(task, f"gather {what}").outputs["gathered"]
