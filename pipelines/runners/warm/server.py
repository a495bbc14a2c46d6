"""The warm process: it imports what tasks need and is forked for each. A task so has a process of its own, as
if it had been started afresh: its own memory, environment, output and exit code.

A thread does not survive a fork, and what it held stays locked. So here nothing runs that starts threads, and
nothing is forked where a thread is found other than those of libraries that take care of forks themselves.

Our own modules are imported here too, those that the doors of tasks name. A task that finds one of their
files changed since then imports all of ours anew: a checkout may change while a run lasts, and old ones would
not go with new ones.

Multiprocessing's forkserver works alike; but it imports the run's own modules into each child, and its
children outlive a server that is killed.
"""

import ast
import atexit
import ctypes
import importlib
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from components.contracts import require_json
from components.processes.endings import KILL, die_with_parent
from components.processes.imports import HOUSE

# Threads that may be there when we fork. OpenBLAS, whose threads have the process's own name, ends and
# starts them around a fork, and jemalloc takes its locks; Polars has one that waits to delete what was
# spilled to disk, which no task of ours does.
HARMLESS_THREADS = ("jemalloc_bg_thd", "polars-ooc-clea")
REQUEST_BYTES = 64 * 1024
OURS = ("components", "feature_repo", "pipelines", "serving")
THREADS = Path("/proc/self/task")
# What tells a file that was written again, or put in another's place, from the one that was read.
State = tuple[int, int, int, int]


@dataclass(frozen=True)
class Task:
    """What the process of a task is given: the source of its door, the arguments of kfp's executor, and file
    descriptors for its output and for how it ended.
    """

    source: str
    arguments: list[str]
    output: int
    ended: int


def next_task(connection: socket.socket, modules: Sequence[str] = ()) -> Task | None:
    """Import `modules`, what every task needs, then fork for each task that is asked for, and tell how it
    ended; returns the task in its own process, and None here once nobody can ask any more.

    A request is a file that holds `source`, `arguments` and `modules`, what is to be imported before the
    fork; with it come the two descriptors. The answer is the process's number, or 0 where a fork would not be
    safe.
    """
    before = own_files()
    _forget_ours()
    _import(modules)
    heard, waker = os.pipe()
    for end in (heard, waker):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    running: dict[int, int] = {}
    while True:
        ready, *_ = select.select([connection, heard], [], [])
        if heard in ready:
            _tell_ended(running, heard)
        if connection not in ready:
            continue
        named, descriptors, *_ = socket.recv_fds(connection, REQUEST_BYTES, 2)
        if not named:
            # What still runs dies with us.
            return None
        request = require_json(Path(named.decode()))
        task = Task(request["source"], request["arguments"], *descriptors)
        _import([*request["modules"], *_ours_in(task.source)])
        if _harmful_threads():
            connection.sendall(b"0\n")
            _close(descriptors)
            continue
        server = os.getpid()
        number = os.fork()
        if not number:
            _close([connection.fileno(), heard, waker, *running.values()])
            _begin(task, server, before)
            return task
        running[number] = task.ended
        os.close(task.output)
        connection.sendall(f"{number}\n".encode())


def run(task: Task) -> None:
    """What kfp's command of a task does (`kfp.dsl.component_factory`), in this process."""
    from kfp.dsl.executor_main import executor_main

    door = Path(tempfile.mkdtemp()) / "ephemeral_component.py"
    door.write_text(task.source, encoding="utf-8")
    sys.argv = [sys.argv[0], "--component_module_path", str(door), *task.arguments]
    executor_main()


def end_of(task: Task) -> int:
    """Run a task to the end of its process but for one thing, and return its exit code: threads are waited
    for, what is registered for the end is done, all output is written.

    Left out is that Python takes apart everything that was ever imported: with what a fork shares it took
    ten times as long as all else.
    """
    try:
        run(task)
        code = 0
    except SystemExit as stop:
        known = stop.code is None or isinstance(stop.code, int)
        code = (stop.code or 0) if known else 1
        if not known:
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    ctypes.CDLL(None).fflush(None)
    return code


def own_files() -> dict[str, State]:
    """All our own modules that could be imported, by path, as they are."""
    places = (folder for floor in OURS for folder, _, _ in os.walk(HOUSE / floor))
    files = (entry for place in places for entry in os.scandir(place) if entry.name.endswith(".py"))
    return {entry.path: _state(entry.path) for entry in files}


def _state(path: str) -> State:
    about = os.stat(path)
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _ours() -> list[str]:
    """Names of our own modules that are imported."""
    return [name for name in sys.modules if name.partition(".")[0] in OURS]


def _forget_ours() -> None:
    """Have our own modules imported anew."""
    for name in _ours():
        del sys.modules[name]


def _ours_changed(before: Mapping[str, State]) -> bool:
    """Whether one of our modules is not as it was before it was imported."""
    files = [getattr(sys.modules[name], "__file__", None) for name in _ours()]
    try:
        return any(_state(file) != before.get(file) for file in files if file)
    except OSError:
        return True


def _ours_in(source: str) -> list[str]:
    """Our own modules that a door imports; none of one that can't be read, which fails as a task."""
    try:
        nodes = ast.walk(ast.parse(source))
    except SyntaxError:
        return []
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return [node.module for node in imports if node.module and node.module.partition(".")[0] in OURS]


def _import(modules: Iterable[str]) -> None:
    """Import what the next task and others after it need. What can't be imported is left to the task, which
    fails with a trace of its own.
    """
    for name in modules:
        module, _, function = name.partition(":")
        with suppress(Exception, SystemExit):
            found = importlib.import_module(module)
            if function:
                getattr(found, function)()


def _harmful_threads() -> list[str]:
    """Names of the threads that forbid a fork."""
    own = (THREADS.parent / "comm").read_text(encoding="utf-8")
    names = [(one / "comm").read_text(encoding="utf-8") for one in THREADS.iterdir()]
    native = [name.strip() for name in names if name != own and name.strip() not in HARMLESS_THREADS]
    return native + [one.name for one in threading.enumerate() if one is not threading.main_thread()]


def _begin(task: Task, server: int, before: Mapping[str, State]) -> None:
    """Make of a fork the process of a task: signals as in a new process, its own output and numbers drawn at
    random; it ends with the server. Of our own modules it has those that are still as they were `before`.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent(KILL)
    if os.getppid() != server:
        os._exit(1)
    for standard in (1, 2):
        os.dup2(task.output, standard)
    _close([task.output, task.ended])
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if _ours_changed(before):
        _forget_ours()


def _tell_ended(running: dict[int, int], heard: int) -> None:
    """Tell of each task that ended its exit code, negative the signal that ended it."""
    with suppress(BlockingIOError):
        while os.read(heard, REQUEST_BYTES):
            pass
    for number in list(running):
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            ended = running.pop(number)
            os.write(ended, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(ended)


def _close(descriptors: Iterable[int]) -> None:
    for one in descriptors:
        os.close(one)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as ours:
        wanted = next_task(ours, sys.argv[2:])
        if wanted is not None:
            ours.detach()
    if wanted is not None:
        os._exit(end_of(wanted))
