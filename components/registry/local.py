"""A registry inside a run folder lies where the folder lies, moved or copied: its artifacts are those beside
its database, whatever addresses the database holds from before.
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
BUNDLE = "bundle"  # among the artifacts of a run
_SQLITE = "sqlite:///"
# Where MLflow keeps the addresses of artifacts, by table and column.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def local_folder(client: "MlflowClient") -> Path | None:
    """The folder of a registry that lies inside a run folder; None for a server or another database."""
    uri = client.tracking_uri
    database = Path(uri.removeprefix(_SQLITE))
    return database.parent if uri.startswith(_SQLITE) and database.name == DATABASE else None


def own_artifacts(client: "MlflowClient", run_id: str, address: str) -> Path | None:
    """The folder in which a run's artifacts lie beside the database; None where `address`, which the database
    gives for one of them, is not of the layout that `open_registry` makes.
    """
    folder = local_folder(client)
    layout = f"/{ARTIFACTS}/{run_id}/artifacts"
    if folder is None or layout not in address:
        return None
    return folder / layout.removeprefix("/")


def move_addresses(folder: Path, before: str) -> None:
    """Let what the database says of artifacts at the address `before` say where they are in `folder` now: new
    runs are written there, and MLflow's own pages find the old ones.
    """
    now = (folder / ARTIFACTS).as_uri()
    with contextlib.closing(sqlite3.connect(folder / DATABASE, timeout=30)) as database, database:
        for table, column in _ADDRESSES:
            database.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
            )
