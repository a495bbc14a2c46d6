"""Follows the registry: asks who is champion and hands the service a checked copy of its bundle. A process of
its own, the only one that imports MLflow.

A registry that is gone, slow or hangs, or a champion that is broken, leaves `champion.json` as it was: the
service goes on with the model that it has. What went wrong stands in `champion_watch.json`.
"""

import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from components.contracts import AlphaloopError, BundleError, ContractError, OutputError, file_sha256
from components.contracts.bundle import MANIFEST
from components.credentials import without_secrets
from components.mlflow_plugins import leave_out_feast
from components.processes.endings import end_with_parent
from components.processes.imports import python_module
from serving.faults import trace
from serving.processes.documents import FOLLOWER_FILE, ChampionNotice, FollowerReport, RefusedVersion
from serving.processes.plan import ServingPlan, read_plan

# MLflow takes seconds to import.
if TYPE_CHECKING:
    from mlflow import MlflowClient

    from components.registry.aliases import PresentChampion

_REFUSED_AGAIN_S = 30.0
# Error codes of MLflow for a server that can't answer now; others are faults of the question.
_REGISTRY_IS_DOWN = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class RegistryReplaced(Exception):
    """The database file is another one than the open connection belongs to."""


class RegistryFollower:
    """What is known of the champion, and how to look again."""

    def __init__(self, plan: ServingPlan) -> None:
        self.plan = plan
        self.registry = plan.folder / "registry"
        self.bundles = plan.serving_folder / "champions"
        self.problem: str | None = None
        self.refused: RefusedVersion | None = None
        self._refused_sha: str | None = None
        self._try_again_at = 0.0
        self._checked: str | None = None
        self._database: tuple[int, int] | None = None
        self._logged: str | None = None

    def look(self) -> None:
        """Look once; what stands in the way ends up in `problem` or `refused`.

        Raises RegistryReplaced only.
        """
        fault = None
        try:
            self.problem = self._look()
        except RegistryReplaced:
            raise
        except Exception as error:  # this process must outlive whatever a registry answers
            self.problem, fault = _problem(error), error
        self._log(self.problem, fault)

    def write_report(self, problem: str | None = None) -> None:
        """Write `champion_watch.json`; `problem` stands in for one that was found by others."""
        report = FollowerReport(
            checked_at=datetime.now(UTC), problem=problem or self.problem, refused=self.refused
        )
        with suppress(OutputError):
            report.write(self.plan.serving_folder / FOLLOWER_FILE)

    def _look(self) -> str | None:
        from components.registry.aliases import present_champion

        client = self._open()
        present = present_champion(client, self.plan.name)
        held = self._held()
        if present is None:
            return f"The registry names no champion of {self.plan.name}" + (
                f"; version {held.version} goes on being served."
                if held
                else ". `alphaloop run` makes the first one."
            )
        sha256 = present.bundle_sha256 or ""
        if (
            held
            and self._checked == sha256
            and held.bundle_sha256 == sha256
            and held.version == present.version
            and present.since in (None, held.since)
        ):
            self._accept(sha256)
            return None
        if self._refused_sha == f"{present.version} {sha256}" and time.monotonic() < self._try_again_at:
            return None
        try:
            folder = self._fetch(client, present)
        except BundleError as error:
            self._refuse(present, sha256, str(error))
            return None
        self._announce(client, present, folder, held)
        self._accept(sha256)
        return None

    def _open(self) -> "MlflowClient":
        from components.registry.client import open_existing

        database = self.registry / "mlflow.db"
        if not self.plan.registry.tracking_uri:
            with suppress(FileNotFoundError):
                found = database.stat()
                if self._database not in (None, (found.st_dev, found.st_ino)):
                    raise RegistryReplaced
                self._database = (found.st_dev, found.st_ino)
        return open_existing(self.plan.registry, self.registry)

    def _fetch(self, client: "MlflowClient", present: "PresentChampion") -> Path:
        """The champion's folder below `champions`, each file of it checked; copied from the registry where it
        is not there whole.
        """
        from components.registry.versions import fetch_bundle, verify_registered

        sha256 = present.bundle_sha256 or ""
        if not _SHA256.fullmatch(sha256):
            raise BundleError(
                f"Version {present.version} of {present.name} carries no SHA-256 of its bundle, so"
                " nobody can tell whether it is whole. Register the model again."
            )
        folder = self.bundles / sha256
        try:
            verify_registered(client, present.name, present.version, folder)
            return folder
        except BundleError:
            self._drop(folder)
        self.bundles.mkdir(parents=True, exist_ok=True)
        fetch_bundle(client, present.name, present.version, folder)
        return folder

    def _drop(self, folder: Path) -> None:
        """Remove a damaged copy at once as a whole: somebody may be reading it."""
        if folder.exists():
            aside = folder.with_name(f".damaged-{folder.name}-{time.time_ns()}")
            folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def _announce(
        self, client: "MlflowClient", present: "PresentChampion", folder: Path, held: ChampionNotice | None
    ) -> None:
        from components.registry.trials import read_verdict

        now = datetime.now(UTC).replace(microsecond=0)
        version, sha256 = present.version, present.bundle_sha256
        same = held is not None and (held.version, held.bundle_sha256) == (version, sha256)
        notice = ChampionNotice(
            name=present.name,
            version=version,
            bundle_sha256=sha256,
            folder=str(folder.absolute()),
            manifest_sha256=file_sha256(folder / MANIFEST),
            since=present.since or (held.since if same else now.isoformat()),
            who=present.who,
            why=present.why,
            verdict=held.verdict if same and held.verdict else _in_json(read_verdict(client, present.run_id)),
            fetched_at=now,
        )
        notice.write(self.plan.champion_file)
        if not same:
            say(f"champion is {notice.name} version {version} ({sha256[:12]})")
        self._prune(folder)

    def _held(self) -> ChampionNotice | None:
        """The champion that was handed over last; None before the first, or if its notice can't be read."""
        try:
            return ChampionNotice.read(self.plan.champion_file)
        except ContractError:
            return None

    def _accept(self, sha256: str) -> None:
        self._checked, self.refused, self._refused_sha = sha256, None, None

    def _refuse(self, present: "PresentChampion", sha256: str, reason: str) -> None:
        self._try_again_at = time.monotonic() + _REFUSED_AGAIN_S
        known, self._refused_sha = self._refused_sha, f"{present.version} {sha256}"
        if known != self._refused_sha or self.refused is None:
            self.refused = RefusedVersion(
                version=present.version, reason=reason, when=datetime.now(UTC).replace(microsecond=0)
            )
            say(f"refused version {present.version}: {reason}")

    def _prune(self, present: Path) -> None:
        """Keep the bundles of the last champions; the order is that in which they came, whatever the clock
        was set to meanwhile.
        """
        for leftover in self.bundles.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)
        latest = max(path.stat().st_mtime_ns for path in self.bundles.iterdir())
        os.utime(present, ns=(latest + 1_000_000, latest + 1_000_000))
        others = sorted(
            (path for path in self.bundles.iterdir() if path != present),
            key=lambda path: path.stat().st_mtime,
            reverse=True,
        )
        for path in others[self.plan.serving.keep_champions - 1 :]:
            shutil.rmtree(path, ignore_errors=True)

    def _log(self, problem: str | None, fault: Exception | None) -> None:
        if problem == self._logged:
            return
        self._logged = problem
        say(problem or "the registry answers again")
        if fault is not None and not _is_expected(fault):
            say(without_secrets(trace(fault)))


