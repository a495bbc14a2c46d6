"""A Docker engine of the tests' own from Debian packages, and in it the images that `infra/image` describes.

No registry is asked for anything.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

from components.image import IMAGE

ROOT = Path(__file__).parents[2]
IMAGE_FILES = ROOT / "infra" / "image"
WHEELS = "infra/image/wheels"
BASE = "alphaloop-base:bookworm"
SERVING = f"alphaloop-serving:{IMAGE.rpartition(':')[2]}"
# By target of the Dockerfile; the one with GPUs would be gigabytes that nothing here can run.
TAGS = {"serving": SERVING, "tasks-cpu": IMAGE}
COMMANDS = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
}
SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
START_S = 60


def require_packages() -> None:
    """Install the Debian packages that are missing; skips where that can't be done."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("starting a Docker engine needs root on Linux")
    missing = sorted(
        {package for command, package in COMMANDS.items() if not shutil.which(command, path=SYSTEM_PATH)}
    )
    if missing and not shutil.which("apt-get"):
        pytest.skip(f"{', '.join(missing)} not installed, and there is no apt-get to install them with")
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], check=True, env=environment)
        subprocess.run(
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
            check=True,
            env=environment,
        )


@contextmanager
def docker_engine() -> Iterator[dict[str, str]]:
    """A dockerd with its own socket and storage until the block ends; yields the environment that leads a
    client to it.
    """
    require_packages()
    folder = Path(
        tempfile.mkdtemp(prefix="alphaloop-docker-")
    )  # short: a socket's path has at most 107 characters
    socket = f"unix://{folder}/docker.sock"
    environment = {**os.environ, "PATH": SYSTEM_PATH, "DOCKER_HOST": socket, "DOCKER_BUILDKIT": "0"}
    places = [
        "--data-root",
        folder / "data",
        "--exec-root",
        folder / "exec",
        "--pidfile",
        folder / "docker.pid",
    ]
    log = folder / "dockerd.log"
    with log.open("w") as output:
        daemon = subprocess.Popen(
            [
                shutil.which("dockerd", path=SYSTEM_PATH),
                "--host",
                socket,
                *places,
                "--bridge",
                "none",
                "--iptables=false",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        _wait_for(daemon, environment, log)
        yield environment
    finally:
        daemon.terminate()
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        _unmount_below(folder)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def engine(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The environment that leads clients to an engine with the images built; any user may ask it."""
    with docker_engine() as environment:
        build_images(environment, tmp_path_factory.mktemp("images"))
        os.chmod(environment["DOCKER_HOST"].removeprefix("unix://"), 0o666)
        yield environment


def build_images(environment: dict[str, str], scratch: Path) -> None:
    """Build the images as the Dockerfile says for places without network: base from Debian packages, wheels
    handed in, no network in the build.
    """
    subprocess.run([IMAGE_FILES / "base.sh", BASE], check=True, env=environment, stdout=subprocess.DEVNULL)
    context = scratch / "context"
    for name in exclude_paths(str(ROOT), (ROOT / ".dockerignore").read_text().splitlines()):
        if (ROOT / name).is_file():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, context / name)
    if not (context / WHEELS).exists():
        subprocess.run(
            [*_pip(), "wheel", "--quiet", "-r", ROOT / "requirements.lock", "-w", context / WHEELS],
            check=True,
        )
    arguments = ["--network", "none", "--build-arg", f"BASE={BASE}", "--build-arg", "PIP_ARGS=--no-index"]
    for target, tag in TAGS.items():
        of = ["-f", IMAGE_FILES / "Dockerfile", "--target", target, "-t", tag]
        subprocess.run(
            ["docker", "build", "--quiet", *of, *arguments, context],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
    shutil.rmtree(context)


def _wait_for(daemon: subprocess.Popen, environment: dict[str, str], log: Path) -> None:
    end = time.monotonic() + START_S
    while subprocess.run(["docker", "info"], env=environment, capture_output=True, check=False).returncode:
        if daemon.poll() is not None or time.monotonic() > end:
            pytest.fail(f"dockerd did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


def _unmount_below(folder: Path) -> None:
    """Let go of what the engine left mounted, such as the host's network namespace."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((place for place in mounted if place.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", place], check=True)


def _pip() -> list[str]:
    """pip of this environment, or of the Python that it was made from."""
    for python in (sys.executable, sys._base_executable):
        if (
            subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode
            == 0
        ):
            return [python, "-m", "pip"]
    pytest.skip("no pip here to fetch the wheels with")
