"""How each stage of a run grows with the number of symbols: processor seconds, wall seconds, peak memory,
and the exponent of the seconds in rows; where a run ends, and with which words.

Each size is one whole run on the simulated market with the linear expert and LightGBM. What a stage used is
that of the run's process and its descendants while the stage ran and since the one before ended, looked at
ten times a second: a peak shorter than that is not seen, and pages that processes share count once in each.
A size that is in the output file is not run again.

    python -m tests.benchmarks.bench_growth --symbols 120 500 1000 --bars 1000 --output runs/growth.jsonl
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

POLL_S = 0.1
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LEAVES = "[elasticnet/1d/base, lightgbm/1d/base]"


@dataclass
class Used:
    """What one stage used: seconds of the processor, of the clock, and the largest memory in GiB."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_gib: float = 0.0

    def add(self, other: "Used") -> None:
        self.cpu_s += other.cpu_s
        self.wall_s += other.wall_s
        self.peak_gib = max(self.peak_gib, other.peak_gib)


@dataclass
class Grown:
    """One run: its rows, its stages, and its last words where it ended early."""

    symbols: int
    bars: int
    rows: int = 0
    stages: dict[str, Used] = field(default_factory=dict)
    ended: str = ""


def tree(root: int) -> tuple[float, int]:
    """Processor seconds so far of a process, its descendants and those that they have waited for, and the
    bytes of memory that all hold now.
    """
    parents, cpu, memory = {}, {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            pid = int(entry.name)
            parents[pid] = int(fields[1])
            cpu[pid] = sum(map(int, fields[11:15])) / TICKS_PER_S
            memory[pid] = int(fields[21]) * PAGE
    inside, grown = {root}, True
    while grown:
        added = {pid for pid, parent in parents.items() if parent in inside} - inside
        inside |= added
        grown = bool(added)
    return sum(cpu.get(pid, 0.0) for pid in inside), sum(memory.get(pid, 0) for pid in inside)


class Events:
    """The stage that a run is at, by its file of events; None between two."""

    def __init__(self, path: Path):
        self.path, self.place, self.rows = path, 0, 0
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


def run(symbols: int, bars: int, overrides: list[str]) -> Grown:
    """One run in a folder that is thrown away."""
    found = Grown(symbols, bars)
    used: dict[str, Used] = defaultdict(Used)
    with tempfile.TemporaryDirectory() as scratch:
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
        with output.open("w") as written:
            child = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT)
            events, before, since = Events(folder / "events.jsonl"), 0.0, time.monotonic()
            waiting = Used()
            while child.poll() is None:
                cpu, memory = tree(child.pid)
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
            found.ended = output.read_text()[-600:]
    found.rows, found.stages = events.rows, dict(used)
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
    lines = [f"{'stage':28}" + "".join(f"{one.symbols:>8} x {one.bars:<10}" for one in runs) + "exponent"]
    for name in names:
        line = f"{name:28}"
        for one in runs:
            used = one.stages.get(name)
            words = f"{used.cpu_s:.0f}/{used.wall_s:.0f}/{used.peak_gib:.1f}" if used else ""
            line += f"{words:>18}   "
        whole = [one for one in runs if not one.ended and name in one.stages]
        if len(whole) > 1:
            *_, small, large = whole
            power = exponent(small.stages[name].cpu_s, large.stages[name].cpu_s, small.rows, large.rows)
            line += "" if math.isnan(power) else f"{power:.2f}"
        lines.append(line)
    totals = [sum(used.cpu_s for used in one.stages.values()) for one in runs]
    lines.append(f"{'all':28}" + "".join(f"{total:>15.0f} s    " for total in totals))
    lines += [f"\n{one.symbols} symbols ended with:\n{one.ended}" for one in runs if one.ended]
    return "\n".join(lines)


def main() -> None:
    """Run the sizes that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--symbols", type=int, nargs="+", default=[120, 500, 1000, 2000, 5000])
    parser.add_argument("--bars", type=int, default=1000)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    done = {}
    if options.output.exists():
        for line in options.output.read_text().splitlines():
            one = json.loads(line)
            one["stages"] = {name: Used(**used) for name, used in one["stages"].items()}
            done[one["symbols"], one["bars"]] = Grown(**one)
    for symbols in options.symbols:
        if (symbols, options.bars) not in done:
            one = done[symbols, options.bars] = run(symbols, options.bars, options.set)
            with options.output.open("a") as kept:
                kept.write(json.dumps(asdict(one)) + "\n")
    print(table([done[symbols, options.bars] for symbols in options.symbols]))


if __name__ == "__main__":
    main()
