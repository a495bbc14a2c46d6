"""The loop closed through real kfp, Feast, MLflow and Evidently on a small market: no drift, a hold, drift, a
kill, one outcome.

The checks share one folder and build on each other, as those of `alphaloop watch` do; each fixture is one
command and what it left. Where this machine has pods, each task runs in one; elsewhere in subprocesses.
"""

import subprocess
from datetime import datetime

import polars as pl
import pytest

from pipelines.commands.retrain import run_retraining
from pipelines.config import load_config
from pipelines.graphs.retraining import RetrainingError
from pipelines.runners.local_run import FolderInUse
from tests.pipelines.pods_here import refused
from tests.pipelines.retraining_run import Market
from tests.pipelines.small_run import (
    COMMAND,
    RUNS_S,
    alphaloop,
    processes_of,
    read_events,
    unlocked,
    wait_for,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(RUNS_S)]

RUNNER = [] if refused() else ["--runner", "pods"]
TRAINED_BARS, BARS, SERVED_FROM = 320, 385, 325


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    return Market(tmp_path_factory.mktemp("loop"), bars=TRAINED_BARS)


@pytest.fixture(scope="module")
def first(market):
    """The first model, and 65 more bars on which it answered as in training."""
    run = alphaloop("run", *RUNNER, "--config", market.config, folder=market.folder)
    assert run.code == 0, run.text
    market.advance(BARS)
    market.serve(SERVED_FROM, BARS - 1)
    return run


@pytest.fixture(scope="module")
def quiet(first, market):
    return market.check(*RUNNER)


@pytest.fixture(scope="module")
def held(quiet, market):
    """The same bars with ten inputs moved, while a reviewer holds."""
    market.serve(SERVED_FROM, BARS - 1, shifted=1.5)
    said = market.review("hold", "--reason", "index rebalancing", "--who", "ann")
    assert said.code == 0, said.text
    return market.check(*RUNNER)


