"""The whole way of a run on order books, through the real command: minutes of simulated books in, a judged
model and its report out; the same again from the cache; and a market without alpha, where none is approved.
"""

import pytest

from components.contracts.documents.tick_replay import TickReplay
from components.contracts.documents.verdict import Verdict
from components.report.ticks import REPLAY, VERDICT
from tests.pipelines.small_run import RUNS_S, alphaloop
from tests.pipelines.tick_run import write_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(RUNS_S)]

STAGES = {
    *("ingest ticks", "validate ticks", "tick features", "tick features audit", "tick labels"),
    *("tick training set", "train touch_imbalance", "train elasticnet", "train lightgbm"),
    *("out-of-fold table", "tick replay", "gates", "report"),
}


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
    assert again.stages("cached") >= STAGES - {"report"}
    assert not (STAGES - {"report"}) & again.stages("finished")


def test_what_was_found_is_shown_again(first, place):
    shown = alphaloop("report", "--config", place / "ticks.yaml")
    assert shown.code == 0
    assert first.text[first.text.index("trade_class over") :].strip() == shown.text.strip()


def test_a_market_without_alpha_is_rejected(place):
    config = write_config(
        place / "null.yaml",
        place / "null",
        ticks={"simulator": {"symbols": 2, "session_minutes": 5, "alpha": {"planted": 0.0}}},
        experts={"leaves": ["touch_imbalance/250ms/base", "elasticnet/250ms/base"], "overrides": {}},
        tick_gates={"candidate": "elasticnet"},
    )
    done = alphaloop("run", "--require-approved", "--config", config, folder=place / "null")
    assert done.code == 3, done.text
    verdict = Verdict.read(place / "null" / VERDICT)
    assert not verdict.approved
    assert not next(gate for gate in verdict.gates if gate.name == "net_profit").passed
