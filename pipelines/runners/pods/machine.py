"""What pods see of this machine: the system's programs and the installed packages, read-only. They play the
image.
"""

import os
import subprocess
import sys
from pathlib import Path

from components.processes.imports import HOUSE
from pipelines.runners.pods.declared import PodError

INSIDE = Path(__file__).with_name("inside.py")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/sys")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
PACKAGES = ("components", "feature_repo", "pipelines", "serving")
# Above the ids that systems give to people and services, below those of most containers' users.
FIRST_USER = 54321


def require_namespaces() -> None:
    """Raises PodError, with what to do, where this machine refuses what a pod needs."""
    if sys.platform != "linux":
        raise PodError(
            "Pods need Linux's namespaces, which this system does not have. Leave out --runner pods."
        )
    tried = subprocess.run([*isolated_python(), str(INSIDE)], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise PodError(
            "This machine refuses the namespaces that pods need"
            f" ({tried.stderr.strip() or 'no reason given'})."
            " Allow them (sysctl user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns;"
            " in a container --privileged), or leave out --runner pods."
        )


def isolated_python() -> list[str]:
    """The command that runs a file with the standard library alone."""
    return [sys.executable, "-I", "-S"]


def pod_user() -> int:
    """A number that is no account of this machine, nor of whom this process belongs to."""
    number = FIRST_USER
    while number == os.geteuid() or _has_account(number):
        number += 1
    return number


def image_mounts() -> list[dict]:
    """Mounts, for the plan of a pod, of what plays the image; and links that the system has for folders."""
    found: list[dict] = []
    for place in [*map(Path, SYSTEM), *_python_places()]:
        if place.is_dir() and not place.is_symlink() and not _is_seen(place, found):
            found.append(mount(place, str(place)))
    resolver = Path(os.path.realpath("/etc/resolv.conf"))
    if resolver.is_file() and not _is_seen(resolver, found):
        found.append(mount(resolver, str(resolver)))
    return found + [mount(Path(device), device) for device in DEVICES if os.path.exists(device)]


def image_links() -> dict[str, str]:
    """Links of the root folder: those of devices, and of system folders that are links here."""
    system = {place: os.readlink(place) for place in SYSTEM if os.path.islink(place)}
    return {**LINKS, **system}


def graphics_mounts() -> list[dict]:
    """Devices of GPUs, for tasks that ask for one."""
    return [
        mount(place, str(place), writable=True)
        for place in Path("/dev").glob("nvidia*")
        if not place.is_dir()
    ]


def image_path() -> str:
    """PATH in a pod: this Python's programs, then the system's."""
    own = str(Path(sys.executable).parent)
    return os.pathsep.join([own, "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"])


def mount(source: Path, target: str, *, writable: bool = False) -> dict:
    """A mount, for the plan of a pod, of a folder or file of this machine."""
    kind = "folder" if source.is_dir() else "file"
    return {"kind": kind, "source": str(source), "target": target, "writable": writable}


def _python_places() -> list[Path]:
    """Folders of this Python and of all that is installed for it; of a checkout only our packages."""
    submitters = {*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(HOUSE), os.getcwd()}
    packages = [place for place in sys.path if place and place not in submitters]
    places = [sys.prefix, sys.base_prefix, sys.exec_prefix, *packages]
    return [Path(place).absolute() for place in places] + [HOUSE / name for name in PACKAGES]


def _is_seen(place: Path, mounts: list[dict]) -> bool:
    return any(place.is_relative_to(one["source"]) for one in mounts)


def _has_account(number: int) -> bool:
    import pwd  # Windows, whose other runners import this module too, has none.

    try:
        pwd.getpwuid(number)
    except KeyError:
        return False
    return True
