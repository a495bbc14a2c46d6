"""What a run takes from the cache, and how it ends when a person stops it."""

import contextlib
import json
import signal
import sqlite3
import subprocess

import pytest

from components.feature_store.config import Settings
from pipelines.runners.local_child import (
    _forget_lost_publications,
    _forget_other_places,
)
from tests.pipelines.small_run import (
    COMMAND,
    PATIENCE_S,
    RUNS_S,
    processes_of,
    read_events,
    wait_for,
    write_config,
)


def write(path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def made_store(folder, current) -> None:
    """A feature store with one online row a symbol, as far as its state is looked at."""
    write(folder / "current.json", current)
    (folder / "registry.db").write_bytes(b"")
    with contextlib.closing(sqlite3.connect(folder / "online.db")) as database, database:
        database.execute("CREATE TABLE alphaloop_sequence (entity_key BLOB, feature_name TEXT)")
        rows = [(symbol.encode(), "window") for symbol in current["symbols"]]
        database.executemany("INSERT INTO alphaloop_sequence VALUES (?, ?)", rows)


@pytest.mark.parametrize("lost", ["nothing", "file", "rows", "registry", "damaged"])
def test_a_materialisation_runs_again_where_the_online_store_lost_what_it_wrote(tmp_path, lost):
    output = tmp_path / "artifacts" / "alphaloop-a" / "materialise" / "registry"
    write(output, {"publication": "new"})
    store = tmp_path / "feature_store"
    made_store(store, {"publication": "new", "symbols": ["A", "B"]})
    if lost in ("file", "registry"):
        (store / ("online.db" if lost == "file" else "registry.db")).unlink()
    if lost == "damaged":
        (store / "online.db").write_bytes(b"\0" * 4096)
    if lost == "rows":
        with contextlib.closing(sqlite3.connect(store / "online.db")) as database, database:
            database.execute("DELETE FROM alphaloop_sequence WHERE entity_key = ?", (b"B",))
    _forget_lost_publications(tmp_path, Settings())
    assert output.exists() == (lost == "nothing")


def test_a_run_folder_that_was_copied_is_not_answered_from_the_folder_it_came_from(tmp_path):
    cache = tmp_path / "artifacts" / ".kfp_cache"
    for name, place in (("own", tmp_path), ("other", tmp_path / "artifacts-of-before")):
        uri = f"{place}/artifacts/alphaloop-a/{name}/panel"
        write(cache / f"{name}.json", {"panel": {"uri": uri}, "rows": 3})
    write(cache / "number.json", {"rows": 3})
    assert _forget_other_places(tmp_path / "artifacts") == 1
    assert sorted(path.stem for path in cache.iterdir()) == ["number", "own"]


def test_a_materialisation_counts_while_its_publication_is_the_stores(tmp_path):
    outputs = {
        name: tmp_path / "artifacts" / f"alphaloop-{name}" / "materialise" / "registry"
        for name in ("training-a", "training-b", "materialisation-c")
    }
    for name, publication in zip(outputs, ("old", "new", "new"), strict=True):
        write(outputs[name], {"publication": publication})
    made_store(tmp_path / "feature_store", {"publication": "new", "symbols": ["A", "B"]})
    _forget_lost_publications(tmp_path, Settings())
    assert {name: path.exists() for name, path in outputs.items()} == {
        "training-a": False,
        "training-b": True,
        "materialisation-c": True,
    }
    (tmp_path / "feature_store" / "current.json").unlink()
    _forget_lost_publications(tmp_path, Settings())
    assert not any(path.exists() for path in outputs.values())


@pytest.mark.timeout(RUNS_S)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_how_it_goes_on_and_leaves_no_process(tmp_path, number):
    folder = tmp_path / "run"
    config = write_config(tmp_path / "small.yaml", folder)
    command = subprocess.Popen(
        [*COMMAND, "run", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(
        lambda: any(e["event"] == "finished" and e["stage"] == "ingest" for e in read_events(folder)), command
    )
    command.send_signal(number)
    text, _ = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 128 + number
    assert not (folder / "tmp").exists()
    assert "The next run goes on from the last finished stage." in text
    assert "Traceback" not in text
    assert processes_of(folder) == []
