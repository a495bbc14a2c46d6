"""Asks the registry who is champion and hands the service a checked copy of its bundle: a process of its own,
the only one that imports MLflow.

A registry that is gone, slow or hangs, or a champion that is broken, leaves `champion.json` as it was: the
service goes on with the model that it has. What went wrong stands in `champion_watch.json`.
"""

import json
import os
import re
import shutil
import sys
import threading
import time
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.contracts import AlphaloopError, BundleError, OutputError, atomic_write_text, file_sha256
from components.contracts.bundle import MANIFEST
from serving.processes.child import end_with_parent
from serving.processes.plan import Plan, read_plan

STATUS_FILE = "champion_watch.json"
_REFUSED_AGAIN_S = 30.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


class RegistryReplaced(Exception):
    """The database file is another one than the open connection belongs to."""


class ChampionWatch:
    """What is known of the champion, and how to look again."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.registry = plan.folder / "registry"
        self.bundles = plan.serving_folder / "champions"
        self.problem: str | None = None
        self.refused: dict[str, Any] | None = None
        self._refused_sha: str | None = None
        self._try_again_at = 0.0
        self._checked: str | None = None
        self._database: tuple[int, int] | None = None
        self._logged: str | None = None

    def look(self) -> None:
        """Look once; what stands in the way ends up in `problem` or `refused`.

        Raises RegistryReplaced only.
        """
        try:
            self.problem = self._look()
        except RegistryReplaced:
            raise
        except Exception as error:  # this process must outlive whatever a registry answers
            from components.registry.store import without_secrets

            self.problem = (
                str(error)
                if isinstance(error, AlphaloopError)
                else (
                    f"The registry did not answer as expected: {type(error).__name__}:"
                    f" {without_secrets(str(error))}"
                )
            )
        self._log(self.problem)

    def write_status(self, problem: str | None = None) -> None:
        """Write `champion_watch.json`; `problem` stands in for one that was found by others."""
        status = {
            "checked_at": datetime.now(UTC).isoformat(),
            "problem": problem or self.problem,
            "refused": self.refused,
        }
        with suppress(OutputError):
            atomic_write_text(self.plan.serving_folder / STATUS_FILE, json.dumps(status))

    def _look(self) -> str | None:
        from components.registry.store import present_champion

        client = self._open()
        present = present_champion(client, self.plan.name)
        held = read_json(self.plan.champion_file)
        if present is None:
            return f"The registry names no champion of {self.plan.name}" + (
                f"; version {held['version']} goes on being served."
                if held
                else ". `alphaloop run` makes the first one."
            )
        sha256 = present["bundle_sha256"] or ""
        if (
            held
            and self._checked == sha256
            and held["bundle_sha256"] == sha256
            and held["version"] == present["version"]
            and present["since"] in (None, held["since"])
        ):
            self._accept(sha256)
            return None
        if self._refused_sha == f"{present['version']} {sha256}" and time.monotonic() < self._try_again_at:
            return None
        try:
            folder = self._fetch(client, present)
        except BundleError as error:
            self._refuse(present, sha256, str(error))
            return None
        self._announce(client, present, folder, held)
        self._accept(sha256)
        return None

    def _open(self) -> Any:
        from components.registry.store import open_existing

        database = self.registry / "mlflow.db"
        if not self.plan.registry.tracking_uri:
            with suppress(FileNotFoundError):
                found = database.stat()
                if self._database not in (None, (found.st_dev, found.st_ino)):
                    raise RegistryReplaced
                self._database = (found.st_dev, found.st_ino)
        return open_existing(self.plan.registry, self.registry)

    def _fetch(self, client: Any, present: dict[str, Any]) -> Path:
        """The champion's folder below `champions`, each file of it checked; copied from the registry where it
        is not there whole.
        """
        from components.registry.store import fetch_bundle, verify_registered

        sha256 = present["bundle_sha256"] or ""
        if not _SHA256.fullmatch(sha256):
            raise BundleError(
                f"Version {present['version']} of {present['name']} carries no SHA-256 of its bundle, so"
                " nobody can tell whether it is whole. Register the model again."
            )
        folder = self.bundles / sha256
        try:
            verify_registered(client, present["name"], present["version"], folder)
            os.utime(folder)
            return folder
        except BundleError:
            self._drop(folder)
        self.bundles.mkdir(parents=True, exist_ok=True)
        fetch_bundle(client, present["name"], present["version"], folder)
        return folder

    def _drop(self, folder: Path) -> None:
        """Remove a damaged copy at once as a whole: somebody may be reading it."""
        if folder.exists():
            aside = folder.with_name(f".damaged-{folder.name}-{time.time_ns()}")
            folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def _announce(
        self, client: Any, present: dict[str, Any], folder: Path, held: dict[str, Any] | None
    ) -> None:
        from components.registry.store import read_verdict

        now = datetime.now(UTC).isoformat(timespec="seconds")
        same = (
            held is not None
            and held.get("version") == present["version"]
            and held.get("bundle_sha256") == present["bundle_sha256"]
        )
        about = {
            "name": present["name"],
            "version": present["version"],
            "bundle_sha256": present["bundle_sha256"],
            "folder": str(folder.absolute()),
            "manifest_sha256": file_sha256(folder / MANIFEST),
            "since": present["since"] or (held["since"] if same else now),
            "who": present["who"],
            "why": present["why"],
            "verdict": (
                held["verdict"] if same and held.get("verdict") else read_verdict(client, present["run_id"])
            ),
            "fetched_at": now,
        }
        atomic_write_text(self.plan.champion_file, json.dumps(about, indent=1))
        if not same:
            say(
                f"champion is {present['name']} version {present['version']}"
                f" ({(present['bundle_sha256'])[:12]})"
            )
        self._prune(folder)

    def _accept(self, sha256: str) -> None:
        self._checked, self.refused, self._refused_sha = sha256, None, None

    def _refuse(self, present: dict[str, Any], sha256: str, reason: str) -> None:
        self._try_again_at = time.monotonic() + _REFUSED_AGAIN_S
        known, self._refused_sha = self._refused_sha, f"{present['version']} {sha256}"
        if known != self._refused_sha or self.refused is None:
            self.refused = {
                "version": present["version"],
                "reason": reason,
                "when": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            say(f"refused version {present['version']}: {reason}")

    def _prune(self, present: Path) -> None:
        for leftover in self.bundles.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)
        others = sorted(
            (path for path in self.bundles.iterdir() if path != present),
            key=lambda path: path.stat().st_mtime,
            reverse=True,
        )
        for path in others[self.plan.serving.keep_champions - 1 :]:
            shutil.rmtree(path, ignore_errors=True)

    def _log(self, problem: str | None) -> None:
        if problem != self._logged:
            say(problem or "the registry answers again")
            self._logged = problem


def run(plan: Plan, start_over) -> None:
    """Look every few seconds until told to stop; `start_over()` is called where only a fresh
    process helps.
    """
    stop = end_with_parent()
    timeout_s = plan.serving.registry_timeout_s
    # MLflow waits two minutes and tries seven times by itself.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(int(timeout_s / 3), 1)))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT", str(max(int(timeout_s / 3), 1)))
    # MLflow imports its plugins at the first request, and Feast is one of them: seconds, for a tag that
    # nobody reads here.
    sys.modules["feast"] = None
    warnings.filterwarnings("ignore", message="Failure attempting to register request header provider")
    # Seconds of import are not the registry's.
    from mlflow import MlflowClient  # noqa: F401

    import components.registry.store  # noqa: F401

    watch, looks, told = ChampionWatch(plan), _Looks(), 0.0
    while not stop.is_set():
        looks.begin(watch)
        while not looks.wait(0.1) and not stop.is_set():
            if time.monotonic() - told >= max(plan.serving.registry_poll_seconds, 1.0):
                told = time.monotonic()
                watch.write_status()
            if looks.seconds > timeout_s:
                problem = (
                    f"The registry has not answered for {timeout_s:.0f} s. Check registry.tracking_uri and"
                    " that the server runs; asking again."
                )
                say(problem)
                watch.write_status(problem)
                start_over()
        if looks.replaced:
            start_over()
        told = time.monotonic()
        watch.write_status()
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

    def begin(self, watch: ChampionWatch) -> None:
        self._done.clear()
        self._began = time.monotonic()
        threading.Thread(target=self._look, args=(watch,), daemon=True, name="look").start()

    def wait(self, seconds: float) -> bool:
        return self._done.wait(seconds)

    def _look(self, watch: ChampionWatch) -> None:
        try:
            watch.look()
        except RegistryReplaced:
            self.replaced = True
        finally:
            self._done.set()


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file, None where there is none to be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def say(message: str) -> None:
    """One line of this process's log."""
    print(f"[champion watcher] {message}", file=sys.stderr, flush=True)


def main() -> None:
    """`python -m serving.processes.registry_follower PLAN`."""
    try:
        run(
            read_plan(sys.argv[1] if len(sys.argv) > 1 else None),
            lambda: os.execv(
                sys.executable, [sys.executable, "-m", "serving.processes.registry_follower", *sys.argv[1:]]
            ),
        )
    except AlphaloopError as error:
        say(str(error))
        sys.exit(error.exit_code)
    # A look that hangs must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
