"""What only a cluster needs: where it is, what its tasks get, and what outlasts them."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from components.credentials import find_credential, names_a_secret
from components.settings import Section
from pipelines.task_resources import BY_TASK, Resources

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class SecretKey(Section):
    """Where a cluster keeps one value that nobody may read in a config: a key of a Kubernetes Secret."""

    secret: str = Field(
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", description="name of the Secret, in the run's namespace"
    )
    key: str = Field(pattern=r"^[-._a-zA-Z0-9]+$", description="its key that holds the value")


class Toleration(Section):
    """A taint of nodes that a task puts up with, as Kubernetes writes it."""

    key: str = Field("", description="key of the taint; empty: any")
    operator: Literal["Exists", "Equal"] = Field("Exists", description="Equal: the value counts too")
    value: str = Field("", description="value of the taint, with Equal")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        "", description="effect of the taint; empty: any"
    )

    @model_validator(mode="after")
    def _value_counts_with_equal(self):
        if (self.operator == "Equal") != bool(self.value) or (self.operator == "Equal" and not self.key):
            raise ValueError("Equal wants key and value, Exists takes no value")
        return self


class ClusterSettings(Section):
    """What only a cluster needs: `alphaloop compile` and `submit`. A local run ignores it."""

    # Kubernetes means the same by 2 and "2".
    model_config = ConfigDict(coerce_numbers_to_str=True)

    host: str = Field(
        "", description="address of the Kubeflow Pipelines API, such as http://ml-pipeline.kubeflow:8888"
    )
    namespace: str = Field(
        "",
        max_length=63,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
        description="namespace (profile) of the runs; a server for several users wants one",
    )
    experiment: str = Field(
        "alphaloop", min_length=1, max_length=128, description="experiment under which runs are listed"
    )
    service_account: str = Field(
        "",
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$",
        description="service account under which tasks run; empty: the cluster's own choice",
    )
    pipeline_root: str = Field(
        "",
        pattern=r"^([a-z0-9]+://[^@]+)?$",
        description="where artifacts go, such as s3://bucket/prefix; empty: the cluster's own choice",
    )
    ca_file: str = Field(
        "",
        description="file of authorities that the API's certificate is checked with; empty: the usual",
    )
    proxy: str = Field(
        "",
        pattern=r"^(https?://[^@]+)?$",
        description="address of an HTTP proxy on the way to the API, such as http://proxy:3128",
    )
    volume_claim: str = Field(
        "", description="persistent volume claim that holds data and run.folder; mounted at mount_path"
    )
    mount_path: str = Field(
        "/alphaloop", pattern="^/", description="where the volume of volume_claim is mounted in a task"
    )
    data_claim: str = Field(
        "",
        description=(
            "persistent volume claim that holds the market data, mounted at data_path in the tasks that read"
            " them; no task writes there, so its volume may be read-only"
        ),
    )
    data_path: str = Field(
        "/data",
        pattern="^/",
        description="folder in which a task finds relative market paths: of data_claim, or below mount_path",
    )
    environment: dict[VariableName, str] = Field(
        {}, description="by name: environment of every task; for passwords and keys see secrets"
    )
    secrets: dict[VariableName, SecretKey] = Field(
        {},
        description=(
            "by name: environment of every task that comes out of a Secret, as in"
            " {MLFLOW_TRACKING_PASSWORD: {secret: mlflow, key: password}}"
        ),
    )
    resources: dict[str, Resources] = Field(
        {},
        description=(
            "by task, as the cluster names it, such as train-expert: what it asks for; the rest is as"
            " pipelines/task_resources.py has it"
        ),
    )
    gpu: Literal["auto", 0, 1] = Field(
        "auto",
        description=(
            "whether the experts of experts.gpu ask for a GPU: 1 yes, 0 no, auto: where gpu_selector or"
            " gpu_tolerations say that the cluster has nodes for it"
        ),
    )
    gpu_selector: dict[str, str] = Field(
        {}, description="labels of the nodes that have GPUs; tasks that ask for one go only there"
    )
    gpu_tolerations: list[Toleration] = Field(
        [], description="taints of the nodes that have GPUs which tasks that ask for one put up with"
    )
    retries: int = Field(2, ge=0, description="how often a task is tried again")
    deadline_hours: float = Field(
        48,
        gt=0,
        le=24 * 365,
        description="a run that lasts longer is ended, tasks that wait for a node in vain among its tasks",
    )
    keep_days: float = Field(
        3, gt=0, le=3650, description="the cluster forgets pods and logs of a run this long after its end"
    )

    @property
    def asks_for_gpus(self) -> bool:
        """Whether experts that can use a GPU ask the cluster for one."""
        return bool(self.gpu_selector or self.gpu_tolerations) if self.gpu == "auto" else bool(self.gpu)

    @field_validator("resources")
    @classmethod
    def _resources_are_of_tasks(cls, value: dict[str, Resources]) -> dict[str, Resources]:
        for name in value:
            if name not in BY_TASK:
                close = difflib.get_close_matches(name.replace("_", "-"), BY_TASK, n=1)
                advice = f"Did you mean {close[0]!r}?" if close else f"Tasks: {', '.join(BY_TASK)}"
                raise ValueError(f"there is no task {name!r}. {advice}")
        return value

    @field_validator("secrets", mode="before")
    @classmethod
    def _secrets_are_named(cls, value: Any) -> Any:
        """Before anything else looks at it: its words would quote a password that was written down here."""
        for name, place in value.items() if isinstance(value, Mapping) else ():
            if not isinstance(place, Mapping | SecretKey):
                raise ValueError(
                    f"{name} wants the Secret and the key in it that hold the value,"
                    " {secret: ..., key: ...}, never the value itself"
                )
        return value

    @field_validator("environment")
    @classmethod
    def _environment_is_no_secret(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            found = find_credential(text) or ("a password, key or token by its name" if text else None)
            if found and (names_a_secret(name) or find_credential(text)):
                raise ValueError(
                    f"{name} holds {found}, and everybody who sees the run would read it. Name it in"
                    f" cluster.secrets: {{{name}: {{secret: ..., key: ...}}}}"
                )
        return value

    @model_validator(mode="after")
    def _each_claim_once(self):
        if self.data_claim and self.data_claim == self.volume_claim:
            raise ValueError(
                f"data_claim and volume_claim are both {self.data_claim}, which a pod can mount only once;"
                " leave data_claim out and set data_path to the data's folder below mount_path"
            )
        if self.data_claim and self.data_path == self.mount_path:
            raise ValueError(f"data_path and mount_path are both {self.data_path}; give each its own folder")
        return self

    @model_validator(mode="after")
    def _each_variable_once(self):
        twice = sorted({*self.environment} & {*self.secrets})
        if twice:
            raise ValueError(
                f"environment and secrets both name {twice[0]}; keep it in secrets if it is a password or key"
            )
        return self
