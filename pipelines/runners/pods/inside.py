"""Puts one task into namespaces of its own and runs it there; a program by itself, started by `pod.py` with
the pod's folder and, on standard input, the plan: it holds secrets, so it is in no file.

It imports the standard library alone, so that it starts in hundredths of a second.

What the task sees is built up from nothing: an empty root, into which the plan's folders are mounted. So what
nobody thought of is hidden as well.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable

NOT_STARTED = 125  # exit code where the pod could not be built, as container engines have it

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 0x1, 0x2
# Numbers of system calls that C libraries before 2.36 have no name for; the same on all common machines.
SYS_MOUNT_SETATTR = 442
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38

libc = ctypes.CDLL(None, use_errno=True)


def main(folder: str) -> int:
    """Run the plan; returns the exit code of the task, 128 and the signal's number where one ended it."""
    plan = json.loads(sys.stdin.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    plan["root"] = os.path.join(folder, "root")
    _enter_namespaces(plan)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != plan["parent"]:
        return NOT_STARTED  # who started us is gone already
    first = os.fork()  # the first process of its own process namespace: when it ends, all in there end
    if first == 0:
        _leave_with(lambda: _first_process(plan))
    return _exit_code(os.waitpid(first, 0)[1])


def probe() -> None:
    """Raises OSError where this machine refuses what a pod needs."""
    plan = {"uid": 1, "host_uid": os.geteuid(), "host_gid": os.getegid(), "hostname": "probe"}
    _enter_namespaces(plan)
    child = os.fork()
    if child == 0:
        _leave_with(_try_mounts)
    if os.waitpid(child, 0)[1]:
        raise OSError("mounting an own /proc and a read-only folder is refused (Linux 5.12 is needed)")


def _try_mounts() -> int:
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount("proc", "/proc", "proc", MS_NOSUID)
    _mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID)
    _protect("/tmp")
    return 0


def _enter_namespaces(plan: dict) -> None:
    """New namespaces for users, mounts, processes, messages and the host's name; outside, this process stays
    the user that it was, inside it is the plan's.
    """
    _check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{plan['uid']} {plan['host_uid']} 1"),
        ("gid_map", f"{plan['uid']} {plan['host_gid']} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    name = plan["hostname"].encode()
    _check(libc.sethostname(name, len(name)), "sethostname")


def _first_process(plan: dict) -> int:
    """Build the pod, run the task in it, and bury every process that ends before it."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _build_root(plan)
    os.umask(0o022)
    os.chdir(plan["working_folder"])
    _give_up_powers()
    task = os.fork()
    if task == 0:
        _leave_with(lambda: os.execvpe(plan["command"][0], plan["command"], plan["environment"]))
    while True:
        ended, status = os.wait()
        if ended == task:
            return _exit_code(status)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _build_root(plan: dict) -> None:
    root = plan["root"]
    _mount(None, "/", None, MS_REC | MS_PRIVATE)  # nothing that is mounted below reaches the machine
    _mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    for mount in plan["mounts"]:
        _mount_one(root, mount)
    for target, source in plan["links"].items():
        os.makedirs(os.path.dirname(root + target), exist_ok=True)
        os.symlink(source, root + target)
    old = os.open("/", os.O_DIRECTORY | os.O_RDONLY)
    os.chdir(root)
    _check(libc.syscall(SYS_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    os.fchdir(old)
    os.close(old)
    _check(libc.umount2(b".", MNT_DETACH), "umount2")  # the old root, which lies on top of the new one
    os.chdir("/")
    _check_attributes("/", 0)


def _mount_one(root: str, mount: dict) -> None:
    """One mount of the plan: a folder or file of this machine, memory, processes, or emptiness."""
    kind, target = mount["kind"], root + mount["target"]
    if kind == "file":
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.exists(target):
            open(target, "x").close()
    else:
        os.makedirs(target, exist_ok=True)
    if kind == "processes":
        _mount("proc", target, "proc", MS_NOSUID | MS_NODEV)
    elif kind == "memory":
        _mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={mount['bytes']}")
    elif kind == "empty":
        _mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=4k")
        _protect(target)
    else:
        _mount(mount["source"], target, None, MS_BIND | MS_REC)
        if not mount["writable"]:
            _protect(target)


def _give_up_powers() -> None:
    """No capability is left to what is executed from here on, and none can be gained."""
    number = 0
    while libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def _protect(target: str) -> None:
    _check_attributes(target, AT_RECURSIVE)


def _check_attributes(target: str, flags: int) -> None:
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, 0, 0)
    done = libc.syscall(
        SYS_MOUNT_SETATTR,
        AT_FDCWD,
        target.encode(),
        flags,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
    )
    _check(done, f"making {target} read-only")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    given = [value.encode() if value is not None else None for value in (source, target, kind)]
    what = f"mounting {source or ''} at {target}"
    _check(libc.mount(*given, ctypes.c_ulong(flags), data.encode() or None), what)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _leave_with(work: Callable[[], int]) -> None:
    """End this forked process with the code that `work` returns."""
    try:
        code = work()
    except BaseException as error:
        print(f"The pod could not be built: {error}", file=sys.stderr, flush=True)
        code = NOT_STARTED
    os._exit(code)


if __name__ == "__main__":
    try:
        sys.exit(probe() if len(sys.argv) == 1 else main(sys.argv[1]))
    except OSError as error:
        print(f"The pod could not be built: {error}", file=sys.stderr)
        sys.exit(NOT_STARTED)
