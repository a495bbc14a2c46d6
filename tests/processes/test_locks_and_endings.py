"""Locks: one holder at a time, also across kill -9 and inheritance.

Endings: with the parent, whole groups.
"""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import components
from components.processes.endings import KILL, keeping_open, leader_of_a_group, signal_group
from components.processes.imports import own_modules_only
from components.processes.locks import LockHeld, lock_if_free, take_lock

HOUSE = Path(components.__file__).parents[1]
POSIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios"}
HOLDER = "import sys, time; print('up', flush=True); time.sleep(60)"
PARENT = """
import subprocess, sys
from pathlib import Path
from components.processes.endings import keeping_open, leader_of_a_group
from components.processes.locks import take_lock

lock = take_lock(Path(sys.argv[1]))
command = [sys.executable, "-c", sys.argv[2]]
child = subprocess.Popen(command, **leader_of_a_group(), **keeping_open(lock.fileno()))
print(child.pid, flush=True)
child.wait()
"""
GROUP = """
import os, subprocess, sys, time
from components.processes.endings import end_group_with_parent

end_group_with_parent(os.getppid())
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
time.sleep(60)
"""
LAUNCHER = """
import subprocess, sys
from components.processes.endings import leader_of_a_group

command = [sys.executable, "-c", sys.argv[1]]
child = subprocess.Popen(command, **leader_of_a_group(), stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline(), flush=True)
child.wait()
"""


def until(condition, seconds=30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def started(code: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *arguments],
        env=own_modules_only({**os.environ, "PYTHONPATH": str(HOUSE)}),
        stdout=subprocess.PIPE,
        text=True,
    )


def free(path: Path) -> bool:
    try:
        take_lock(path).close()
    except LockHeld:
        return False
    return True


def test_one_holder_at_a_time(tmp_path):
    with take_lock(tmp_path / ".lock"):
        with pytest.raises(LockHeld, match=r"\.lock"):
            take_lock(tmp_path / ".lock")
        descriptor = os.open(tmp_path / ".lock", os.O_RDONLY)
        assert not lock_if_free(descriptor)
    assert lock_if_free(descriptor)
    assert not free(tmp_path / ".lock")
    os.close(descriptor)
    assert free(tmp_path / ".lock")


def test_the_file_is_kept_as_it_is(tmp_path):
    """A lock file that an older version holds is the same lock: the kernel's, on this file."""
    import fcntl

    with (tmp_path / ".lock").open("w") as older:
        fcntl.flock(older, fcntl.LOCK_EX)
        assert not free(tmp_path / ".lock")
    assert free(tmp_path / ".lock")


def test_a_waiting_one_gets_the_lock_when_the_other_lets_go(tmp_path):
    holder = started(
        "import sys, time; from pathlib import Path; from components.processes.locks import take_lock\n"
        "lock = take_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(0.5)",
        str(tmp_path / ".lock"),
    )
    assert holder.stdout.readline() == "held\n"
    assert not free(tmp_path / ".lock")
    take_lock(tmp_path / ".lock", wait=True).close()
    assert holder.wait() == 0


def test_a_folder_that_is_absent_is_the_callers_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        take_lock(tmp_path / "absent" / ".lock")


@pytest.mark.skipif(os.name != "posix", reason="a child inherits no descriptor there")
def test_the_lock_is_held_until_the_child_of_a_killed_holder_ends_too(tmp_path):
    path = tmp_path / ".lock"
    parent = started(PARENT, str(path), "import time; time.sleep(60)")
    child = int(parent.stdout.readline())
    assert not free(path)
    parent.kill()
    parent.wait()
    assert not gone(child)
    assert not free(path)
    os.kill(child, KILL)
    until(lambda: free(path))


@pytest.mark.skipif(os.name != "posix", reason="a child inherits no descriptor there")
def test_a_child_that_is_not_told_to_keep_it_does_not(tmp_path):
    with take_lock(tmp_path / ".lock"):
        child = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "up\n"
    assert free(tmp_path / ".lock")
    child.kill()
    child.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a parent's death on Linux only")
def test_a_group_ends_when_its_leaders_parent_is_killed():
    launcher = started(LAUNCHER, GROUP)
    leader, member = (int(text) for text in launcher.stdout.readline().split())
    assert not gone(leader)
    assert not gone(member)
    launcher.kill()
    launcher.wait()
    until(lambda: gone(leader) and gone(member))


@pytest.mark.skipif(os.name != "posix", reason="there are no groups there")
def test_a_group_ends_whose_leaders_parent_was_killed_before_it_could_ask():
    waits = GROUP.replace("(os.getppid())", "(int(sys.argv[1]))").replace("import os,", "import os, select,")
    waits = waits.replace("\nend_group", "\nselect.select([sys.stdin], [], [])\nend_group", 1)
    launch = (
        "import os, subprocess, sys\nfrom components.processes.endings import leader_of_a_group\n"
        "command = [sys.executable, '-c', sys.argv[1], str(os.getpid())]\n"
        "child = subprocess.Popen(command, **leader_of_a_group(), stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\nchild.wait()"
    )
    launcher = started(launch, waits)
    leader = int(launcher.stdout.readline())
    launcher.kill()  # which closes the leader's standard input
    launcher.wait()
    until(lambda: gone(leader))


@pytest.mark.skipif(os.name != "posix", reason="there are no groups there")
def test_a_signal_reaches_the_whole_group():
    leader = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {HOLDER!r}])"],
        stdout=subprocess.PIPE,
        text=True,
        **leader_of_a_group(),
    )
    assert leader.stdout.readline() == "up\n"
    signal_group(leader, signal.SIGTERM)
    leader.wait()
    assert leader.stdout.read() == "", "the pipe is closed once nobody of the group is left"
    signal_group(leader, signal.SIGTERM)


def test_without_groups_and_inheritance_a_process_can_still_be_started(monkeypatch):
    from components.processes import endings

    monkeypatch.setattr(endings, "_GROUPS", False)
    monkeypatch.setattr(endings.os, "name", "nt")
    assert leader_of_a_group(ends_by=signal.SIGTERM) == {"creationflags": 0}
    assert keeping_open(3) == {}


def test_nobody_else_locks_or_imports_what_only_some_systems_have():
    """Pods of this machine are made of Linux's namespaces: there such things stand within functions."""
    found = {}
    for folder in ("components", "pipelines", "serving", "feature_repo"):
        for path in sorted((HOUSE / folder).rglob("*.py")):
            tree, name = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(HOUSE).as_posix()
            pods = name.startswith("pipelines/runners/pods/")
            nodes = tree.body if pods else list(ast.walk(tree))
            names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
            names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
            attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            own = pods or name == "components/processes/endings.py"
            wrong = (names & POSIX_ONLY) | (
                attributes & {"SIGKILL", "killpg", "prctl", "flock"} if not own else set()
            )
            if wrong:
                found[name] = sorted(wrong)
    assert not found
