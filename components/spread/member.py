"""One process of a group that `gang` runs, and the task on a node of Ray that starts it and ends with it."""

import os
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

# Where the processes of a group look for the network between them; else they take what the machine's own name
# leads to, which is often the loopback.
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def log_of(folder: Path, rank: int) -> Path:
    """Where a process of the group prints."""
    return folder / f"member-{rank}.log"


def member(command: str, argument: str, environment: Mapping[str, str], sources: str) -> int:
    """Run the module `command` with the path `argument`, what it prints to a file beside that; returns its
    exit code. It ends when this task does, whatever way.
    """
    os.environ.update(environment)
    import ray

    from components.contracts import ContractError
    from components.processes.imports import own_modules_only, python_module
    from components.processes.sources import OtherCode, task_sources

    if sources and sources != task_sources():
        raise OtherCode(f"it holds other code than the run that asks it: {task_sources()}, {sources} there")
    if not Path(argument).exists():
        raise ContractError(
            f"{argument} is not seen from {socket.gethostname()}: each node must have the run's folder at the"
            " same path"
        )
    surroundings = own_modules_only()
    surroundings["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    if interface := _interface(ray.util.get_node_ip_address()):
        surroundings = {**dict.fromkeys(INTERFACES, interface), **surroundings}
    with log_of(Path(argument).parent, int(environment["RANK"])).open("wb") as log:
        process = subprocess.Popen(
            python_module("components.spread.member", command, argument),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=surroundings,
        )
        try:
            return process.wait()
        finally:
            process.kill()


def _interface(address: str) -> str:
    """The network interface that has an address."""
    import psutil

    found = psutil.net_if_addrs()
    return next((name for name, ends in found.items() if any(one.address == address for one in ends)), "")


def main(command: str, *arguments: str) -> None:
    """Be the module `command`, until the task that started it is gone."""
    threading.Thread(target=_leave_with_task, daemon=True).start()
    sys.argv = [command, *arguments]
    runpy.run_module(command, run_name="__main__", alter_sys=True)


def _leave_with_task() -> None:
    # Not by sys.stdin, whose lock Python wants back when it ends.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
