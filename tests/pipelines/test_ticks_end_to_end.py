"""The whole way of a run on order books, through the real command: minutes of simulated books in, a judged
model and its report out; the same again from the cache; what is registered of it, asked about the recording;
and a market without alpha, where none is approved.
"""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from components.contracts.documents.champion import Registration
from components.contracts.documents.tick_replay import TickReplay
from components.contracts.documents.verdict import Verdict
from components.registry.run import RegistryPlace
from components.registry.tick_bundle import CandidateInputs, run_register_ticks
from components.report.ticks import REGISTRATION, REPLAY, VERDICT
from components.scoring.expert import ServedExpert
from components.scoring.model import one_hot
from pipelines.config import load_config, run_json
from tests.pipelines.small_run import RUNS_S, alphaloop
from tests.pipelines.tick_run import write_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(RUNS_S)]

STAGES = {
    *("ingest ticks", "validate ticks", "tick features", "tick features audit", "tick labels"),
    *("tick training set", "train touch_imbalance", "train elasticnet", "train lightgbm"),
    *("out-of-fold table", "tick replay", "gates", "register", "report"),
}
NETWORK = {"causal_cnn": {"lookback_bars": 8, "width": 8, "training": {"epochs": 1}}}
UNCACHED = {"register", "report"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("ticks")


@pytest.fixture(scope="module")
def first(place):
    config = write_config(place / "ticks.yaml", place / "run")
    return alphaloop("run", "--config", config, folder=place / "run")


@pytest.fixture(scope="module")
def again(first, place):
    return alphaloop("run", "--config", place / "ticks.yaml", folder=place / "run")


def test_from_events_to_a_judged_model(first, place):
    assert first.code == 0, first.text
    assert first.stages("finished") >= STAGES
    verdict, found = Verdict.read(place / "run" / VERDICT), TickReplay.read(place / "run" / REPLAY)
    assert verdict.candidate == "lightgbm"
    assert {one.expert for one in found.strategies} == {"touch_imbalance", "elasticnet", "lightgbm"}
    assert all(count > 0 for count in found.decisions.values())
    assert "trade_class over 5,000 ms, 2 symbols" in first.text
    assert f"Report: {place / 'run' / 'report.html'}" in first.text
    assert (place / "run" / "report.html").exists()
    assert {path.name for path in (place / "run" / "evidence").iterdir()} >= {"events.html", "audit.html"}


def test_the_same_again_comes_from_the_cache(again):
    assert again.code == 0, again.text
    assert again.stages("cached") >= STAGES - UNCACHED
    assert not (STAGES - UNCACHED) & again.stages("finished")


def test_what_was_found_is_shown_again(first, place):
    shown = alphaloop("report", "--config", place / "ticks.yaml")
    assert shown.code == 0
    assert first.text[first.text.index("trade_class over") :].strip() == shown.text.strip()


def test_a_model_is_a_version_only_where_it_was_approved(first, place):
    verdict = Verdict.read(place / "run" / VERDICT)
    told = Registration.read(place / "run" / REGISTRATION)
    assert (told.version is not None) == verdict.approved
    assert told.trials == 1
    assert f"In the registry: {told.place}." in first.text


def register(config_file, folder, expert):
    """A run's model in its registry as if the gates had approved of it; returns what it was made of, and the
    training set.
    """
    artifacts = folder / "artifacts"

    def made(task: str, name: str) -> str:
        return str(next(artifacts.glob(f"*/{task}/{name}")))

    experts = [path.parent for path in artifacts.glob("*/train-expert*/expert/status.json")]
    told = {json.loads((path / "status.json").read_text())["expert"]: path for path in experts}
    approved = Verdict.read(folder / VERDICT).model_copy(update={"approved": True})
    approved.write(folder / "approved.json")
    inputs = CandidateInputs(
        verdict=str(folder / "approved.json"),
        found=made("replay-ticks", "found"),
        predictions=made("build-oof", "predictions"),
        ticks=made("validate-ticks", "ticks"),
        delays=made("validate-ticks", "delays"),
        catalog=made("build-tick-features", "catalog"),
        expert=str(told[expert]),
    )
    config = load_config(config_file, [])
    registry = RegistryPlace(config.registry.model_dump_json(), config.run.name, str(folder / "registry"))
    run_register_ticks(registry, inputs, str(folder / "told.json"), config=run_json(config), code="c")
    return inputs, made("make-tick-training-set", "training_set")


@pytest.fixture(scope="module")
def version(first, place):
    return register(place / "ticks.yaml", place / "run", "lightgbm")


def test_a_registered_model_says_of_recorded_ticks_what_the_run_s_would(version, place):
    inputs, training_set = version
    asked = ("ticks", "predict", inputs.ticks, place / "said.parquet", "--config", place / "ticks.yaml")
    done = alphaloop(*asked)
    assert done.code == 0, done.text
    assert "Version 1 of small-ticks (lightgbm, trade_class over 20 samples of 250ms)" in done.text
    said, rows = pl.read_parquet(place / "said.parquet"), pl.read_parquet(training_set)
    assert said.select("timestamp", "symbol").equals(rows.select("timestamp", "symbol"))
    assert (said["known_time"] <= said["timestamp"]).all()
    expert = ServedExpert(place.joinpath(inputs.expert) / "model", threads=1)
    found = expert(
        rows.select(pl.col(expert.form.columns).fill_null(np.nan)).to_numpy(),
        None,
        one_hot(rows["regime_state"].cast(pl.Float32).fill_null(np.nan).to_numpy()),
        rows["volatility_20"].cast(pl.Float64).fill_null(np.nan).to_numpy(),
    )
    assert np.abs(said["score"].to_numpy() - found.score).max() < 1e-9
    assert said["score"].std() > 0


def test_ticks_counted_in_other_steps_are_refused(version, place, tmp_path):
    inputs, _ = version
    other = tmp_path / "ticks"
    shutil.copytree(inputs.ticks, other)
    told = json.loads((other / "instruments.json").read_text())
    told["symbols"][next(iter(told["symbols"]))]["tick_size"] *= 2
    (other / "instruments.json").write_text(json.dumps(told))
    done = alphaloop("ticks", "predict", other, tmp_path / "said.parquet", "--config", place / "ticks.yaml")
    assert done.code != 0
    assert "counted in the same steps" in " ".join(done.text.split())
    assert not (tmp_path / "said.parquet").exists()


@pytest.fixture(scope="module")
def null(place):
    """A market without alpha, and a network."""
    config = write_config(
        place / "null.yaml",
        place / "null",
        ticks={"simulator": {"symbols": 2, "session_minutes": 5, "alpha": {"planted": 0.0}}},
        experts={"leaves": ["touch_imbalance/250ms/base", "causal_cnn/250ms/base"], "overrides": NETWORK},
        tick_gates={"candidate": "causal_cnn"},
    )
    return alphaloop("run", "--require-approved", "--config", config, folder=place / "null")


def test_a_market_without_alpha_is_rejected(null, place):
    assert null.code == 3, null.text
    verdict = Verdict.read(place / "null" / VERDICT)
    assert not verdict.approved
    assert not next(gate for gate in verdict.gates if gate.name == "net_profit").passed


def test_a_registered_network_is_asked_about_recorded_ticks(null, place):
    inputs, training_set = register(place / "null.yaml", place / "null", "causal_cnn")
    asked = ("ticks", "predict", inputs.ticks, place / "network.parquet", "--config", place / "null.yaml")
    done = alphaloop(*asked)
    assert done.code == 0, done.text
    assert "Version 1 of small-ticks (causal_cnn, trade_class over 20 samples of 250ms)" in done.text
    said, rows = pl.read_parquet(place / "network.parquet"), pl.read_parquet(training_set)
    assert said.select("timestamp", "symbol").equals(rows.select("timestamp", "symbol"))
    assert said["score"].is_finite().all()
    assert said.group_by("symbol").agg(pl.col("score").std())["score"].min() > 0
