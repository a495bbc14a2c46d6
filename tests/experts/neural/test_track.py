"""Figures of steps in MLflow: complete and in batches, and a training that goes on where MLflow does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.experts.neural import track
from components.experts.neural.track import Tracker

ROOT = Path(__file__).parents[3]


@pytest.fixture
def warned(monkeypatch):
    messages: list[str] = []
    monkeypatch.setattr(track, "warn", lambda stage, message: messages.append(message))
    return messages


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Address of an MLflow store; made once, because its tables take seconds."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'steps.db'}"
    MlflowClient(tracking_uri=uri).search_experiments()
    return uri


def runs_of(store: str, name: str) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name(track.EXPERIMENT)
    return (
        client.search_runs([experiment.experiment_id], filter_string=f"attributes.run_name = '{name}'")
        if experiment
        else []
    )


def history_of(store: str, run, metric: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    return [
        (found.step, found.value)
        for found in MlflowClient(tracking_uri=store).get_metric_history(run.info.run_id, metric)
    ]


def test_every_figure_of_every_step_arrives(store, warned):
    with Tracker(store, "complete", {"expert": "patchtst", "seed": 3}) as tracker:
        for step in range(1, 8):
            tracker.log(step, {"loss": 1 / step, "gradient_norm": float(step)})
            if step % 3 == 0:
                tracker.log(step, {"epoch": step / 3, "monitor": 0.01 * step})
    (run,) = runs_of(store, "complete")
    assert run.data.params == {"expert": "patchtst", "seed": "3"}
    assert run.info.status == "FINISHED"
    assert history_of(store, run, "loss") == [(step, 1 / step) for step in range(1, 8)]
    assert history_of(store, run, "monitor") == [(3, 0.03), (6, 0.06)]
    assert warned == []


def test_steps_are_sent_together_at_the_end_of_an_epoch(store, monkeypatch):
    from mlflow import MlflowClient

    sent, log_batch = [], MlflowClient.log_batch
    monkeypatch.setattr(
        MlflowClient,
        "log_batch",
        lambda self, run_id, **given: (
            sent.append(len(given.get("metrics", ()))),
            log_batch(self, run_id, **given),
        )[1],
    )
    with Tracker(store, "together", {}) as tracker:
        for step in range(1, 11):
            tracker.log(step, {"loss": 1.0, "huber": 2.0})
        assert sent == []
        tracker.log(10, {"epoch": 1.0})
        assert sent == [21]
        for step in range(11, 521):
            tracker.log(step, {"loss": 1.0, "huber": 2.0})
        assert sent == [21, 1000]
    assert sent == [21, 1000, 20]


def test_a_training_that_failed_is_marked_so(store):
    def train() -> None:
        with Tracker(store, "broken", {}) as tracker:
            tracker.log(1, {"loss": 1.0})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    (run,) = runs_of(store, "broken")
    assert run.info.status == "FAILED"
    assert history_of(store, run, "loss") == [(1, 1.0)]


@pytest.mark.parametrize(
    "uri", ["http://user:secret@127.0.0.1:9", "sqlite:////proc/none/steps.db", "odd://place"]
)
def test_without_mlflow_one_warning_is_given_and_the_training_goes_on(uri, warned, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with Tracker(uri, "lonely", {"seed": 1}) as tracker:
        for step in range(1, 5):
            tracker.log(step, {"loss": 1.0, "epoch": float(step)})
    assert len(warned) == 1
    assert "The steps of lonely can't be tracked at" in warned[0]
    assert "secret" not in warned[0]


def test_a_store_that_is_lost_on_the_way_costs_what_comes_after(store, warned, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def lost(*arguments, **given):
        raise MlflowException("gone")

    with Tracker(store, "lost", {}) as tracker:
        tracker.log(1, {"loss": 1.0, "epoch": 1.0})
        monkeypatch.setattr(MlflowClient, "log_batch", lost)
        tracker.log(2, {"loss": 2.0, "epoch": 2.0})
        monkeypatch.undo()
        monkeypatch.setattr(track, "warn", lambda stage, message: warned.append(message))
        tracker.log(3, {"loss": 3.0, "epoch": 3.0})
    assert len(warned) == 1
    (run,) = runs_of(store, "lost")
    assert history_of(store, run, "loss") == [(1, 1.0)]


def test_other_mistakes_are_not_swallowed(store, monkeypatch):
    from mlflow import MlflowClient

    def mistake(*arguments, **given):
        raise TypeError("a mistake in our own call")

    monkeypatch.setattr(MlflowClient, "log_batch", mistake)
    with pytest.raises(TypeError, match="our own call"):
        Tracker(store, "mistaken", {}).log(1, {"loss": 1.0, "epoch": 1.0})


def test_without_an_address_mlflow_is_not_imported():
    code = """
import json, sys
from components.experts.neural.track import Tracker
with Tracker("", "none", {}) as tracker:
    tracker.log(1, {"loss": 1.0, "epoch": 1.0})
print(json.dumps("mlflow" in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout) is False
