"""What every task of a graph gets: a title, its cache switch, a cluster's resources, retries; and the task
that lays artifacts side by side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kfp import dsl, kubernetes
from kfp.dsl.pipeline_channel import PipelineChannel
from kfp.dsl.structures import ResourceSpec

from components.gather.component import gather
from components.progress.notes import NOTES_VARIABLE, RUN_VARIABLE
from components.report.component import close_run
from pipelines.code_version import code_version
from pipelines.config import Config
from pipelines.lasting import lasting_folder
from pipelines.task_environment import DATA_VARIABLE, TASK_ENVIRONMENT
from pipelines.task_resources import task_resources

# The label by which a pod says of which run it is.
RUN_FIELD = "metadata.labels['pipeline/runid']"
Arrange = Callable[..., dsl.PipelineTask]
TRAINING = "train-expert"
# Artifacts that one task of `gather` takes: KFP knows no open number of inputs.
GATHER_SLOTS = 9
# Pods have 64 MiB of /dev/shm, of which torch's workers run out.
SHARED_MEMORY = "1Gi"
# Kubeflow tries no task again that began longer ago, and ends the second try then: kfp's hour would leave a
# long training without any. A month is longer than any task; cluster.deadline_hours ends the run.
LONGEST_TASK_S = 30 * 24 * 3600


@dataclass(frozen=True)
class Pods:
    """What tasks that run in pods of their own are given beside what the config says; processes and
    containers of this machine need none of it, for they have this machine's environment.

    `data`: the folder in which a task finds relative market paths; `retries`: how often a failed task is
    tried again; `notes`: the lasting folder in which tasks leave how they ended; `code`: the environment by
    which a task checks that its image holds the code that is compiled here.
    """

    data: str
    retries: int = 0
    notes: str = ""
    code: Mapping[str, str] = field(default_factory=dict)


def arranger(config: Config, pods: Pods | None) -> Arrange:
    """A function that gives a task its title, cache switch and volume, and in `pods` its environment,
    secrets, resources and retries, and the claim with the market data where it reads them; `gpus` is how many
    GPUs it can use.
    """

    def arrange(
        task: dsl.PipelineTask,
        title: str,
        *,
        cached: bool = True,
        gpus: int = 0,
        reads_data: bool = False,
    ) -> dsl.PipelineTask:
        task.set_display_name(title)
        task.set_caching_options(cached)
        if pods:
            _set_environment(task, config, pods)
            _set_resources(task, config)
            if gpus and config.cluster.asks_for_gpus:
                _ask_for_gpus(task, config, gpus)
            if pods.retries:
                task.set_retry(
                    pods.retries, backoff_duration="30s", backoff_max_duration=f"{LONGEST_TASK_S}s"
                )
            if reads_data and config.cluster.data_claim:
                kubernetes.mount_pvc(task, pvc_name=config.cluster.data_claim, mount_path=pods.data)
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
    # At once: kfp walks the whole call stack for each variable and resource that its methods set.
    task.container_spec.env = {
        **(task.container_spec.env or {}),
        **TASK_ENVIRONMENT,
        **config.compute.environment,
        DATA_VARIABLE: pods.data,
        **config.cluster.environment,
        **pods.code,
        **({NOTES_VARIABLE: pods.notes} if pods.notes else {}),
    }
    for name, place in config.cluster.secrets.items():
        kubernetes.use_secret_as_env(task, secret_name=place.secret, secret_key_to_env={place.key: name})
    if pods.notes:
        # The run's name as an argument would be part of the cache's key.
        kubernetes.use_field_path_as_env(task, env_name=RUN_VARIABLE, field_path=RUN_FIELD)


def closing_task(config: Config, arrange: Arrange, folder: str, *goals: str) -> dsl.PipelineTask:
    """The task that closes a run: a success is one that finished the stages `goals`, which the cache never
    answers, and those that they expect in turn.
    """
    kept = lasting_folder(config, folder)
    return arrange(close_run(folder=kept, goals=list(goals)), "close", cached=False)


def _set_resources(task: dsl.PipelineTask, config: Config) -> None:
    """Requests and limits of the task, and memory that the processes of a neural fit share."""
    asked = task_resources(task.component_spec.name, config.cluster.resources)
    task.container_spec.resources = ResourceSpec(
        cpu_request=asked.cpu,
        cpu_limit=asked.cpu_limit or None,
        memory_request=asked.memory,
        memory_limit=asked.memory_limit,
    )
    if task.component_spec.name == TRAINING:
        kubernetes.empty_dir_mount(
            task,
            volume_name="shared-memory",
            mount_path="/dev/shm",
            medium="Memory",
            size_limit=SHARED_MEMORY,
        )


def _ask_for_gpus(task: dsl.PipelineTask, config: Config, gpus: int) -> None:
    task.set_accelerator_type(config.experts.gpu_resource).set_accelerator_limit(gpus)
    for label, value in config.cluster.gpu_selector.items():
        kubernetes.add_node_selector(task, label_key=label, label_value=value)
    for one in config.cluster.gpu_tolerations:
        kubernetes.add_toleration(
            task,
            key=one.key or None,
            operator=one.operator,
            value=one.value or None,
            effect=one.effect or None,
        )


def side_by_side(arrange: Arrange, what: str, items: Mapping[str, PipelineChannel]) -> PipelineChannel:
    """The task that lays `items` side by side under their names; returns its folder. Of more items than it
    has slots for, further tasks lay so many more beside what the one before gathered.
    """
    gathered, every = None, list(items)
    for begin in range(0, len(every), GATHER_SLOTS):
        names = every[begin : begin + GATHER_SLOTS]
        slots = {f"item_{number}": items[name] for number, name in enumerate(names, start=1)}
        if gathered is not None:
            slots["before"] = gathered
        task = gather(what=what, names=names, code=code_version(gather), **slots)
        gathered = arrange(task, f"gather {what}").outputs["gathered"]
    return gathered
