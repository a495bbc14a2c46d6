"""The registry on an MLflow server with PostgreSQL and artifacts on S3, of which clients know the address
alone; and what is left of a registration whose server went away at each of its steps.
"""

import subprocess
import sys
import time

import pytest
from made_documents import verdict
from mlflow import MlflowClient
from test_gathered_trials import models
from test_registry import candidate

from components.registry.aliases import champion_history, champion_of, promote, rollback
from components.registry.champion import fetch_champion
from components.registry.client import RegistryError, answered, open_existing
from components.registry.config import Settings
from components.registry.gathered import gather_trials, keep_variants
from components.registry.record import record
from tests.stores import ROOT, Relay

# What a registration and a promotion write, each of which the server may not survive.
WRITES = (
    "create_run",
    "log_metric",
    "log_artifacts",
    "log_dict",
    "set_terminated",
    "create_model_version",
    "set_registered_model_alias",
    "set_registered_model_tag",
)


@pytest.fixture
def relay(mlflow_by_address):
    way = Relay(mlflow_by_address.port)
    way.mend()
    yield way
    way.cut()


@pytest.fixture
def settings(relay):
    return Settings(tracking_uri=f"http://127.0.0.1:{relay.port}")


def test_a_champion_is_registered_promoted_and_fetched_by_address_alone(settings, tmp_path):
    nowhere = tmp_path / "nowhere"
    for number, score in enumerate((0.1, 0.2), start=1):
        told = record(settings, "by-address", nowhere, candidate(tmp_path / str(number), score, verdict()))
        assert (told.status, told.version, told.champion_after, told.trials) == (
            "registered",
            number,
            number,
            number,
        )
    client = open_existing(settings, nowhere)
    keep_variants(settings, "by-address", nowhere, models({"stack": 1, "a": 2}), "another machine")
    found = gather_trials(settings, "by-address", nowhere, models({"stack": 9, "a": 2}))
    assert [model.name for model in found.models] == ["stack", "a", "stack"]
    assert found.unseen == 0
    rollback(client, "by-address", why="test", who="ann")
    found = fetch_champion(settings, "by-address", nowhere, tmp_path / "champion")
    assert (found.version, [reign.kind for reign in found.history]) == (
        1,
        ["promotion", "promotion", "rollback"],
    )
    assert (tmp_path / "champion" / "reference" / "reference.json").is_file()
    assert not nowhere.exists()
    # The same words of the same person, but another act: only one that was cut short is completed.
    for version in (2, 1):
        promote(client, "by-address", version, why="test", who="ann")
    assert [reign.version for reign in champion_history(client, "by-address")] == [1, 2, 1, 2, 1]


@pytest.mark.parametrize("place", [0, 4, 5, 7])
def test_a_registration_that_was_cut_short_is_completed_and_never_half_there(
    settings, relay, tmp_path, monkeypatch, place
):
    name = f"cut-{place}"
    if place:
        # The first one waits as long as MLflow's client does by itself; where it was cut makes no difference.
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    first = candidate(tmp_path / "first", 0.1, verdict())
    better = candidate(tmp_path / "better", 0.2, verdict())
    record(settings, name, tmp_path, first)
    calls = _cut_after(relay, monkeypatch, place)
    began = time.monotonic()
    with pytest.raises(RegistryError, match="did not answer"), answered():
        record(settings, name, tmp_path, better)
    assert time.monotonic() - began < 30
    monkeypatch.undo()
    relay.mend()
    client = open_existing(settings, tmp_path)
    standing = champion_of(client, name)
    # Either the old champion or, where all but the last words were said, the new one: whole each time.
    assert standing.version == "1" or calls[-1] == "set_registered_model_alias"
    assert fetch_champion(settings, name, tmp_path, tmp_path / "champion").version == int(standing.version)
    told = record(settings, name, tmp_path, better)
    assert (told.version, told.champion_after, told.trials) == (2, 2, 2)
    assert [reign.version for reign in champion_history(client, name)] == [1, 2]
    assert sorted(found.version for found in client.search_model_versions(f"name = '{name}'")) == ["1", "2"]
    experiment = client.get_experiment_by_name(name).experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["FINISHED"] * 2


def _cut_after(relay, monkeypatch, place):
    """Cut the way to the server after write number `place`; returns the writes so far."""
    calls = []

    def counted(name, original):
        def write(self, *arguments, **options):
            answer = original(self, *arguments, **options)
            calls.append(name)
            if len(calls) == place + 1:
                relay.cut()
            return answer

        return write

    for name in WRITES:
        monkeypatch.setattr(MlflowClient, name, counted(name, getattr(MlflowClient, name)))
    return calls


ASKS = """
import sys
from pathlib import Path
from components.registry.client import open_registry
from components.registry.config import Settings
settings = Settings(tracking_uri=sys.argv[1])
print(len(open_registry(settings, Path("nowhere")).search_experiments()))
print(sorted({"feast", "torch"} & set(sys.modules)))
"""


def test_a_request_imports_no_plugin_of_feasts(settings):
    command = [sys.executable, "-c", ASKS, settings.tracking_uri]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    experiments, imported = asked.stdout.splitlines()
    assert int(experiments) >= 1
    assert imported == "[]"
    assert "Failure" not in asked.stderr


def test_of_artifacts_cut_short_in_the_middle_none_counts(settings, relay, tmp_path, monkeypatch):
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    put, original = [], HttpArtifactRepository.log_artifact

    def cut_in_between(self, *arguments, **options):
        put.append(arguments)
        if len(put) == 3:
            relay.cut()
        return original(self, *arguments, **options)

    monkeypatch.setattr(HttpArtifactRepository, "log_artifact", cut_in_between)
    model = candidate(tmp_path / "model", 0.1, verdict())
    with pytest.raises(RegistryError, match="did not answer"), answered():
        record(settings, "in-between", tmp_path, model)
    monkeypatch.undo()
    relay.mend()
    assert champion_of(open_existing(settings, tmp_path), "in-between") is None
    told = record(settings, "in-between", tmp_path, model)
    assert (told.version, told.champion_after, told.trials) == (1, 1, 1)
    assert fetch_champion(settings, "in-between", tmp_path, tmp_path / "champion").version == 1
