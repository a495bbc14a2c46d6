"""A small market's run through the real command line, in a process of its own, and what can be read off it
afterwards.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

# The end of a wait for something that comes: far beyond what a loaded machine takes.
PATIENCE_S = 600.0
# The same for a test, or what it builds on, that is whole runs.
RUNS_S = 3600
COMMAND = [str(Path(sys.executable).with_name("alphaloop"))]

SETTINGS: dict[str, Any] = {
    "run": {"name": "small", "seed": 7},
    "market": {
        "source": "simulator",
        "planted_ic": 0.15,
        "simulator": {
            "symbols": 16,
            "bars": 320,
            "sectors": 4,
            "faults": ["duplicates", "bad_print"],
            "fault_symbols": 1,
        },
    },
    "timeline": {"train_share": 0.5, "validation_share": 0.2, "fold_bars": 60},
    # What else the audit would add is tests/audit's to test.
    "audit": {"cuts": 2, "guided_cuts": 1, "scan_cuts": 2},
    "experts": {
        "leaves": ["median/1d/base", "elasticnet/1d/base", "lightgbm/1d/base", "patchtst/1d/base"],
        "overrides": {
            "lightgbm": {"rounds": 40},
            "patchtst": {
                "lookback_bars": 16,
                "patch_bars": 8,
                "stride_bars": 8,
                "training": {"epochs": 1, "max_train_windows": 400, "max_monitor_windows": 200},
            },
        },
    },
    # The market is too short for the thresholds of real use; these let every model pass.
    "gates": {
        "min_information_coefficient": -1,
        "min_t_statistic": -100,
        "min_information_ratio": -100,
        "min_sharpe": -100,
        "min_sharpe_lower_limit": -1000,
        "max_drawdown": 0.99,
        "min_sharpe_at_capital": -1000,
        "max_spa_p": {},
        "min_deflated_sharpe": 0,
        "max_overfitting": 1,
        "max_psi": 100,
        "coverage_tolerance": 0.9,
        "min_positive_periods": 1,
        "baselines": {},
    },
}

# Groups of factors that hold every kind of column; for runs whose point is not the library, which
# test_end_to_end and test_rare_exchange take whole.
FEW_FACTORS: dict[str, Any] = {
    "groups": dict.fromkeys(
        ("bars", "calendar", "channels", "events", "microstructure", "style", "tails"), False
    )
}


@dataclass(frozen=True)
class Finished:
    """A command that ended: exit code, all that it printed, its events and, where it left one,
    its summary.
    """

    code: int
    text: str
    events: list[dict[str, Any]]
    summary: dict[str, Any] | None

    def stages(self, event: str) -> set[str]:
        """Names of the stages with an event of this kind, such as `finished` or `cached`."""
        return {e["stage"] for e in self.events if e["event"] == event}


def write_config(path: Path, folder: Path) -> Path:
    """The small market's config at `path`, with `folder` as its run folder."""
    path.write_text(yaml.safe_dump({**SETTINGS, "run": {**SETTINGS["run"], "folder": str(folder)}}))
    return path


def alphaloop(
    *arguments: object, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Finished:
    """Run the command to its end; `folder` is the run folder that it writes to."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", **(environment or {})},
        check=False,
    )
    return Finished(done.returncode, done.stdout + done.stderr, read_events(folder), read_summary(folder))


def read_events(folder: Path | None) -> list[dict[str, Any]]:
    """The whole lines of the run's events file."""
    path = folder / "events.jsonl" if folder else None
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def read_summary(folder: Path | None) -> dict[str, Any] | None:
    path = folder / "summary.json" if folder else None
    return json.loads(path.read_text()) if path is not None and path.exists() else None


def expert_predictions(folder: Path, expert: str, pipeline: str) -> pl.DataFrame:
    """The newest published predictions of an expert in the artifacts of a pipeline (`training` or
    `expert`).
    """
    found = [
        path
        for path in folder.glob(f"artifacts/alphaloop-{pipeline}-*/train-expert*/expert")
        if json.loads((path / "status.json").read_text())["expert"] == expert
    ]
    return pl.read_parquet(max(found, key=lambda path: path.stat().st_mtime) / "predictions.parquet")


def processes_of(folder: Path) -> list[int]:
    """Live processes whose command line names `folder` (Linux)."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command, state = (
                (place / "cmdline").read_bytes(),
                (place / "stat").read_text().rpartition(")")[2].split()[0],
            )
        except OSError:
            continue
        if str(folder).encode() in command and state != "Z" and int(place.name) != os.getpid():
            found.append(int(place.name))
    return found


def unlocked(folder: Path) -> bool:
    """Whether no process holds the lock of a run folder."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def wait_for(true: Callable[[], object], command: subprocess.Popen | None = None) -> None:
    """Wait until `true()`; fail where the command ends before, or nothing comes."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert command is None or command.poll() is None, "the command ended before what was waited for"
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.02)
