"""What a process may use, read from files of control groups, of its limits and of the machine that are
planted in a folder, in both versions, with and without a container's own view.
"""

import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from components.contracts import ContractError
from components.memory.limits import end, limit, limits, room, target
from components.memory.share import SHARE_VARIABLE

MIB = 1024**2
MEMINFO = {
    "proc/meminfo": "MemTotal: 8388608 kB\nMemFree: 100 kB\nMemAvailable: 6291456 kB\nSwapFree: 0 kB\n"
}
SECOND = {
    "proc/self/cgroup": "0::/user/run\n",
    "proc/self/mountinfo": "42 31 0:39 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
}
FIRST = {
    "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/docker/ab\n1:name=systemd:/x\n0::/\n",
    "proc/self/mountinfo": (
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "35 31 0:32 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    ),
}
RUN, USER, MEMORY = "sys/fs/cgroup/user/run", "sys/fs/cgroup/user", "sys/fs/cgroup/memory"


@pytest.fixture
def plant(tmp_path):
    def write(*files: Mapping[str, str]) -> Path:
        for name, text in {name: text for one in files for name, text in one.items()}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


def test_a_machine_alone_bounds_by_what_it_has_and_swap_is_slower_not_over(plant):
    root = plant(MEMINFO)
    assert (limit(root).bytes, limit(root).used) == (8192 * MIB, 2048 * MIB)
    assert end(root).bytes == 8192 * MIB
    assert target(root) == int(0.7 * 8192 * MIB) - 2048 * MIB
    root = plant({"proc/meminfo": "MemTotal: 1024 kB\nMemAvailable: 1024 kB\nSwapFree: 512 kB\n"})
    assert (end(root).bytes + end(root).swap, target(root)) == (1536 * 1024, int(0.7 * 1024**2))


@pytest.mark.parametrize(
    ("files", "least"),
    [
        ({f"{RUN}/memory.max": "1073741824\n"}, 1024),
        ({f"{RUN}/memory.max": "max\n", f"{USER}/memory.max": "536870912\n"}, 512),
        ({f"{RUN}/memory.max": "1073741824\n", f"{USER}/memory.max": "536870912\n"}, 512),
        ({f"{RUN}/memory.max": "max\n"}, 8192),
        ({}, 8192),
    ],
    ids=["own", "an outer one", "the least", "max", "no file"],
)
def test_of_the_second_version_the_least_of_all_levels_counts(plant, files, least):
    assert limit(plant(MEMINFO, SECOND, files)).bytes == end(plant()).bytes == least * MIB


def test_memory_high_is_planned_below_and_ends_nothing(plant):
    root = plant(MEMINFO, SECOND, {f"{RUN}/memory.max": f"{900 * MIB}", f"{RUN}/memory.high": f"{600 * MIB}"})
    assert "memory.high" in limit(root).where
    assert end(root).bytes == 900 * MIB
    assert target(root) == int(0.7 * 600 * MIB)


def test_pages_of_files_are_not_in_use_shared_memory_is(plant):
    stat = f"anon {100 * MIB}\nfile {700 * MIB}\nshmem {50 * MIB}\nslab_reclaimable {20 * MIB}\n"
    files = {"memory.max": f"{1000 * MIB}", "memory.current": f"{830 * MIB}", "memory.stat": stat}
    root = plant(MEMINFO, SECOND, {f"{RUN}/{name}": text for name, text in files.items()})
    assert limit(root).used == (830 - 700 + 50 - 20) * MIB


def test_a_container_sees_its_own_group_where_the_hierarchy_is_mounted(plant):
    namespace = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{300 * MIB}"}
    assert limit(plant(MEMINFO, SECOND, namespace)).bytes == 300 * MIB
    outside = {"proc/self/cgroup": "0::/../other\n", "sys/fs/other/memory.max": f"{9 * MIB}"}
    assert limit(plant(outside)).bytes == 300 * MIB


def test_a_hierarchy_is_found_where_blanks_are_in_its_path(plant):
    blank = {"proc/self/mountinfo": "42 31 0:39 / /mnt/its\\040groups rw - cgroup2 cgroup2 rw\n"}
    files = {"mnt/its groups/user/run/memory.max": f"{300 * MIB}"}
    assert limit(plant(MEMINFO, SECOND, blank, files)).bytes == 300 * MIB


def test_of_the_first_version_the_kernel_also_says_what_outer_groups_allow(plant):
    files = {"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": f"{50 * MIB}"}
    root = plant(MEMINFO, FIRST, {f"{MEMORY}/{name}": text for name, text in files.items()})
    assert limit(root).bytes == 8192 * MIB
    plant({f"{MEMORY}/memory.limit_in_bytes": f"{700 * MIB}"})
    assert (limit(root).bytes, limit(root).used) == (700 * MIB, 50 * MIB)
    plant({f"{MEMORY}/memory.stat": f"hierarchical_memory_limit {400 * MIB}\ntotal_cache {20 * MIB}\n"})
    assert (limit(root).bytes, limit(root).used) == (400 * MIB, 30 * MIB)


def test_swap_is_as_much_as_the_group_may_have_of_the_machines(plant):
    machine = {"proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 8388608 kB\nSwapFree: 1048576 kB\n"}
    root = plant(machine, SECOND, {f"{RUN}/memory.max": f"{500 * MIB}"})
    assert end(root).swap == 1024 * MIB
    plant({f"{RUN}/memory.swap.max": "0"})
    assert end(root).swap == 0
    plant({f"{RUN}/memory.swap.max": f"{4096 * MIB}"})
    assert end(root).swap == 1024 * MIB, "there is no more, whatever the group may have"


def test_of_the_first_version_the_limit_on_both_leaves_so_much_swap_and_shared_memory_is_in_use(plant):
    machine = {"proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 8388608 kB\nSwapFree: 1048576 kB\n"}
    files = {"memory.limit_in_bytes": f"{500 * MIB}", "memory.usage_in_bytes": f"{300 * MIB}"}
    files["memory.stat"] = f"total_cache {90 * MIB}\ntotal_shmem {40 * MIB}\n"
    root = plant(machine, FIRST, {f"{MEMORY}/{name}": text for name, text in files.items()})
    assert (end(root).swap, limit(root).used) == (1024 * MIB, 250 * MIB)
    plant({f"{MEMORY}/memory.memsw.limit_in_bytes": f"{600 * MIB}"})
    assert end(root).swap == 100 * MIB


def test_what_tells_nothing_bounds_nothing(tmp_path):
    assert (limits(tmp_path), limit(tmp_path), end(tmp_path), target(tmp_path)) == ([], None, None, None)


def test_the_share_that_a_task_was_told_is_what_work_is_cut_to(plant, monkeypatch):
    monkeypatch.setenv(SHARE_VARIABLE, "0.25")
    assert target(plant(MEMINFO)) == 0
    monkeypatch.setenv(SHARE_VARIABLE, "0.5")
    assert target(plant()) == 2048 * MIB


@pytest.mark.parametrize("told", ["much", "nan", "inf", "0", "-1", "1"])
def test_a_share_that_the_config_would_not_take_is_refused_by_name(plant, monkeypatch, told):
    monkeypatch.setenv(SHARE_VARIABLE, told)
    with pytest.raises(ContractError, match=f"{SHARE_VARIABLE}={told}: set it to a share above 0"):
        target(plant(MEMINFO))


def test_work_is_cut_only_where_others_leave_less_than_it_holds(plant, monkeypatch):
    assert room(plant()) is None
    assert room(plant(MEMINFO)) == int(0.8 * 8192 * MIB) - 2048 * MIB
    busy = MEMINFO | {f"{RUN}/memory.max": "1000000000\n", f"{RUN}/memory.current": "750000000\n"}
    root = plant(SECOND, busy)
    assert (target(root), room(root)) == (0, 50_000_000)
    plant({f"{RUN}/memory.current": "900000000\n"})
    assert room(root) == 0
    monkeypatch.setenv(SHARE_VARIABLE, "0.01")
    plant({f"{RUN}/memory.current": "0\n"})
    assert room(root) == 10_000_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what Linux says of this process")
@pytest.mark.parametrize("number", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_process_itself_count(number):
    asked = "from components.memory.limits import limit; one = limit(); print(one.bytes, one.used, one.where)"
    child = subprocess.run(
        [sys.executable, "-c", asked],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(getattr(resource, number), (512 * MIB, 512 * MIB)),
    )
    bytes_, used, where = child.stdout.split(maxsplit=2)
    assert int(bytes_) == 512 * MIB
    assert 0 < int(used) < 512 * MIB
    assert number in where
