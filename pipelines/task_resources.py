"""What each task asks a cluster for: a table by task, over which `cluster.resources` stands."""

from collections.abc import Mapping

from pydantic import ConfigDict, Field, model_validator

from components.settings import Section
from pipelines.runners.pods.memory import in_bytes

MEMORY = r"^([1-9][0-9]*([EPTGMK]i?)?)?$"
CPU = r"^([1-9][0-9]*m?|[0-9]+\.[0-9]+)?$"


class Resources(Section):
    """What one task asks for and where it ends; what is left out is as the table below says."""

    # Kubernetes means the same by 2 and "2".
    model_config = ConfigDict(coerce_numbers_to_str=True)

    cpu: str = Field(
        "",
        pattern=CPU,
        description="cores that it is placed by: 2, 1.5, or thousandths of one such as 500m",
    )
    cpu_limit: str = Field(
        "",
        pattern=CPU,
        description="cores that it gets at most; empty: all that are idle",
    )
    memory: str = Field(
        "",
        pattern=MEMORY,
        description="memory that it is placed by: bytes, or a number with K, M, G, Ki, Mi, Gi",
    )
    memory_limit: str = Field("", pattern=MEMORY, description="memory over which it is killed")

    @model_validator(mode="after")
    def _request_is_below_the_limit(self):
        if self.memory and self.memory_limit and in_bytes(self.memory) > in_bytes(self.memory_limit):
            raise ValueError(f"memory={self.memory} is more than memory_limit={self.memory_limit}")
        return self


def _row(cpu: str, memory: str, memory_limit: str) -> Resources:
    return Resources(cpu=cpu, memory=memory, memory_limit=memory_limit)


# By task, as the cluster names it. Of bars, measured: `memory` is what the demo takes (60 symbols, 750 bars),
# rounded up: small clusters run it; `memory_limit` is what 500 symbols and 2,520 bars take, 1.3 million rows,
# and half as much again.
SMALL = _row("100m", "256Mi", "512Mi")
BY_TASK: Mapping[str, Resources] = {
    "find-source": SMALL,
    "find-slow-source": SMALL,
    "find-trained": SMALL,
    "ingest": _row("500m", "384Mi", "2Gi"),
    "validate": _row("500m", "768Mi", "4Gi"),
    "draw-validation": SMALL,
    "check-plan": SMALL,
    "fuse": _row("500m", "384Mi", "4Gi"),
    "draw-fusion": SMALL,
    "build-features": _row("1", "512Mi", "5Gi"),
    "make-labels": _row("500m", "384Mi", "3Gi"),
    "audit-leaks": _row("1", "768Mi", "10Gi"),
    "materialise": _row("500m", "1Gi", "5Gi"),
    "make-training-set": _row("500m", "1Gi", "5Gi"),
    "make-learnable": _row("500m", "384Mi", "4Gi"),
    "select-factors": _row("1", "768Mi", "6Gi"),
    "draw-selection": SMALL,
    "train-expert": _row("2", "1536Mi", "8Gi"),
    "point-to-inputs": SMALL,
    "gather": _row("100m", "256Mi", "1Gi"),
    "build-oof": _row("500m", "512Mi", "4Gi"),
    "stack": _row("1", "768Mi", "6Gi"),
    "stack-splits": _row("1", "1Gi", "12Gi"),
    "make-reference": _row("500m", "512Mi", "7Gi"),
    "make-universe": _row("500m", "384Mi", "3Gi"),
    "backtest": _row("500m", "512Mi", "6Gi"),
    "mine": _row("1", "1Gi", "6Gi"),
    "judge": _row("250m", "512Mi", "3Gi"),
    "gather-trials": _row("250m", "768Mi", "4Gi"),
    "read-champion": _row("250m", "768Mi", "2Gi"),
    "register": _row("250m", "768Mi", "2Gi"),
    "collect-served": _row("250m", "512Mi", "3Gi"),
    "detect-drift": _row("500m", "512Mi", "4Gi"),
    "decide": _row("100m", "384Mi", "2Gi"),
    "conclude": SMALL,
    "fetch-bundle": _row("250m", "768Mi", "2Gi"),
    "live-rows": _row("500m", "512Mi", "5Gi"),
    "replay": _row("500m", "512Mi", "4Gi"),
    "require-same": SMALL,
    "write-report": _row("500m", "768Mi", "4Gi"),
    "keep-evidence": SMALL,
    "close-run": _row("100m", "256Mi", "256Mi"),
    # Of order books, estimated: room for the ticks demo, an hour of four symbols, and at the limit for days
    # of 20 million rows.
    "find-tick-source": SMALL,
    "ingest-ticks": _row("500m", "768Mi", "4Gi"),
    "validate-ticks": _row("500m", "1Gi", "6Gi"),
    "build-tick-features": _row("1", "768Mi", "4Gi"),
    "audit-tick-features": _row("500m", "768Mi", "4Gi"),
    "build-tick-labels": _row("500m", "768Mi", "6Gi"),
    "make-tick-training-set": _row("500m", "384Mi", "4Gi"),
    "replay-ticks": _row("1", "1Gi", "6Gi"),
    "judge-ticks": _row("250m", "512Mi", "3Gi"),
    "register-ticks": _row("250m", "768Mi", "2Gi"),
    "report-ticks": _row("500m", "768Mi", "4Gi"),
}


def task_resources(task: str, resources: Mapping[str, Resources]) -> Resources:
    """What a task is given: what `resources` (`cluster.resources`) say of it, the table's row where they say
    nothing. A request that is over the limit, because only one of the two was set, is lowered or raises it.
    """
    row, own = BY_TASK[task], resources.get(task, Resources())
    given = {name: getattr(own, name) or getattr(row, name) for name in Resources.model_fields}
    if in_bytes(given["memory"]) > in_bytes(given["memory_limit"]):
        changed = "memory_limit" if own.memory and not own.memory_limit else "memory"
        given[changed] = own.memory or own.memory_limit
    return Resources.model_validate(given)
