"""What `alphaloop serve` says of the service; the service is a small server that answers as told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serving.api.answer_types import (
    CheckAnswer,
    FeatureStatus,
    ModelAnswer,
    StatusAnswer,
    WatchStatus,
    WriterStatus,
)
from serving.processes import readiness as module
from serving.processes.readiness import readiness
from tests.serving.made_answers import QUICK, make_plan

STATUS = StatusAnswer(
    ready=True,
    instance="",
    checks=[CheckAnswer(name="store", ok=True, reason="answers")],
    features=FeatureStatus(publication="p", age_s=1.0, symbols=2, behind=0),
    champion_watch=WatchStatus(up=True, problem=None, refused=None),
    log_writer=WriterStatus(up=True, problem=None, rows_written=3),
    answer_log=None,
    last_refusal=None,
)
MODEL = ModelAnswer(
    name="demo",
    version=3,
    bundle_sha256="ab" * 32,
    schema="s",
    code_version="c",
    train_window="w",
    since=None,
    who=None,
    why=None,
    verdict=None,
    period="1d",
    horizon_bars=5,
    target="log_return",
    tasks=[],
    experts=["elasticnet"],
    inputs=["x"],
    context=[],
    lookback_bars=0,
    needs_window=False,
    needs_whole_bars=False,
    last_refusal=None,
)
NOT_READY = STATUS.model_copy(
    update={"ready": False, "checks": [CheckAnswer(name="store", ok=False, reason="the store is gone")]}
)


def written(answer: StatusAnswer | ModelAnswer) -> bytes:
    return answer.model_dump_json(by_alias=True).encode()


@pytest.fixture
def answers():
    """The bodies by path, set by the test; a port is in `port`."""
    bodies: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bodies[self.path])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield bodies, server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def plan(answers, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_faults", module.Faults(module._faults._log))
    return make_plan(tmp_path, QUICK.model_copy(update={"port": answers[1]}))


def test_a_service_that_is_ready_names_its_champion(answers, plan):
    answers[0].update({"/status": written(STATUS), "/model": written(MODEL)})
    ready, words = readiness(plan)
    assert ready
    assert words.endswith("champion demo version 3 (abababababab)")


def test_the_service_of_another_serve_is_never_called_ready(answers, plan):
    other = STATUS.model_copy(update={"instance": "5e1f"})
    answers[0].update({"/status": written(other), "/model": written(MODEL)})
    ready, words = readiness(plan)
    assert not ready
    assert "another service answers at http://127.0.0.1:" in words


def test_a_service_that_is_not_ready_says_why(answers, plan):
    answers[0]["/status"] = written(NOT_READY)
    assert readiness(plan) == (False, "the store is gone")


@pytest.mark.parametrize("body", [b"", b"<html>", json.dumps({"error": {"code": "unauthorised"}}).encode()])
def test_an_answer_that_is_no_status_is_none_yet(answers, plan, body, capsys):
    answers[0]["/status"] = body
    ready, words = readiness(plan)
    assert not ready
    assert "does not answer yet" in words
    assert capsys.readouterr().err == ""


def test_a_status_of_another_version_leaves_its_trace_once(answers, plan, capsys):
    answers[0]["/status"] = json.dumps({"ready": True}).encode()
    assert not any(readiness(plan)[0] for _ in range(3))
    said = capsys.readouterr().err
    assert said.count("Traceback") == 1
    assert "checks" in said


def test_where_nobody_listens_nothing_answers_yet(plan, answers):
    nobody = make_plan(plan.folder, QUICK.model_copy(update={"port": 9}))
    assert "does not answer yet" in readiness(nobody)[1]
