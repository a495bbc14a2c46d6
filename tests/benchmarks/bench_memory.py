"""What each stage of a run holds at its peak, on simulated markets of two sizes and two numbers of factors:
the figures that the formulas in `need.py` of the stages were fitted to, and whether they still hold.

python -m tests.benchmarks.bench_memory FOLDER [SYMBOLSxBARS[:many] ...]

A run that is in FOLDER already is not done again. Held is what no file backs (anonymous and shared pages), of
all processes of a task together, looked at every 30 ms: what the kernel could not take back.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from components.memory.held import descendants, memory_held
from tests.pipelines.small_run import COMMAND, read_events

SIZES = ("100x500", "300x1000", "100x1000:many")
LOOK_EVERY_S = 0.03
MANY = {"groups": {"alpha158": True, "candles": True}}
LEAVES = [f"{name}/1d/base" for name in ("median", "elasticnet", "xgboost", "lightgbm", "patchtst")]


@dataclass(frozen=True)
class Measured:
    """Of one stage of one run: bytes at its peak, seconds, and rows x columns of the largest table that its
    task reads or makes.
    """

    run: str
    stage: str
    peak: int
    seconds: float


def config_of(size: str, folder: Path) -> Path:
    """A simulated market of so many symbols and bars; `:many` behind it adds groups of factors."""
    market, _, many = size.partition(":")
    symbols, bars = map(int, market.split("x"))
    training = {"epochs": 1, "max_train_windows": 20_000}
    config = {
        "run": {"name": "memory", "folder": str(folder), "seed": 7},
        "market": {"planted_ic": 0.15, "simulator": {"symbols": symbols, "bars": bars, "sectors": 6}},
        "timeline": {"train_share": 0.45, "validation_share": 0.2, "fold_bars": bars // 5},
        "features": MANY if many else {},
        "experts": {"leaves": LEAVES, "overrides": {"patchtst": {"training": training}}},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def measure(size: str, folder: Path) -> list[Measured]:
    """Run it, and look at the processes of the stage at work."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [*COMMAND, "run", "--config", str(config_of(size, folder))]
    peaks: dict[str, int] = {}
    with subprocess.Popen(command, stdout=(folder / "said.txt").open("w")) as run:
        while run.poll() is None:
            for task in tasks_of(run.pid):
                held = memory_held(task, limit=sys.maxsize)
                at_work = stage_at_work(folder)
                if at_work:
                    peaks[at_work] = max(peaks.get(at_work, 0), held)
            time.sleep(LOOK_EVERY_S)
    seconds = {e["stage"]: e["seconds"] for e in read_events(folder) if e["event"] == "finished"}
    return [Measured(size, stage, peak, seconds.get(stage, 0.0)) for stage, peak in peaks.items()]


def tasks_of(run: int) -> list[int]:
    """The shells below the process that leads a run, in each of which one task is."""
    found = []
    for one in descendants(run):
        try:
            name = Path(f"/proc/{one}/comm").read_text().strip()
        except OSError:
            continue
        if name == "sh":
            found.append(one)
    return found


def stage_at_work(folder: Path) -> str:
    """The stage that began and has not ended; none between two."""
    at_work = ""
    for event in read_events(folder):
        if event["event"] == "started":
            at_work = event["stage"]
        elif event["event"] in ("finished", "failed"):
            at_work = ""
    return at_work


def tables_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Rows and columns of every table that a run made, by task and name."""
    found = {}
    for path in sorted((folder / "artifacts").glob("alphaloop-*/*/*")):
        if path.is_file() and path.read_bytes()[:4] == b"PAR1":
            about = pq.read_metadata(path)
            found[f"{path.parent.name}/{path.name}"] = (about.num_rows, about.num_columns)
    return found


def main() -> None:
    root, *sizes = sys.argv[1:]
    for size in sizes or SIZES:
        folder = Path(root) / size.replace(":", "_")
        kept = folder / "measured.json"
        if not kept.exists():
            found = measure(size, folder)
            about = {"stages": [asdict(one) for one in found], "tables": tables_of(folder)}
            kept.write_text(json.dumps(about, indent=1))
        about = json.loads(kept.read_text())
        print(f"== {size}")
        for name, (rows, columns) in about["tables"].items():
            print(f"   {name:<48} {rows:>10,} x {columns}")
        for one in about["stages"]:
            print(f"   {one['stage']:<32} {one['peak'] / 2**20:>8,.0f} MiB {one['seconds']:>7.1f} s")


if __name__ == "__main__":
    main()
