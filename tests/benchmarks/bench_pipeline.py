"""Time and memory of whole runs: the demo, the US panel where ALPHALOOP_DATA holds it, each again unchanged,
and the cost of a KFP task.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIGS = Path("pipelines/configs")
POLL_S = 0.2
TASKS = 5


def run(config: str, folder: Path) -> tuple[float, float]:
    """Wall seconds, and the largest resident memory (GiB) that all processes of the run had together."""
    start = time.perf_counter()
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
    )
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, tree_memory(child.pid))
        time.sleep(POLL_S)
    if child.returncode:
        raise SystemExit(f"{config} ended with exit code {child.returncode}; see {folder / 'kfp.log'}")
    return time.perf_counter() - start, peak / 2**30


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


def task_overhead() -> float:
    """Seconds a task that does nothing takes in the local runner."""
    from kfp import dsl, local

    @dsl.component(base_image="python", install_kfp_package=False)
    def nothing(number: int) -> int:
        return number

    @dsl.pipeline(name="overhead")
    def chain():
        last = nothing(number=0)
        for _ in range(TASKS - 1):
            last = nothing(number=last.output)

    with tempfile.TemporaryDirectory() as scratch, open(os.devnull, "w") as quiet:
        local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=scratch)
        kept, sys.stdout = sys.stdout, quiet
        start = time.perf_counter()
        try:
            chain()
        finally:
            sys.stdout = kept
        return (time.perf_counter() - start) / TASKS


def main() -> None:
    """Print one line a row."""
    print(f"start-up of one local KFP task: {task_overhead():.2f} s", flush=True)
    configs = ["demo.yaml"]
    if (Path(os.environ.get("ALPHALOOP_DATA", "data")) / "us_equity_daily.parquet").exists():
        configs.append("us_equities.yaml")
    with tempfile.TemporaryDirectory() as scratch:
        for config in configs:
            folder = Path(scratch) / Path(config).stem
            wall, peak = run(config, folder)
            print(f"{config}: {wall:.0f} s, peak {peak:.2f} GiB\n  {stages(folder)}", flush=True)
            wall, peak = run(config, folder)
            print(f"{config} again, nothing changed: {wall:.0f} s, peak {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
