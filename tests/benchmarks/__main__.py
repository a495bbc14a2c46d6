"""`make bench`: every speed and memory measurement, one after the other, each in a process of its own.

The whole takes about an hour on two cores with the US panel in ALPHALOOP_DATA, ten minutes without. Name some
to run only those: python -m tests.benchmarks factors pipeline
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

BENCHMARKS = (
    "factors",
    "alpha158",
    "fusion",
    "calendars",
    "audit",
    "selection",
    "mining",
    "point_in_time_join",
    "patchtst",
    "causal_cnn",
    "tick_replay",
    "pipeline",
    "drift",
    "drift_alarms",
    "service",
    "kill",
    "fuzz",
    "levels",
    "order_book",
    "tick_features",
    "tick_stores",
    "tick_collector",
)


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; returns the number that failed."""
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    failed = 0
    for name in names or BENCHMARKS:
        if not (Path(__file__).parent / f"bench_{name}.py").exists():
            print(f"There is no benchmark {name!r}; choose from {', '.join(BENCHMARKS)}.")
            return 1
        print(f"\n== {name}", flush=True)
        failed += (
            subprocess.run([sys.executable, "-m", f"tests.benchmarks.bench_{name}"], check=False).returncode
            != 0
        )
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