@pytest.fixture(scope="module")
def killed(held, market):
    """The hold is lifted; the retraining that follows is killed once the experts are trained.

    Meanwhile a second one was tried.
    """
    assert market.review("approve", "--reason", "the drift is real", "--who", "ann").code == 0
    command = subprocess.Popen(
        [*COMMAND, "watch", "--once", *RUNNER, "--config", str(market.config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: any(e["stage"] == "out-of-fold table" for e in read_events(market.folder)), command)
        with pytest.raises(FolderInUse, match="Another run is using"):
            run_retraining(load_config(market.config))
    finally:
        command.kill()
        command.wait()
    wait_for(lambda: not processes_of(market.folder) and unlocked(market.folder))
    return market.decisions()


@pytest.fixture(scope="module")
def resumed(killed, market):
    return market.check(*RUNNER)


def test_without_drift_nothing_is_retrained(quiet, market):
    assert quiet.code == 0, quiet.text
    made = market.decisions()[-1]
    assert (made["action"], made["by"], made["rules"], made["outcome"]) == ("none", "rule", [], None)
    assert made["champion"]["version"] == 1
    assert made["data"]["rows"] == 16 * 60
    assert made["data"]["newest_bar"] == market.days[BARS - 1].isoformat()
    assert quiet.stages("finished") >= {"features", "labels", "champion", "served", "drift", "decide"}
    assert not {"audit", "materialise", "train elasticnet", "gates", "register"} & quiet.stages("finished")
    assert (market.folder / "review" / made["drift_report"]).exists()


def test_a_hold_keeps_drift_from_triggering(held, market):
    assert held.code == 0, held.text
    made = market.decisions()[-1]
    assert (made["action"], made["by"], made["who"]) == ("held", "reviewer", "ann")
    assert made["rules"], "the planted drift was not found"
    assert "index rebalancing" in made["reason"]
    assert "train elasticnet" not in held.stages("finished")


def test_a_killed_retraining_stays_open(killed):
    made = killed[-1]
    assert (made["action"], made["by"], made["outcome"]) == ("retrain", "rule", None)
    assert {"ks", "psi"} & set(made["rules"])
    assert len(killed) == 3, "a second run at the same time must not decide anything"


def test_the_next_check_resumes_it_to_one_outcome(resumed, killed, market):
    assert resumed.code == 0, resumed.text
    opened, again = market.decisions()[-2:]
    assert (opened["id"], again["action"], again["resumes"]) == (killed[-1]["id"], "resume", killed[-1]["id"])
    assert opened["outcome"] == again["outcome"]
    assert opened["outcome"]["status"] in ("promoted", "kept_champion")
    # Of a store on a claim no cluster answers from its cache, and so of nothing that follows it.
    follows = {"materialise", "training set", "train median", "train elasticnet"}
    assert resumed.stages("cached") >= {"ingest", "features", "labels", "audit"} | (
        set() if RUNNER else follows
    )
    assert opened["outcome"]["status"] in resumed.text


def test_candidate_and_champion_met_on_bars_that_the_champion_had_not_learned_from(resumed, market):
    """Planted fault: the champion's bundle can score every bar, and would shine on its own training data."""
    end_of_training = market.days[TRAINED_BARS - 1]
    compared = sorted(
        market.folder.glob("artifacts/alphaloop-retraining-*/read-champion-2/champion"),
        key=lambda path: path.stat().st_mtime,
    )[-1]
    predictions = pl.read_parquet(compared / "predictions.parquet")
    newer = predictions.filter(pl.col("fold") == "after_training")
    assert newer["timestamp"].min() == market.days[TRAINED_BARS]
    assert newer["timestamp"].max() == market.days[BARS - 1]
    assert predictions.filter(pl.col("fold") != "after_training")["timestamp"].max() == end_of_training
    reason = market.decisions()[-1]["outcome"]["reason"]
    assert f"all after {end_of_training:%Y-%m-%d %H:%M}, where its training data ends" in reason


def test_the_review_page_and_table_tell_the_story(resumed, market):
    shown = market.review()
    assert shown.code == 0, shown.text
    for word in ("hold", "approve", "held", "resume", "ann"):
        assert word in shown.text
    page = (market.folder / "review" / "index.html").read_text()
    for made in market.decisions():
        assert made["id"] in page
    drift = (market.folder / "review" / market.decisions()[-2]["drift_report"]).read_text()
    assert "<b>retrain</b> by rule" in drift
    moments = [datetime.fromisoformat(made["when"]) for made in market.decisions()]
    assert moments == sorted(moments)


def test_a_window_that_ends_is_refused_before_anything_runs(resumed, market):
    count = len(market.decisions())
    refused = market.check("--set", "timeline.test.end=2022-03-01")
    assert refused.code == 2
    assert "ends on a fixed day" in refused.text
    assert len(market.decisions()) == count


def test_a_branch_that_did_not_run_is_noticed(resumed, market, monkeypatch):
    """Planted fault: kfp calls a run successful whose condition could not be evaluated."""
    from components.retraining.trail import append_decision, read_trail

    made = read_trail(market.folder / "review").decisions[-2]

    def again(_, place):
        return made.model_copy(update={"id": place.id, "when": place.when, "outcome": None})

    monkeypatch.setattr(
        "pipelines.commands.retrain.run_locally",
        lambda *_, **__: append_decision(market.folder / "review", again),
    )
    with pytest.raises(RetrainingError, match="the training tasks did not run"):
        run_retraining(load_config(market.config))


def test_the_newest_bars_are_materialised_and_found_from_outside(resumed, market):
    done = alphaloop("materialise", *RUNNER, "--config", market.config, folder=market.folder)
    assert done.code == 0, done.text
    assert {"ingest", "features"} <= done.stages("cached") | done.stages("finished")
    said = alphaloop("lookup", "S01", "--config", market.config)
    assert said.code == 0, said.text
    assert "momentum_20" in said.text


@pytest.mark.skipif(bool(refused()), reason=f"pods: {refused()}")
def test_nothing_is_lost_with_the_pods(first, quiet, held, resumed, market):
    """What a task leaves beside its outputs and the claim, but for caches of libraries and matplotlib's empty
    folder, which are only made anew; and no task sees the artifacts in the claim.
    """
    for run in (first, quiet, held, resumed):
        lost = [one["path"] for event in run.events if event["event"] == "lost" for one in event["files"]]
        assert {path for path in lost if "/.cache/" not in path} <= {"/tmp/.config/matplotlib/"}
        assert ("Nothing was lost with the pods" in run.text) == (not lost), run.text
    assert first.stages("finished") >= {"ingest", "materialise", "train elasticnet", "register", "report"}
    assert "plays the volume claim 'alphaloop'" in first.text
