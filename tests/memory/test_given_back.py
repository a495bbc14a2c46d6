"""What was freed goes back to the system, from threads' arenas too, and no more than little is kept."""

import subprocess
import sys

import pytest

# Threads free much and end: MiB that the process holds of its own then beyond what it held before.
CODE = """
import gc, sys, threading
from pathlib import Path

import numpy as np

from components.memory.given_back import give_back


def held():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) // 1024


def work():
    for mib in (30, 3, 12):
        arrays = [np.ones(mib * 2**17) for _ in range(48 // mib)]
        del arrays


if sys.argv[1] == "given":
    give_back()
before = held()
for _ in range(3):
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
if sys.argv[1] == "given":
    give_back()
print(held() - before)
"""


def kept(way: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE, way], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is asked of Linux")
def test_what_threads_freed_is_given_back():
    assert 4 * kept("given") < kept("left")
