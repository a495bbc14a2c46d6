"""What every task of a graph gets: a title, its cache switch, a cluster's resources, retries; and the task
that lays artifacts side by side.
"""

from collections.abc import Callable, Mapping

from kfp import dsl, kubernetes
from kfp.dsl.pipeline_channel import PipelineChannel

from components.gather.component import gather
from pipelines.code_version import code_version
from pipelines.config import Config

Arrange = Callable[..., dsl.PipelineTask]


def arranger(config: Config, retries: int) -> Arrange:
    """A function that gives a task its title, cache switch, resource limits, volume and retries."""

    def arrange(task: dsl.PipelineTask, title: str, *, cached: bool = True) -> dsl.PipelineTask:
        task.set_display_name(title)
        task.set_caching_options(cached)
        task.set_memory_limit(config.cluster.memory_limit).set_cpu_limit(config.cluster.cpu_limit)
        if retries:
            task.set_retry(retries, backoff_duration="30s")
        if config.cluster.volume_claim:
            kubernetes.mount_pvc(
                task, pvc_name=config.cluster.volume_claim, mount_path=config.cluster.mount_path
            )
        return task

    return arrange


def side_by_side(arrange: Arrange, what: str, items: Mapping[str, PipelineChannel]) -> PipelineChannel:
    """The task that lays `items` side by side under their names; returns its folder."""
    slots = {f"item_{number}": item for number, item in enumerate(items.values(), start=1)}
    task = gather(what=what, names=list(items), code=code_version(gather), **slots)
    return arrange(task, f"gather {what}").outputs["gathered"]
