"""How each stage of a run grows with the number of symbols: processor seconds, wall seconds, peak memory,
and the exponent of the seconds in rows; where a run ends, and with which words.

Each size is one whole run on the simulated market, by default with the linear expert and LightGBM, on one
core: so tasks run one after the other, and no thread's waiting counts. What a stage used is that of the run's
process and its descendants while the stage ran and since the one before ended; its memory is what its task's
processes hold that no file backs, which is what the kernel could not take back, looked at twenty times a
second. The formulas of `NEED` in the stages are fitted to these peaks. A size that is in the output file is
not run again.

With `--limit 3Gi` a run and all its processes are in a control group that may hold no more, which needs root;
beside a run of that size without a limit it is said which tables' bytes differ.

    python -m tests.benchmarks.bench_growth --symbols 120 500 1000 --bars 1000 --output runs/growth.jsonl
"""

import argparse
import heapq
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from components.contracts import file_sha256
from components.memory.held import descendants, memory_held
from pipelines.runners.pods.memory import in_bytes
from pipelines.runners.warm.tasks import SERVER
from tests.memory.control_groups import limited

POLL_S = 0.05
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TRAINING_SET = "make-training-set/training_set"
# What a fit costs in another process beside itself, in seconds: a task of Ray, the start of Python with its
# libraries, and for each value of the training set that it is read and checked.
TASK_S, START_S, READ_S = 0.0022, 2.5, 1.7e-8
NODES = (1, 2, 4, 8, 16)
LEAVES = "[elasticnet/1d/base, lightgbm/1d/base]"


@dataclass
class Used:
    """What one stage used: seconds of the processor, of the clock, and the most memory in GiB."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_gib: float = 0.0

    def add(self, other: "Used") -> None:
        self.cpu_s += other.cpu_s
        self.wall_s += other.wall_s
        self.peak_gib = max(self.peak_gib, other.peak_gib)


@dataclass
class Grown:
    """One run: its rows, its stages, how many fits each expert had, rows, columns and SHA-256 of the tables
    that it made, by task and name, and its last words where it ended early.
    """

    symbols: int
    bars: int
    limit: str = ""
    rows: int = 0
    stages: dict[str, Used] = field(default_factory=dict)
    fits: dict[str, int] = field(default_factory=dict)
    tables: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    ended: str = ""


def tree(root: int) -> tuple[float, int]:
    """Processor seconds so far of a process, its descendants and those that they have waited for, and the
    bytes of memory that all hold now, what files back left out.
    """
    cpu = 0.0
    for one in (root, *descendants(root)):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        cpu += sum(map(int, fields[11:15])) / TICKS_PER_S
    return cpu, memory_held(root, limit=sys.maxsize)


def tasks_hold(run: int) -> int:
    """Bytes that the tasks of a run hold now: what is below the process that forks them, and below the shells
    of those that were started afresh.
    """
    return sum(memory_held(one, limit=sys.maxsize) for one in _above_tasks(run))


def _above_tasks(run: int) -> Iterator[int]:
    forks = False
    for one in descendants(run):
        try:
            command = Path(f"/proc/{one}/cmdline").read_bytes()
        except OSError:
            continue
        if not forks and SERVER.encode() in command:
            forks = True
            yield one
        elif command.startswith(b"sh\0"):
            yield one


class Events:
    """The stage that a run is at, by its file of events; None between two."""

    def __init__(self, path: Path):
        self.path, self.place, self.rows = path, 0, 0
        self.fits: dict[str, int] = {}
        self.stage: str | None = None

    def now(self) -> str | None:
        if self.path.exists():
            with self.path.open() as lines:
                lines.seek(self.place)
                for line in lines:
                    if not line.endswith("\n"):
                        break
                    self.place += len(line.encode())
                    self._read(json.loads(line))
        return self.stage

    def _read(self, event: dict) -> None:
        if event["event"] == "started":
            self.stage = event["stage"]
        elif event["event"] == "finished":
            self.stage = None
        elif event["event"] == "said" and event["stage"] == "ingest":
            self.rows = int(event["message"].split()[0].replace(",", ""))
        elif event["event"] == "said" and (fits := re.search(r"(\d+) fits$", event["message"])):
            self.fits[event["stage"]] = int(fits[1])


def run(symbols: int, bars: int, limit: str, overrides: list[str]) -> Grown:
    """One run in a folder that is thrown away, within a limit where one is named."""
    found = Grown(symbols, bars, limit)
    used: dict[str, Used] = defaultdict(Used)
    within = limited(in_bytes(limit)) if limit else nullcontext()
    with tempfile.TemporaryDirectory() as scratch, within as group:
        folder, output = Path(scratch) / "run", Path(scratch) / "output"
        settings = [
            f"run.folder={folder}",
            f"market.simulator.symbols={symbols}",
            f"market.simulator.bars={bars}",
            "market.end=null",
            "market.simulator.change=null",
            f"experts.leaves={LEAVES}",
            "experts.overrides={}",
            *overrides,
        ]
        command = [sys.executable, "-m", "pipelines", "run", "--config", "pipelines/configs/demo.yaml"]
        command += [word for setting in settings for word in ("--set", setting)]
        core = min(os.sched_getaffinity(0))
        with output.open("w") as written:
            command = group.command(command) if group else command
            child = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT)
            os.sched_setaffinity(child.pid, {core})
            events, before, since = Events(folder / "events.jsonl"), 0.0, time.monotonic()
            waiting = Used()
            while child.poll() is None:
                cpu, memory = tree(child.pid)[0], tasks_hold(child.pid)
                now = time.monotonic()
                # The seconds of a process that ended are missing until its parent has waited for it.
                waiting.add(Used(max(cpu - before, 0.0), now - since, memory / 2**30))
                before, since = max(cpu, before), now
                if stage := events.now():
                    used[stage].add(waiting)
                    waiting = Used()
                time.sleep(POLL_S)
            used["end"].add(waiting)
        if child.returncode:
            found.ended = output.read_text()[-1200:]
        found.tables = tables_of(folder)
    found.rows, found.stages, found.fits = events.rows, dict(used), events.fits
    return found


def tables_of(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Rows, columns and SHA-256 of every table that a run made, by task and name."""
    found = {}
    for path in sorted((folder / "artifacts").glob("alphaloop-*/**/*")):
        if path.is_file() and path.read_bytes()[:4] == b"PAR1":
            about = pq.read_metadata(path)
            name = "/".join(path.relative_to(folder / "artifacts").parts[1:])
            found[name] = (about.num_rows, about.num_columns, file_sha256(path))
    return found


