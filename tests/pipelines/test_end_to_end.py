"""The whole way through real kfp, Feast, Great Expectations, torch, LightGBM and MLflow, on a market that is
small enough for a test.

The runs share one folder and build on each other, as a user's do; each fixture is one command and what it
left.
"""

import os
import re
import signal
import subprocess
import zipfile
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from components.spread.attempts import LOGS
from tests.pipelines.small_run import (
    COMMAND,
    RUNS_S,
    Finished,
    alphaloop,
    expert_predictions,
    processes_of,
    read_events,
    unlocked,
    wait_for,
    write_config,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(RUNS_S)]

DATA_STAGES = {
    *("ingest", "validation", "universe", "plan", "data docs", "features", "labels", "audit"),
    *("materialise", "training set"),
}
MODEL_STAGES = {"out-of-fold table", "stack", "drift reference", "backtest"}
ALWAYS_DONE = {"champion", "gates", "register", "report"}
GATHERED = {"gather experts", "gather pages"}
EXPERTS = {"train median", "train elasticnet", "train lightgbm", "train patchtst"}

OWN_EXPERT = '''
"""An expert outside of Alphaloop that fails while the glass is empty."""

import os

import polars as pl

from components.settings import Section


class Settings(Section):
    pass


class Expert:
    lookback_bars = 0

    def __init__(self, settings):
        pass

    def fit(self, frame, task, *, advance, warm_start=None):
        if "GLASS" not in os.environ:
            raise RuntimeError("the glass is empty")
        advance(1.0, "full")

    def predict(self, frame):
        rows = frame.filter(pl.col("part") == "predict").with_row_index("score")
        value = {"uncertainty": 1.0, "p10": -1.0, "p50": 0.0, "p90": 1.0, "head_scale": 1.0, "head_bias": 0.0}
        return rows.select("timestamp", "symbol", pl.col("score").cast(pl.Float64), **{
            name: pl.lit(number) for name, number in value.items()
        })

    def save(self, folder):
        (folder / "glass.json").write_text("{}")

    @classmethod
    def load(cls, folder):
        return cls(Settings())
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("small")


@pytest.fixture(scope="module")
def folder(place):
    return place / "run"


@pytest.fixture(scope="module")
def config(place, folder):
    return write_config(place / "small.yaml", folder)


@pytest.fixture(scope="module")
def first(config, folder):
    return alphaloop("run", "--config", config, folder=folder)


@pytest.fixture(scope="module")
def again(first, config, folder):
    return alphaloop("run", "--config", config, folder=folder)


@pytest.fixture(scope="module")
def dearer(again, config, folder):
    """Other costs and a gate that nothing passes."""
    return alphaloop(
        "run",
        "--config",
        config,
        "--set",
        "backtest.cost_bps_per_side=25",
        "--set",
        "gates.min_sharpe=100",
        "--require-approved",
        folder=folder,
    )


@pytest.fixture(scope="module")
def own_expert(place):
    """Arguments and environment of a run with a user's own expert, which fails."""
    (place / "brittle_glass.py").write_text(OWN_EXPERT)
    leaf = place / "leaves" / "glass" / "1d" / "base.yaml"
    leaf.parent.mkdir(parents=True)
    leaf.write_text("expert: glass\nperiod: 1d\nmodule: brittle_glass\nsettings: {}\n")
    return ["--set", f"experts.folder={place / 'leaves'}"], {"PYTHONPATH": str(place)}


@pytest.fixture(scope="module")
def left_out(dearer, config, folder, own_expert):
    """A run that goes on without the user's expert."""
    arguments, environment = own_expert
    three = "experts.leaves=[median/1d/base, elasticnet/1d/base, glass/1d/base]"
    return alphaloop(
        *("run", "--config", config, *arguments, "--set", three), folder=folder, environment=environment
    )


@pytest.fixture(scope="module")
def slow(own_expert):
    """Arguments and environment of a run whose own expert works, and whose trees take their time."""
    arguments, environment = own_expert
    leaves = "experts.leaves=[median/1d/base, elasticnet/1d/base, glass/1d/base, lightgbm/1d/base]"
    rounds = "experts.overrides.lightgbm={rounds: 800, patience_rounds: 0}"
    return [*arguments, "--set", leaves, "--set", rounds], {**environment, "GLASS": "full"}


@pytest.fixture(scope="module")
def killed(left_out, config, folder, slow):
    """A run that was killed once the glass was trained, and the trees in their second fold."""
    arguments, environment = slow
    command = subprocess.Popen(
        [*COMMAND, "run", "--config", str(config), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    try:
        wait_for(lambda: glass_is_trained_and_trees_half(read_events(folder)), command)
    finally:
        command.kill()
        command.wait()
    wait_for(lambda: not processes_of(folder) and unlocked(folder))
    return Finished(command.returncode, "", read_events(folder), None)


def glass_is_trained_and_trees_half(events):
    glass = any(e["stage"] == "train glass" and e["event"] == "finished" for e in events)
    return glass and any(
        e["stage"] == "train lightgbm" and e["event"] == "advanced" and "fold_01" in e["what"] for e in events
    )


@pytest.fixture(scope="module")
def resumed(killed, config, folder, slow):
    arguments, environment = slow
    return alphaloop("run", "--config", config, *arguments, folder=folder, environment=environment)


def test_a_run_ends_in_a_registered_model(first):
    assert first.code == 0, first.text
    assert first.stages("finished") >= DATA_STAGES | EXPERTS | MODEL_STAGES | ALWAYS_DONE
    assert not first.stages("cached")
    assert not first.stages("failed")
    names = {row["name"] for row in first.summary["models"]}
    assert names >= {"stack", "equal_weights", "best_single", "median", "elasticnet", "lightgbm", "patchtst"}
    assert first.summary["approved"]
    assert "Model approved" in first.text
    assert first.summary["truth"]["attainable_ic"] > 0


def test_the_report_loads_nothing_from_elsewhere(first, folder):
    page = (folder / "report.html").read_text()
    assert first.code == 0
    assert len(page) > 100_000
    assert not re.findall(r"<(?:script|img|link|iframe)[^>]+(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    assert not re.findall(r"@import|url\(\s*[\"']?https?:", page)


def test_planted_faults_are_quarantined_and_reported(first, folder):
    quarantine = pl.read_parquet(next(folder.glob("artifacts/alphaloop-training-*/validate/quarantine")))
    reasons = " ".join(quarantine["reason"].unique())
    assert "duplicate" in reasons
    assert "bad_print" in reasons
    page = (folder / "report.html").read_text()
    assert "bad_print" in page
    assert "duplicate" in page
    assert "bad_print" in (folder / "data_docs" / "index.html").read_text()


def test_the_registry_holds_what_the_summary_says(first, folder):
    from mlflow import MlflowClient

    said = first.summary["registration"]
    client = MlflowClient(said["tracking_uri"], registry_uri=said["tracking_uri"])
    version = client.get_model_version_by_alias("small", "champion")
    assert str(version.version) == str(said["version"])
    assert version.run_id == said["run_id"]
    assert sorted(version.aliases) == sorted(said["aliases"])
    assert said["bundle_sha256"] in version.tags.values()


def test_lookup_shows_the_newest_values(first, config):
    symbol = "S01"
    said = alphaloop("lookup", symbol, "--config", config)
    assert said.code == 0, said.text
    assert symbol in said.text
    assert "momentum_20" in said.text


def test_a_second_run_comes_from_the_cache_with_the_same_numbers(first, again):
    assert again.code == 0, again.text
    assert again.stages("cached") == DATA_STAGES | EXPERTS | GATHERED | MODEL_STAGES
    assert again.stages("finished") >= ALWAYS_DONE
    assert again.summary["models"] == first.summary["models"]
    assert again.summary["registration"]["version"] == first.summary["registration"]["version"]


def test_a_changed_backtest_redoes_only_what_follows(dearer, again):
    assert dearer.stages("cached") == DATA_STAGES | EXPERTS | GATHERED | MODEL_STAGES - {"backtest"}
    assert dearer.stages("finished") >= {"backtest", *ALWAYS_DONE}
    sharpe = {row["name"]: row["sharpe_net"] for row in again.summary["models"]}
    assert all(
        row["sharpe_net"] < sharpe[row["name"]]
        for row in dearer.summary["models"]
        if row["sharpe_net"] is not None and row["annual_turnover"]
    )


def test_a_rejected_model_is_a_normal_ending_with_its_own_exit_code(dearer, folder):
    assert dearer.code == 3, dearer.text
    assert not dearer.summary["approved"]
    assert "Model rejected" in dearer.text
    assert not (folder / "failure.html").exists()


def test_a_failed_expert_is_left_out_loudly_while_two_remain(left_out, folder):
    assert left_out.code == 0, left_out.text
    assert "glass FAILED and is left out" in left_out.text
    assert "the glass is empty" in left_out.text
    assert {"train median", "train elasticnet"} <= left_out.stages("cached")
    assert "glass" not in {row["name"] for row in left_out.summary["models"]}
    assert "the glass is empty" in (folder / "report.html").read_text()


def test_with_fewer_than_two_experts_the_run_stops_and_says_why(left_out, config, folder, own_expert):
    arguments, environment = own_expert
    run = alphaloop(
        *("run", "--config", config, *arguments, "--set", "experts.leaves=[median/1d/base, glass/1d/base]"),
        folder=folder,
        environment=environment,
    )
    assert run.code == 1
    assert "Traceback" not in run.text
    assert run.stages("failed") == {"out-of-fold table"}
    message = next(e["message"] for e in run.events if e["event"] == "failed")
    assert "glass" in message
    page = (folder / "failure.html").read_text()
    assert "out-of-fold table" in page
    assert "the glass is empty" in page


def test_an_expert_that_failed_is_trained_anew_and_one_that_did_not_never_again(killed, resumed):
    trained = {"train median", "train elasticnet", "train glass"}
    assert killed.stages("cached") & trained == trained - {"train glass"}
    assert killed.stages("finished") & trained == {"train glass"}
    assert resumed.code == 0, resumed.text
    assert "left out" not in resumed.text
    assert "glass" in {row["name"] for row in resumed.summary["models"]}
    assert resumed.stages("cached") & trained == trained
    assert not resumed.stages("finished") & trained


def test_a_killed_run_leaves_no_orphans_and_goes_on_where_it_was(resumed, config, folder, slow):
    assert resumed.code == 0, resumed.text
    assert resumed.stages("cached") >= DATA_STAGES | {"train median", "train elasticnet"}
    kept = [e["what"] for e in resumed.events if e["event"] == "advanced" and "kept from before" in e["what"]]
    assert "fold_00: kept from before" in kept
    assert not any(what.startswith("final") for what in kept)
    went_on = expert_predictions(folder, "lightgbm", "training")

    arguments, environment = slow
    unbroken = alphaloop(
        *("experts", "train", "lightgbm", "--config", config, *arguments),
        folder=folder,
        environment=environment,
    )
    assert unbroken.code == 0, unbroken.text
    assert not any("kept from before" in e.get("what", "") for e in unbroken.events)
    assert went_on.equals(expert_predictions(folder, "lightgbm", "expert"))


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: alphaloop[ray]")
def test_an_expert_is_the_same_to_the_byte_where_ray_fits_it(first, config, folder):
    """Fitted anew with Ray instead of this machine's processes; Ray is started by the task that needs it."""
    work = folder / "experts" / "elasticnet"
    fitted = [path for name in ("predictions.parquet", "model/*") for path in work.glob(f"*/{name}")]
    here = {path: path.read_bytes() for path in fitted}
    assert len(here) > 6
    ray = ["--set", "compute.engine=ray"]
    trained = alphaloop("experts", "train", "elasticnet", "--config", config, *ray, folder=folder)
    assert trained.code == 0, trained.text
    assert trained.stages("finished") >= {"train elasticnet"}
    logs = [path.read_text() for path in (work / LOGS).iterdir()]
    assert [text.count('"ended"') for text in logs] == [1] * len(list(work.glob("*/result.json")))
    assert {path: path.read_bytes() for path in fitted} == here


def test_another_seed_redoes_everything_and_the_store_follows_the_run(dearer, config, folder):
    other = alphaloop("materialise", "--config", config, "--set", "run.seed=8", folder=folder)
    assert other.code == 0, other.text
    assert not other.stages("cached")
    back = alphaloop("materialise", "--config", config, folder=folder)
    assert back.stages("cached") == {"ingest", "validation", "data docs", "features", "universe"}
    assert "materialise" in back.stages("finished")


def test_a_critical_fault_stops_the_run_with_a_page(dearer, config, folder):
    run = alphaloop("run", "--config", config, "--set", "validation.max_quarantine_share=0", folder=folder)
    assert run.code == 1
    assert "Traceback" not in run.text
    assert run.stages("failed") == {"validation"}
    assert "quarantine" in run.text
    assert str(folder / "failure.html") in run.text
    said = (folder / "failure.html").read_text()
    assert "validation" in said
    (drawn,) = folder.glob("artifacts/alphaloop-training-*/validate/data_docs/index.html")
    assert str(drawn) in said
    assert "little_quarantine" in drawn.read_text()


def test_no_file_of_all_these_runs_is_a_pickle(dearer, folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert [path for path in files if is_pickle(path)] == []


def test_the_search_for_pickles_finds_one(tmp_path):
    import pickle

    for protocol in (2, 5):
        (tmp_path / f"{protocol}.bin").write_bytes(pickle.dumps({"a": 1}, protocol=protocol))
    with zipfile.ZipFile(tmp_path / "weights.pt", "w") as archive:
        archive.writestr("weights/data.pkl", b"")
    assert all(is_pickle(path) for path in tmp_path.iterdir())
    (tmp_path / "text.json").write_text("{}")
    assert not is_pickle(tmp_path / "text.json")


def is_pickle(path: Path) -> bool:
    """Whether a file begins like a pickle, or is an archive with one inside."""
    with path.open("rb") as handle:
        start = handle.read(2)
    if len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= 5:
        return True
    if start == b"PK" and zipfile.is_zipfile(path):
        return any(name.endswith((".pkl", ".pickle")) for name in zipfile.ZipFile(path).namelist())
    return path.suffix in (".pkl", ".pickle", ".joblib")


def test_the_search_for_processes_finds_one(tmp_path):
    sleeper = subprocess.Popen(["sh", "-c", 'sleep 3600 # "$0"', str(tmp_path)], start_new_session=True)
    try:
        wait_for(lambda: sleeper.pid in processes_of(tmp_path))
    finally:
        os.killpg(sleeper.pid, signal.SIGKILL)
        sleeper.wait()
    assert sleeper.pid not in processes_of(tmp_path)
