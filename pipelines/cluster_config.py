"""What only a cluster needs: where it is, what its tasks get, and what outlasts them."""

from pydantic import ConfigDict, Field

from components.settings import Section


class ClusterSettings(Section):
    """What only a cluster needs: `alphaloop compile` and `submit`. A local run ignores it."""

    # Kubernetes means the same by 2 and "2".
    model_config = ConfigDict(coerce_numbers_to_str=True)

    host: str = Field(
        "", description="address of the Kubeflow Pipelines API, such as http://ml-pipeline.kubeflow:8888"
    )
    experiment: str = Field("alphaloop", description="experiment under which runs are listed")
    volume_claim: str = Field(
        "", description="persistent volume claim that holds data and run.folder; mounted at mount_path"
    )
    mount_path: str = Field(
        "/alphaloop", pattern="^/", description="where the volume of volume_claim is mounted in a task"
    )
    memory_limit: str = Field(
        "8G",
        pattern=r"^[1-9][0-9]*([EPTGMK]i?)?$",
        description="memory of a task: bytes, or a number with K, M, G, Ki, Mi, Gi",
    )
    cpu_limit: str = Field(
        "2",
        pattern=r"^([1-9][0-9]*m?|[0-9]+\.[0-9]+)$",
        description="cores of a task: 2, 1.5, or thousandths of one such as 500m",
    )
    retries: int = Field(2, ge=0, description="how often a task is tried again")