def exponent(small: float, large: float, rows_small: int, rows_large: int) -> float:
    """Of the seconds in rows; NaN where a stage is too short to be told."""
    if min(small, large) < 1.0 or rows_small == rows_large:
        return math.nan
    return math.log(large / small) / math.log(rows_large / rows_small)


def table(runs: list[Grown]) -> str:
    """Processor seconds / wall seconds / GiB by stage and size, exponents between the two largest sizes."""
    runs = sorted(runs, key=lambda one: one.rows)
    names = list(dict.fromkeys(name for one in runs for name in one.stages))
    heads = (f"{one.symbols} x {one.bars}{' in ' + one.limit if one.limit else ''}" for one in runs)
    lines = [f"{'stage':28}" + "".join(f"{head:>18}   " for head in heads) + "exponent"]
    for name in names:
        line = f"{name:28}"
        for one in runs:
            used = one.stages.get(name)
            words = f"{used.cpu_s:.0f}/{used.wall_s:.0f}/{used.peak_gib:.1f}" if used else ""
            line += f"{words:>18}   "
        whole = [one for one in runs if not one.ended and not one.limit and name in one.stages]
        if len(whole) > 1:
            *_, small, large = whole
            power = exponent(small.stages[name].cpu_s, large.stages[name].cpu_s, small.rows, large.rows)
            line += "" if math.isnan(power) else f"{power:.2f}"
        lines.append(line)
    totals = [sum(used.cpu_s for used in one.stages.values()) for one in runs]
    lines.append(f"{'all':28}" + "".join(f"{total:>15.0f} s    " for total in totals))
    for one in runs:
        if not one.ended and TRAINING_SET in one.tables:
            seconds = ", ".join(f"{nodes}: {on_nodes(one, nodes):.0f}" for nodes in NODES)
            lines.append(f"{one.symbols} x {one.bars} by nodes of one core, computed, s: {seconds}")
    lines += [f"\n{one.symbols} symbols ended with:\n{one.ended}" for one in runs if one.ended]
    through = [one for one in runs if not one.ended]
    free = {(one.symbols, one.bars): one for one in through if not one.limit}
    lines += [
        differences(one, free[one.symbols, one.bars])
        for one in through
        if one.limit and (one.symbols, one.bars) in free
    ]
    return "\n".join(lines)


def on_nodes(one: Grown, nodes: int) -> float:
    """Seconds of a run whose fits go to so many nodes of one core as the one that was measured: computed, not
    measured. The longest fits go first, each to the node that is free first; all other stages stay where they
    are.
    """
    fits = [one.stages[name].cpu_s / count for name, count in one.fits.items() for _ in range(count)]
    rest = sum(used.cpu_s for used in one.stages.values()) - sum(fits)
    values = math.prod(one.tables[TRAINING_SET][:2])
    overhead = TASK_S + START_S + READ_S * values if nodes > 1 else 0.0
    busy = [0.0] * nodes
    for fit in sorted(fits, reverse=True):
        heapq.heappush(busy, heapq.heappop(busy) + fit + overhead)
    return rest + max(busy)


def differences(one: Grown, free: Grown) -> str:
    """What a run within a limit made otherwise than one without."""
    wrong = [name for name, made in one.tables.items() if tuple(free.tables.get(name, ())) != tuple(made)]
    found = f"{len(one.tables)} of {len(free.tables)} tables"
    said = f"other bytes in {', '.join(wrong)}" if wrong else "all the same bytes as without"
    return f"{one.symbols} x {one.bars} in {one.limit}: {found}, {said}"


def main() -> None:
    """Run the sizes that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--symbols", type=int, nargs="+", default=[120, 500, 1000, 2000, 5000])
    parser.add_argument("--bars", type=int, default=1000)
    parser.add_argument("--limit", default="")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    done = {}
    if options.output.exists():
        for line in options.output.read_text().splitlines():
            one = json.loads(line)
            one["stages"] = {name: Used(**used) for name, used in one["stages"].items()}
            grown = Grown(**one)
            done[grown.symbols, grown.bars, grown.limit] = grown
    for symbols in options.symbols:
        key = (symbols, options.bars, options.limit)
        if key not in done:
            one = done[key] = run(*key, options.set)
            with options.output.open("a") as kept:
                kept.write(json.dumps(asdict(one)) + "\n")
    print(table([one for one in done.values() if one.bars == options.bars]))


if __name__ == "__main__":
    main()
