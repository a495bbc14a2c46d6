"""A small run with two bundles, made once for all tests of serving, copies of it that a test may spoil, and
one service for all tests that can live with the same settings.
"""

import dataclasses
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.serving.live_service import Live, live_service, until
from tests.serving.small_champion import SmallRun, crown, make_run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> SmallRun:
    """The run itself; leave it as it is."""
    return make_run(tmp_path_factory.mktemp("small") / "run")


@pytest.fixture
def run_copy(small_run, tmp_path) -> SmallRun:
    """A copy of the run's folder for one test."""
    return copy_run(small_run, tmp_path / "run")


# Besides its limits what the shared service is told of a proxy and of pages in browsers.
PREFIX, ORIGIN = "/desk/alpha", "https://dashboard.example"
MOST_SYMBOLS, MOST_ROWS, MOST_BYTES = 30, 40, 4 * 2**20


@dataclass(frozen=True)
class Shared:
    """A run and the service that runs on it. Starting one costs many times what most tests do with it."""

    run: SmallRun
    live: Live

    def crown(self, bundle: Path, version: int, *, why: str = "test") -> None:
        """Make a bundle the champion and wait until it answers."""
        crown(self.run.folder, bundle, version, why=why)
        until(lambda: self.served() == version, what=f"version {version} of {bundle.name[:12]}")

    def served(self) -> int | None:
        """Version of the model that answers."""
        return self.live.client.get("/model").json().get("version")

    def looked(self, times: int = 2) -> None:
        """Wait until the service has looked again at all that it serves."""
        for _ in range(times):
            before = self.live.metric("snapshot_age_seconds")
            until(
                lambda before=before: self.live.metric("snapshot_age_seconds") != before, what="another look"
            )


@pytest.fixture(scope="session")
def shared(small_run, tmp_path_factory) -> Iterator[Shared]:
    """Each module crowns its own champion and leaves the store as it was."""
    run = copy_run(small_run, tmp_path_factory.mktemp("shared") / "run")
    crown(run.folder, run.bundles[0], 1)
    (run.folder / "review").mkdir()
    (run.folder / "review" / "index.html").write_text("<h1>review</h1>")
    (run.folder / "secret.txt").write_text("not for clients")
    (run.folder / "review" / "link.html").symlink_to(run.folder / "secret.txt")
    limits = {"max_symbols": MOST_SYMBOLS, "max_rows": MOST_ROWS, "max_body_bytes": MOST_BYTES}
    with live_service(run.plan({**limits, "prefix": PREFIX, "cors_origins": (ORIGIN,)})) as live:
        yield Shared(run, live)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """A registry's database without models: MLflow takes seconds to make its tables."""
    from components.registry.client import open_registry
    from components.registry.config import Settings as RegistrySettings

    folder = tmp_path_factory.mktemp("registry")
    open_registry(RegistrySettings(), folder).search_registered_models()
    return folder / "mlflow.db"


def copy_run(run: SmallRun, folder) -> SmallRun:
    """The run in another folder, its bundles included."""
    shutil.copytree(run.folder, folder)
    return dataclasses.replace(
        run, folder=folder, bundles=[folder / "bundles" / bundle.name for bundle in run.bundles]
    )
