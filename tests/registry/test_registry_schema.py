"""Databases that another MLflow wrote: a look at them changes nothing, and the message says what to do."""

import hashlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from components.registry.client import RegistryError, open_existing, open_registry
from components.registry.config import Settings


@pytest.fixture(scope="module")
def present(tmp_path_factory) -> Path:
    """A database of the installed MLflow."""
    folder = tmp_path_factory.mktemp("present")
    open_registry(Settings(), folder).search_registered_models()
    return folder / "mlflow.db"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("revision", "says"),
    [
        ("f00dfeedf00d", r"newer MLflow \(its tables are of revision f00dfeedf00d.*update this one"),
        ("cfd24bdc0731", r"older MLflow.*mlflow db upgrade sqlite:///.*mlflow\.db"),
        ("bd07f7e963c5", r"older MLflow.*Make a copy of it"),
    ],
)
@pytest.mark.parametrize("how", ["in the run folder", "by its address"])
def test_a_database_of_another_mlflow_is_named_and_left_alone(tmp_path, present, revision, says, how):
    database = tmp_path / "mlflow.db"
    shutil.copy(present, database)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.execute("DROP TABLE traces" if "CREATE TABLE traces" in dump(connection) else "SELECT 1")
    before = sha256(database)
    settings = Settings(tracking_uri="" if how == "in the run folder" else f"sqlite:///{database}")
    with pytest.raises(RegistryError, match=says):
        open_existing(settings, tmp_path)
    assert sha256(database) == before


def dump(connection: sqlite3.Connection) -> str:
    return "\n".join(row[0] or "" for row in connection.execute("SELECT sql FROM sqlite_master"))


def test_the_installed_mlflow_opens_its_own_database_without_a_change(tmp_path, present):
    shutil.copy(present, tmp_path / "mlflow.db")
    before = sha256(tmp_path / "mlflow.db")
    assert open_existing(Settings(), tmp_path).get_experiment_by_name("none") is None
    assert sha256(tmp_path / "mlflow.db") == before


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("postgresql+nodriver://ada:secret@127.0.0.1:1/x", "can't be opened as a registry"),
        ("sqlite:///{folder}/text.db", "file is not a database"),
    ],
)
def test_what_is_no_database_is_explained_without_its_password(tmp_path, uri, says):
    (tmp_path / "text.db").write_text("not a database" * 100)
    with pytest.raises(RegistryError, match=says) as raised:
        open_existing(Settings(tracking_uri=uri.format(folder=tmp_path)), tmp_path)
    assert "secret" not in str(raised.value)