def _in_json(verdict: dict[str, Any] | None) -> dict[str, JsonValue] | None:
    """The verdict with null for numbers that JSON does not know."""
    return from_json(to_json(verdict, inf_nan_mode="null"))


def _problem(error: Exception) -> str:
    if isinstance(error, AlphaloopError):
        return str(error)
    kind, text = type(error).__name__, without_secrets(str(error))
    return f"The registry did not answer as expected: {kind}: {text}"


def _is_expected(error: Exception) -> bool:
    """Whether this is what a registry does that is gone, slow or being started again."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in _REGISTRY_IS_DOWN
    return isinstance(error, AlphaloopError | OSError)


def run(plan: ServingPlan, start_over: Callable[[], None]) -> None:
    """Look every few seconds until told to stop; `start_over()` is called where only a fresh
    process helps.
    """
    stop = end_with_parent()
    timeout_s = plan.serving.registry_timeout_s
    # MLflow waits two minutes and tries seven times by itself.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(int(timeout_s / 3), 1)))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT", str(max(int(timeout_s / 3), 1)))
    leave_out_feast()
    # Seconds of import are not the registry's.
    from mlflow import MlflowClient  # noqa: F401

    import components.registry.aliases
    import components.registry.trials  # noqa: F401

    follower, looks, told = RegistryFollower(plan), _Looks(), 0.0
    while not stop.is_set():
        looks.begin(follower)
        while not looks.wait(0.1) and not stop.is_set():
            if time.monotonic() - told >= max(plan.serving.registry_poll_seconds, 1.0):
                told = time.monotonic()
                follower.write_report()
            if looks.seconds > timeout_s:
                problem = (
                    f"The registry has not answered for {timeout_s:.0f} s. Check registry.tracking_uri and"
                    " that the server runs; asking again."
                )
                say(problem)
                follower.write_report(problem)
                start_over()
        if looks.replaced:
            start_over()
        told = time.monotonic()
        follower.write_report()
        stop.wait(plan.serving.registry_poll_seconds)


class _Looks:
    """One look at a time in a thread of its own, so that a registry that hangs does not take this process
    with it.
    """

    def __init__(self) -> None:
        self.replaced = False
        self._began = 0.0
        self._done = threading.Event()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def begin(self, follower: RegistryFollower) -> None:
        self._done.clear()
        self._began = time.monotonic()
        threading.Thread(target=self._look, args=(follower,), daemon=True, name="look").start()

    def wait(self, seconds: float) -> bool:
        return self._done.wait(seconds)

    def _look(self, follower: RegistryFollower) -> None:
        try:
            follower.look()
        except RegistryReplaced:
            self.replaced = True
        finally:
            self._done.set()


def say(message: str) -> None:
    """One line of this process's log."""
    print(f"[champion watcher] {message}", file=sys.stderr, flush=True)


def main() -> None:
    """`python -m serving.processes.registry_follower PLAN`."""
    try:
        run(
            read_plan(sys.argv[1] if len(sys.argv) > 1 else None),
            lambda: os.execv(
                sys.executable, python_module("serving.processes.registry_follower", *sys.argv[1:])
            ),
        )
    except AlphaloopError as error:
        say(str(error))
        sys.exit(error.exit_code)
    # A look that hangs must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
