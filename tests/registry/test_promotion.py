"""Promotion and rollback by hand on a real MLflow: what is refused, what is written down, and two people at
the same moment.
"""

import json
import shutil
import threading
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from made_documents import nothing_scored, verdict
from rich.console import Console

from components.contracts import BundleError, write_manifest
from components.contracts.documents.champion import Registration
from components.registry.aliases import champion_history, present_champion, promote, rollback
from components.registry.client import RegistryError, open_existing, open_registry
from components.registry.config import Settings
from components.registry.register import register_model
from components.registry.trials import Trial
from components.registry.versions import fetch_bundle
from pipelines.commands.champions import champions_table, promote_version, rollback_version
from pipelines.config import load_config

TRIAL = Trial("1d", "log_return", "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z")


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory) -> Path:
    """MLflow's tables, which it takes seconds to make."""
    folder = tmp_path_factory.mktemp("empty")
    open_registry(Settings(), folder).search_registered_models()
    return folder / "mlflow.db"


@pytest.fixture
def folder(tmp_path, empty_database) -> Path:
    """A run folder with versions 1 to 4; version 1 is champion, 4 challenger."""
    (tmp_path / "registry").mkdir()
    shutil.copy(empty_database, tmp_path / "registry" / "mlflow.db")
    for version in range(1, 5):
        register_made(tmp_path, tmp_path / f"made-{version}", str(version))
    return tmp_path


def register_made(folder: Path, bundle: Path, weights: str) -> None:
    """Register an approved bundle of one file; the first becomes champion."""
    bundle.mkdir()
    (bundle / "weights.json").write_text(weights)
    about = {"schema": "s", "period": "1d", "horizon": 5, "target": "log_return", "experts": [], "inputs": {}}
    write_manifest(bundle, about)
    judged = verdict(beats=weights == "1", reason="first")
    register_model(
        Settings(),
        "demo",
        folder / "registry",
        bundle=bundle,
        verdict=judged,
        trial=TRIAL,
        scored=nothing_scored(),
    )


@pytest.fixture
def client(folder):
    return open_registry(Settings(), folder / "registry")


def versions(client) -> list[int]:
    return [reign.version for reign in champion_history(client, "demo")]


def bundle_of(client, version: int) -> Path:
    return Path(client.get_model_version("demo", str(version)).source.removeprefix("file://"))


def test_what_can_not_be_promoted_is_refused_and_leaves_no_trace(client):
    with pytest.raises(RegistryError, match="no version 9 in the registry; it has versions 1, 2, 3, 4"):
        promote(client, "demo", 9, why="w", who="ada")
    with pytest.raises(RegistryError, match="champion already"):
        promote(client, "demo", 1, why="w", who="ada")
    with pytest.raises(RegistryError, match="reason is empty"):
        promote(client, "demo", 2, why="  ", who="ada")
    with pytest.raises(RegistryError, match="no version at all"):
        promote(client, "unheard-of", 1, why="w", who="ada")
    (bundle_of(client, 2) / "weights.json").write_text("changed")
    with pytest.raises(BundleError, match=r"weights\.json was changed"):
        promote(client, "demo", 2, why="w", who="ada")
    bundle_of(client, 3).rename(bundle_of(client, 3).with_name("away"))
    with pytest.raises((RegistryError, BundleError), match="fetch"):
        promote(client, "demo", 3, why="w", who="ada")
    assert versions(client) == [1]
    assert present_champion(client, "demo").version == 1


def test_rolling_back_goes_back_a_promotion_each_time(client):
    with pytest.raises(RegistryError, match="nothing to roll back to"):
        rollback(client, "demo", why="w", who="ada")
    for version in (2, 3):
        promote(client, "demo", version, why=f"try {version}", who="ada")
    assert rollback(client, "demo", why="worse", who="bob") == 2
    assert rollback(client, "demo", why="worse still", who="bob") == 1
    assert versions(client) == [1, 2, 3, 2, 1]
    assert [reign.kind for reign in champion_history(client, "demo")] == ["promotion"] * 3 + ["rollback"] * 2
    about = present_champion(client, "demo")
    assert (about.version, about.who, about.why) == (1, "bob", "worse still")
    promote(client, "demo", 4, why="again", who="ada")
    assert rollback(client, "demo", why="no", who="bob") == 1


def test_a_model_that_was_rolled_back_is_not_promoted_again_by_a_run(client, folder):
    """Training is repeatable: the next run may hand in the very bundle that someone took out."""

    def run_again(version: int) -> Registration:
        return register_model(
            Settings(),
            "demo",
            folder / "registry",
            bundle=folder / f"made-{version}",
            verdict=verdict(reason="better"),
            trial=TRIAL,
            scored=nothing_scored(),
        )

    promote(client, "demo", 2, why="try", who="ada")
    rollback(client, "demo", why="worse", who="bob")
    told = run_again(2)
    assert told.champion_after == 1
    assert "version 2 was rolled back before" in told.reason
    assert run_again(3).champion_after == 3
    promote(client, "demo", 2, why="looked into it", who="ada")
    assert versions(client)[-1] == 2


