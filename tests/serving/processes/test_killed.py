"""What is said of processes that were killed, and which workers are seen to vanish."""

import os
import subprocess
import sys

from serving.processes.killed import MemoryWatch, WorkerWatch
from tests.serving.live_service import until


def test_a_kill_for_memory_is_told_from_others_by_the_kernels_counter(tmp_path):
    counters = tmp_path / "vmstat"
    counters.write_text("oom_kill 3\npgfault 7\n")
    watch = MemoryWatch(counters)
    assert watch.words().startswith("Where nobody did that, memory ran out")
    counters.write_text("oom_kill 4\npgfault 9\n")
    assert watch.words().startswith("The kernel killed a process because memory ran out")
    assert "serving.workers" in watch.words()


def test_where_the_kernel_counts_nothing_that_is_no_fault(tmp_path):
    assert "memory ran out" in MemoryWatch(tmp_path / "nothing").words()


def test_a_worker_that_vanishes_is_seen_once_and_a_new_parent_has_new_workers():
    watch = WorkerWatch()
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    workers = [subprocess.Popen(sleep) for _ in range(2)]
    try:
        assert watch.vanished(os.getpid()) == []
        workers[0].kill()
        until(lambda: watch.vanished(os.getpid()) == [workers[0].pid], what="the end of a worker")
        assert watch.vanished(os.getpid()) == []
        assert watch.vanished(None) == []
        assert watch.vanished(os.getpid()) == []
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
