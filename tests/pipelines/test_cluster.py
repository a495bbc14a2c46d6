"""Submitting pipelines to a stand-in of a cluster's API."""

import json
import shutil
from pathlib import Path

import pytest

from pipelines.config import load_config
from pipelines.runners import cluster
from pipelines.runners.cluster import cron_schedule, submit_pipeline
from pipelines.runners.ir import ClusterError, compile_pipeline
from tests.pipelines.kfp_stand_in import kfp_stand_in

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "pipelines" / "configs" / "demo.yaml"


@pytest.fixture(scope="module")
def config():
    return load_config(DEMO)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compiles like `compile_pipeline`, each pipeline of a config once: `compiled("training", config)`."""
    folder, known = tmp_path_factory.mktemp("compiled"), {}

    def compiled_once(name, config):
        key = (name, config.model_dump_json())
        if key not in known:
            known[key] = compile_pipeline(name, config, folder / f"{len(known)}.yaml")
        return known[key]

    return compiled_once


@pytest.fixture
def compiled_before(compiled, monkeypatch):
    """Has submissions take what another test has compiled already."""
    monkeypatch.setattr(
        cluster,
        "compile_pipeline",
        lambda name, config, output, *, image: Path(shutil.copy(compiled(name, config), output)),
    )


def test_host_and_experiment_of_the_config_say_where_a_run_is_started(compiled_before):
    with kfp_stand_in() as server:
        config = load_config(DEMO, [f"cluster.host={server.address}", "cluster.experiment=nightly"])
        assert server.address in submit_pipeline("materialisation", config)
        assert [one["display_name"] for one in server.experiments.values()] == ["nightly"]


def test_a_submission_passes_the_servers_own_models(config, monkeypatch):
    monkeypatch.setenv("ALPHALOOP_KFP_TOKEN", "secret")
    with kfp_stand_in() as server:
        server.token = "secret"
        said = submit_pipeline("training", config, host=server.address)
        assert said == f"Started training as run run-1: {server.address}/#/runs/details/run-1"
        assert [e["display_name"] for e in server.experiments.values()] == ["alphaloop"]
        run = server.runs[0]
    assert run["experiment_id"] == "e1"
    assert "secret" not in json.dumps(run)


def test_a_server_that_refuses_or_is_not_there_is_explained(config, compiled_before, monkeypatch):
    monkeypatch.delenv("ALPHALOOP_KFP_TOKEN", raising=False)
    with kfp_stand_in() as server:
        server.refuse = 403
        with pytest.raises(ClusterError, match="refused the training pipeline: 403"):
            submit_pipeline("training", config, host=server.address)
        address = server.address
    with pytest.raises(ClusterError, match="does not answer"):
        submit_pipeline("training", config, host=address)
    with pytest.raises(ClusterError, match="No cluster is known"):
        submit_pipeline("training", config)


def test_a_recurring_run_passes_the_servers_own_models_and_never_overlaps(compiled_before, monkeypatch):
    monkeypatch.setenv("ALPHALOOP_KFP_TOKEN", "secret")
    config = load_config(DEMO, ["cluster.volume_claim=shared"])
    with kfp_stand_in() as server:
        server.token = "secret"
        said = submit_pipeline("retraining", config, host=server.address, cron="0 6 * * 1-5")
        assert "retraining recurs at '0 0 6 * * 1-5'" in said
        assert said.endswith(f"{server.address}/#/recurringrun/details/recurring-1")
        assert server.runs == []
        body = server.recurring[0]
        server.refuse = 403
        with pytest.raises(ClusterError, match="refused the retraining pipeline: 403"):
            submit_pipeline("retraining", config, host=server.address, cron="0 6 * * 1-5")
    assert body["trigger"] == {"cron_schedule": {"cron": "0 0 6 * * 1-5"}}
    assert (str(body["max_concurrency"]), body["no_catchup"], body["mode"], body["experiment_id"]) == (
        "1",
        True,
        "ENABLE",
        "e1",
    )
    assert "secret" not in json.dumps(body)


def test_a_recurring_run_without_a_volume_is_refused(config):
    with kfp_stand_in() as server:
        with pytest.raises(ClusterError, match=r"needs cluster\.volume_claim"):
            submit_pipeline("retraining", config, host=server.address, cron="0 6 * * 1-5")
        assert server.requests == []


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("0 6 * * 1-5", "0 0 6 * * 1-5"),
        ("*/15 * * * *", "0 */15 * * * *"),
        (" 30 6,18  1-7/2 jan-mar MON,wed ", "0 30 6,18 1-7/2 jan-mar MON,wed"),
        ("10 0 6 ? * 2", "10 0 6 ? * 2"),
    ],
)
def test_five_fields_get_the_second_in_front(text, schedule):
    assert cron_schedule(text) == schedule


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "has 0 fields"),
        ("0 6 * *", "has 4 fields"),
        ("0 0 6 * * 1 2024", "has 7 fields"),
        ("@daily", "has 1 fields"),
        ("60 6 * * *", "'60' is no minute"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 6 0 * *", "'0' is no day of month"),
        ("0 6 * 13 *", "'13' is no month"),
        ("0 6 * * 7", "'7' is no day of week"),
        ("0 6 * * FRI-MON", "'FRI-MON' is no day of week"),
        ("*/0 6 * * *", r"'\*/0' is no minute"),
        ("1,,2 6 * * *", "'1,,2' is no minute"),
        ("0 6-5-4 * * *", "'6-5-4' is no hour"),
        ("0 -6 * * *", "'-6' is no hour"),
        ("? 6 * * *", r"'\?' is no minute"),
        ("² 6 * * *", "'²' is no minute"),
    ],
)
def test_a_broken_schedule_is_refused_by_field(text, named):
    with pytest.raises(ClusterError, match=named):
        cron_schedule(text)