def test_without_a_champion_there_is_nothing_to_roll_back(client):
    client.delete_registered_model_alias("demo", "champion")
    with pytest.raises(RegistryError, match="has no champion"):
        rollback(client, "demo", why="w", who="ada")


def test_two_promotions_at_the_same_moment_are_both_written_down_and_the_alias_follows_the_later(client):
    barrier, failures = threading.Barrier(3), []

    def work(version: int) -> None:
        barrier.wait()
        try:
            promote(client, "demo", version, why=f"by {version}", who=f"w{version}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(version,)) for version in (2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    history = champion_history(client, "demo")
    assert sorted(reign.why for reign in history[1:]) == ["by 2", "by 3", "by 4"]
    assert present_champion(client, "demo").version == history[-1].version


def test_the_history_of_older_registries_stays_readable(client):
    tags = client.get_registered_model("demo").tags
    (key,) = (key for key in tags if key.startswith("champion."))
    entry = json.loads(tags[key])
    del entry["kind"], entry["sequence"]
    client.delete_registered_model_tag("demo", key)
    client.set_registered_model_tag("demo", "champion.0001", json.dumps(entry))
    promote(client, "demo", 2, why="w", who="ada")
    assert versions(client) == [1, 2]
    assert rollback(client, "demo", why="w", who="ada") == 1


def test_the_history_is_in_the_order_of_the_registry_though_a_clock_was_behind(client, monkeypatch):
    class Behind(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) - timedelta(hours=2)

    promote(client, "demo", 2, why="w", who="ada")
    monkeypatch.setattr("components.registry.aliases.datetime", Behind)
    assert promote(client, "demo", 3, why="w", who="a machine whose clock is behind").version == 3
    history = champion_history(client, "demo")
    assert [reign.version for reign in history] == [1, 2, 3]
    assert history[2].when < history[1].when
    assert present_champion(client, "demo").version == 3
    assert rollback(client, "demo", why="w", who="bob") == 2


def test_who_is_overtaken_at_the_same_moment_is_told(folder, client, monkeypatch):
    config = load_config("pipelines/configs/demo.yaml", overrides=[f"run.folder={folder}"])

    def overtaken(client, name, *arguments, **words):
        promote(client, name, 2, why="w", who="ada")
        return promote(client, name, 3, why="w", who="bob")

    monkeypatch.setattr("pipelines.commands.champions.promote", overtaken)
    with pytest.raises(
        RegistryError, match="Version 3 of demo was promoted by bob at the same moment as version 2"
    ):
        promote_version(config, 2, "w", who="ada")


def test_a_run_folder_works_on_itself_alone_wherever_it_lies(folder, client, tmp_path):
    config = load_config("pipelines/configs/demo.yaml", overrides=[f"run.folder={tmp_path / 'copy'}"])
    shutil.copytree(folder / "registry", tmp_path / "copy" / "registry")
    (bundle_of(client, 2) / "weights.json").write_text("changed in the folder that was copied")
    moved = open_registry(Settings(), tmp_path / "copy" / "registry")
    promote_version(config, 2, "it is whole here", who="ada")
    with pytest.raises(BundleError, match="was changed"):
        promote(client, "demo", 2, why="w", who="ada")
    assert (versions(client), versions(moved)) == ([1], [1, 2])
    fetch_bundle(moved, "demo", 2, tmp_path / "fetched")
    assert (tmp_path / "fetched" / "weights.json").read_text() == "2"

    shutil.rmtree(folder / "registry")
    register_made(tmp_path / "copy", tmp_path / "made-5", "5")
    assert open_registry(Settings(), tmp_path / "copy" / "registry").get_model_version("demo", "5")
    assert not (folder / "registry").exists()
    assert {str(bundle_of(moved, version).parents[3]) for version in range(1, 6)} == {
        str(tmp_path / "copy" / "registry")
    }

    shutil.rmtree(tmp_path / "copy" / "registry" / "artifacts")
    with pytest.raises(RegistryError, match="Bring the files back from a copy of the run folder"):
        promote(moved, "demo", 3, why="w", who="ada")


def test_a_champion_that_was_deleted_does_not_reign_until_now(folder, client):
    config = load_config("pipelines/configs/demo.yaml", overrides=[f"run.folder={folder}"])
    promote(client, "demo", 2, why="w", who="ada")
    client.delete_model_version("demo", "2")
    shown = StringIO()
    Console(file=shown, width=200).print(champions_table(config))
    assert "now " not in shown.getvalue()
    assert "Nobody is champion: version 2, the last one, was deleted in MLflow" in shown.getvalue()
    promote_version(config, 3, "the next", who="ada")
    assert present_champion(client, "demo").version == 3


def test_an_entry_of_the_history_that_is_broken_is_named(client):
    client.set_registered_model_tag("demo", "champion.odd", '{"version": 2}')
    with pytest.raises(RegistryError, match=r"champion\.odd of demo"):
        champion_history(client, "demo")


def test_a_fetched_bundle_is_a_checked_copy_and_a_broken_one_leaves_nothing(client, tmp_path):
    target = tmp_path / "copies" / "x"
    target.parent.mkdir()
    assert (
        fetch_bundle(client, "demo", 2, target)["sha256"]
        == client.get_model_version("demo", "2").tags["bundle_sha256"]
    )
    assert (target / "weights.json").read_text() == "2"
    assert bundle_of(client, 2).is_dir()
    (bundle_of(client, 3) / "weights.json").write_text("changed")
    with pytest.raises(BundleError, match="was changed"):
        fetch_bundle(client, "demo", 3, tmp_path / "copies" / "y")
    assert [path.name for path in target.parent.iterdir()] == ["x"]


def test_a_whole_bundle_that_is_not_the_registered_one_is_refused(client, tmp_path):
    """Planted fault: a bundle that agrees with itself in the place of the registered one."""
    place = bundle_of(client, 2)
    shutil.rmtree(place)
    shutil.copytree(bundle_of(client, 3), place)
    with pytest.raises(BundleError, match="not the one that was registered"):
        promote(client, "demo", 2, why="w", who="ada")
    with pytest.raises(BundleError, match="not the one that was registered"):
        fetch_bundle(client, "demo", 2, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_manifest_that_was_changed_is_refused_though_every_file_is_whole(client, tmp_path):
    """Planted fault: the SHA-256 of the files says nothing of schema, horizon and the settings that positions
    are sized by.
    """
    manifest = bundle_of(client, 2) / "manifest.json"
    about = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**about, "horizon": 6}))
    with pytest.raises(BundleError, match=r"manifest\.json was changed"):
        promote(client, "demo", 2, why="w", who="ada")
    with pytest.raises(BundleError, match=r"manifest\.json was changed"):
        fetch_bundle(client, "demo", 2, tmp_path / "copy")
    client.delete_model_version_tag("demo", "2", "manifest_sha256")
    promote(client, "demo", 2, why="registered before manifests were pinned", who="ada")


