"""Time, CPU time and memory of whole runs: the demo, the US panel where ALPHALOOP_DATA holds it, each again
unchanged; what of that is imports; and the cost of a KFP task, started afresh and forked.

`--imports` has every process say what it imports, which costs time itself.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

CONFIGS = Path("pipelines/configs")
POLL_S = 0.2
TASKS = 5


@dataclass(frozen=True)
class Cost:
    """Of a run: wall and CPU seconds, and the largest resident memory (GiB) that all its processes had
    together.
    """

    wall: float
    cpu: float
    peak: float

    def __str__(self) -> str:
        return f"{self.wall:.0f} s, {self.cpu:.0f} s of CPU, peak {self.peak:.2f} GiB"


def run(config: str, folder: Path, environment: Mapping[str, str]) -> Cost:
    """Run a config through the command line."""
    start, before = time.perf_counter(), children_cpu()
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pipelines",
            "run",
            "--config",
            str(CONFIGS / config),
            "--set",
            f"run.folder={folder}",
        ],
        stdout=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, tree_memory(child.pid))
        time.sleep(POLL_S)
    if child.returncode:
        raise SystemExit(f"{config} ended with exit code {child.returncode}; see {folder / 'kfp.log'}")
    return Cost(time.perf_counter() - start, children_cpu() - before, peak / 2**30)


def children_cpu() -> float:
    """CPU seconds of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def imports(folder: Path) -> str:
    """Seconds that the processes of the last run, but for the command line, spent on imports, where they
    were to say so.
    """
    said = (folder / "kfp.log").read_text(errors="replace").splitlines()
    own = [line.partition("import time:")[2].split("|")[0].strip() for line in said if "import time:" in line]
    return f"{sum(int(one) for one in own if one.isdigit()) / 1e6:.1f} s of imports"


def tree_memory(pid: int) -> float:
    """Bytes of resident memory of a process and its descendants, shared pages counted once a process."""
    parents, sizes = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)], sizes[int(entry.name)] = (
                int(fields[1]),
                int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
            )
    inside = {pid}
    grown = True
    while grown:
        added = {child for child, parent in parents.items() if parent in inside} - inside
        inside |= added
        grown = bool(added)
    return sum(sizes.get(member, 0) for member in inside)


def stages(folder: Path) -> str:
    """Seconds of each stage of the last run."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return ", ".join(f"{e['stage']} {e['seconds']:.1f}" for e in events if e["event"] == "finished")


def task_overhead(*, forked: bool) -> float:
    """CPU seconds a task that does nothing takes in the local runner."""
    from kfp import dsl, local
    from kfp.local import subprocess_task_handler

    from pipelines.runners.local_task import LocalTasks
    from pipelines.runners.warm.tasks import WarmTasks

    @dsl.component(base_image="python", install_kfp_package=False)
    def nothing(number: int) -> int:
        return number

    @dsl.pipeline(name="overhead")
    def chain():
        last = nothing(number=0)
        for _ in range(TASKS - 1):
            last = nothing(number=last.output)

    with tempfile.TemporaryDirectory() as scratch, open(os.devnull, "w") as quiet, ExitStack() as started:
        events = Path(scratch) / "events.jsonl"
        events.touch()
        warm = started.enter_context(WarmTasks.start(Path(scratch))) if forked else None
        subprocess_task_handler.run_local_subprocess = LocalTasks({}, events, warm).run_in_subprocess
        local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=scratch)
        started.enter_context(redirect_stdout(quiet))
        chain()  # the first fork waits for imports
        before = time.process_time() + tree_cpu()
        chain()
        return (time.process_time() + tree_cpu() - before) / TASKS


def tree_cpu() -> float:
    """CPU seconds of children that have ended, and of those that run with what they have waited for."""
    ticks = 0
    for child in map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
        ticks += sum(map(int, Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return children_cpu() + ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print one line a row."""
    environment = {"PYTHONPROFILEIMPORTTIME": "1"} if "--imports" in sys.argv[1:] else {}
    for forked in (False, True):
        how = "forked" if forked else "started afresh"
        print(f"one local KFP task, {how}: {task_overhead(forked=forked):.2f} s of CPU", flush=True)
    configs = ["demo.yaml"]
    if (Path(os.environ.get("ALPHALOOP_DATA", "data")) / "us_equity_daily.parquet").exists():
        configs.append("us_equities.yaml")
    with tempfile.TemporaryDirectory() as scratch:
        for config in configs:
            folder = Path(scratch) / Path(config).stem
            cost = run(config, folder, environment)
            print(f"{config}: {cost}, {imports(folder)}\n  {stages(folder)}", flush=True)
            cost = run(config, folder, environment)
            print(f"{config} again, nothing changed: {cost}, {imports(folder)}", flush=True)


if __name__ == "__main__":
    main()