def test_a_model_that_was_rejected_before_with_another_manifest_can_be_registered(client, tmp_path):
    bundle = tmp_path / "made-9"
    bundle.mkdir()
    (bundle / "weights.json").write_text("9")
    for experts, approved in (([], False), (["a"], True)):
        (bundle / "manifest.json").unlink(missing_ok=True)
        write_manifest(
            bundle,
            {
                "schema": "s",
                "period": "1d",
                "horizon": 5,
                "target": "log_return",
                "experts": experts,
                "inputs": {},
            },
        )
        judged = verdict(approved, approved, "r")
        told = register_model(
            Settings(),
            "demo",
            tmp_path / "registry",
            bundle=bundle,
            verdict=judged,
            trial=TRIAL,
            scored=nothing_scored(),
        )
    assert told.champion_after == told.version == 5


def test_a_broken_database_is_named(tmp_path):
    (tmp_path / "mlflow.db").write_text("garbage")
    with pytest.raises(RegistryError, match=r"mlflow\.db can't be opened as a registry"):
        open_existing(Settings(), tmp_path)


def test_a_password_in_the_address_of_the_registry_is_never_quoted(tmp_path, monkeypatch):
    for name, value in (("MAX_RETRIES", "0"), ("TIMEOUT", "2")):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)
    client = open_registry(Settings(tracking_uri="http://ada:s3cr@t@127.0.0.1:9"), tmp_path)
    with pytest.raises(RegistryError, match="did not answer") as refused:
        champion_history(client, "demo")
    assert "***@127.0.0.1:9" in str(refused.value)
    assert not [word for word in ("ada", "s3cr") if word in str(refused.value)]


def test_a_run_folder_without_a_registry_is_named_and_not_made(tmp_path):
    with pytest.raises(RegistryError, match="alphaloop run"):
        open_existing(Settings(), tmp_path / "registry")
    assert not (tmp_path / "registry").exists()


@pytest.fixture
def config(folder):
    return load_config(
        Path(__file__).parents[2] / "pipelines" / "configs" / "demo.yaml", [f"run.folder={folder}"]
    )


def shown(config) -> str:
    console = Console(width=160, file=StringIO())
    console.print(champions_table(config))
    return console.file.getvalue()


def test_the_commands_say_what_they_did_and_the_table_shows_every_reign(config, client, monkeypatch):
    monkeypatch.setenv("ALPHALOOP_USER", "grace")
    assert "version 2 is champion now" in promote_version(config, 2, "reviewed [by hand]")
    assert "back on version 1" in rollback_version(config, "worse on Monday", who="bob")
    table = shown(config)
    missing = [
        word
        for word in (
            "reviewed [by hand]",
            "rollback: worse on Monday",
            "grace",
            "bob",
            "champion",
            "now",
            "Version 4 waits as challenger",
        )
        if word not in table
    ]
    assert not missing
    assert "other means" not in table
    client.set_registered_model_alias("demo", "champion", "3")
    assert "other means" in shown(config)


def test_who_is_the_login_name_where_nothing_else_is_said(config, client, monkeypatch):
    monkeypatch.delenv("ALPHALOOP_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "linus")
    promote_version(config, 2, "w")
    assert champion_history(client, "demo")[-1].who == "linus"
