"""The client: what it sends, when it asks again, and what a person reads when it fails.

The server is a small one that answers as told.
"""

import io
import json
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import polars as pl
import pyarrow as pa
import pytest
from rich.console import Console

from pipelines.commands.predict import predict_tables
from serving.client import Client, ServiceError

SIGNAL = {
    "symbol": "A[x]",
    "score": 0.01234,
    "p10": -0.02,
    "p50": 0.01,
    "p90": 0.04,
    "uncertainty": 0.03,
    "position": None,
    "feature_time": "2024-05-06T20:00:00+00:00",
    "known_time": None,
    "stale": True,
    "behind": False,
}
BAND = ("score", "p10", "p50", "p90", "uncertainty")
ANSWER = {
    "request_id": "r1",
    "answered_at": "2024-05-06T21:00:00+00:00",
    "model": {
        "name": "demo",
        "version": 3,
        "bundle_sha256": "ab" * 32,
        "schema": "s",
        "code_version": "c",
        "train_window": "w",
    },
    "features": {"publication": "p", "newest": "2024-05-06T20:00:00+00:00", "source": "store"},
    "period": "1d",
    "horizon_bars": 5,
    "target": "log_return",
    "signals": [SIGNAL],
}


@pytest.fixture
def server():
    """Answers in turn what `server.answers` holds, (status, headers, body), the last one for ever; keeps what
    it was asked in `server.asked`.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server.asked.append((self.command, self.path, dict(self.headers), body))
            status, headers, text = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
            if status == 0:
                time.sleep(3)
                return
            data = text if isinstance(text, bytes) else json.dumps(text).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            if "close" in headers.get("X-Then", ""):
                self.close_connection = True

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.answers = [], [(200, {}, ANSWER)]
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_symbols_go_out_with_the_key_and_the_answer_comes_back(server):
    with Client(server.url + "/", "secret") as client:
        assert client.signals(["A", "B"]) == ANSWER
    ((method, path, headers, body),) = server.asked
    assert (method, path, headers["Authorization"], json.loads(body)) == (
        "POST",
        "/signals",
        "Bearer secret",
        {"symbols": ["A", "B"]},
    )


def test_a_frame_goes_out_as_arrow_with_null_for_unknown(server):
    moment = datetime(2024, 5, 6, 20, tzinfo=UTC)
    frame = pl.DataFrame(
        {"symbol": ["A", "B"], "timestamp": [moment] * 2, "x": [1.0, float("nan")], "y": [None, 2.0]}
    )
    with Client(server.url) as client:
        client.score(frame, cross_section="batch")
    ((_, path, headers, body),) = server.asked
    assert (path, headers["Content-Type"]) == (
        "/score?cross_section=batch",
        "application/vnd.apache.arrow.stream",
    )
    table = pa.ipc.open_stream(io.BytesIO(body)).read_all()
    assert [table.schema.field(name).type for name in ("timestamp", "x", "y")] == [
        pa.timestamp("us", "UTC"),
        pa.float32(),
        pa.float32(),
    ]
    assert table.to_pylist() == [
        {"symbol": "A", "timestamp": moment, "x": 1.0, "y": None},
        {"symbol": "B", "timestamp": moment, "x": None, "y": 2.0},
    ]


def test_rows_go_out_as_json(server):
    row = {"symbol": "A", "timestamp": datetime(2024, 5, 6, tzinfo=UTC), "features": {"x": 1.0}}
    with Client(server.url) as client:
        client.score([row])
    assert json.loads(server.asked[0][3]) == {
        "cross_section": "market",
        "rows": [{**row, "timestamp": "2024-05-06T00:00:00+00:00"}],
    }


@pytest.mark.parametrize("status", [429, 503])
def test_it_comes_back_when_it_is_told_to_but_not_for_ever(server, status):
    refusal = (
        status,
        {"Retry-After": "0"},
        {"error": {"code": "busy", "field": None, "message": "Too many requests."}},
    )
    server.answers = [refusal, refusal, (200, {}, ANSWER)]
    with Client(server.url) as client:
        assert client.signals(["A"]) == ANSWER
        assert len(server.asked) == 3
        server.answers = [refusal]
        with pytest.raises(ServiceError, match=r"Too many requests\.") as caught:
            client.signals(["A"])
    assert len(server.asked) == 3 + 4
    assert (caught.value.status, caught.value.code) == (status, "busy")


def test_a_refusal_is_not_asked_again_and_names_the_field(server):
    server.answers = [
        (
            422,
            {},
            {
                "error": {
                    "code": "unknown_symbol",
                    "field": "symbols[0]",
                    "message": "'AAPLE' is not in the feature store.",
                }
            },
        )
    ]
    with Client(server.url) as client, pytest.raises(ServiceError, match="AAPLE") as caught:
        client.signals(["AAPLE"])
    assert (caught.value.code, caught.value.field, caught.value.status, len(server.asked)) == (
        "unknown_symbol",
        "symbols[0]",
        422,
        1,
    )


def test_the_status_of_a_service_that_is_not_ready_is_no_error(server):
    server.answers = [(503, {}, {"ready": False, "checks": []})]
    with Client(server.url) as client:
        assert client.status() == {"ready": False, "checks": []}
    assert len(server.asked) == 1


def test_a_kept_connection_that_the_service_closed_is_opened_again(server):
    server.answers = [(200, {"X-Then": "close"}, ANSWER)]
    with Client(server.url) as client:
        assert [client.signals(["A"]) for _ in range(3)] == [ANSWER] * 3


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, {}, b"<html>"), "something else than a JSON object"),
        ((500, {}, {"detail": "x"}), "answered 500"),
        ((200, {}, [1]), "JSON object"),
    ],
)
def test_what_is_no_answer_of_ours_is_said(server, answer, told):
    server.answers = [answer]
    with Client(server.url) as client, pytest.raises(ServiceError, match=told):
        client.model()


def test_a_service_that_hangs_is_given_up(server):
    server.answers = [(0, {}, {})]
    with Client(server.url, timeout_s=0.3) as client, pytest.raises(ServiceError, match=r"within 0\.3 s"):
        client.signals(["A"])
    assert len(server.asked) == 1


def test_a_place_where_nobody_listens_is_named(server, monkeypatch):
    waits = []
    monkeypatch.setattr("serving.client.time.sleep", waits.append)
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServiceError, match="alphaloop serve"):
        client.signals(["A"])
    assert waits == [0.2, 0.4, 0.8]


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "ftp://x", "http://"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ServiceError, match="not the address"):
        Client(url)


def test_the_table_shows_signals_and_marks_stale_ones(server, monkeypatch):
    monkeypatch.setenv("ALPHALOOP_API_KEY", "first,second")
    console = Console(width=160, file=io.StringIO())
    for table in predict_tables(["A[x]", "A[x]"], server.url):
        console.print(table)
    text = console.file.getvalue()
    assert [
        word
        for word in ("A[x]", "1.234", "-2.00", "stale", "demo version 3", "2024-05-06 20:00", "over 5 bars")
        if word not in text
    ] == []
    assert "behind others" not in text
    assert server.asked[0][2]["Authorization"] == "Bearer first"
    assert json.loads(server.asked[0][3]) == {"symbols": ["A[x]"]}


def test_prices_and_further_tasks_have_tables_of_their_own(server):
    priced = {
        "close": 50.0,
        "antilog_return": {"score": 0.1, "p10": -0.25, "p50": 0.1, "p90": 0.5},
        "future_price": {"score": 55.0, "p10": 37.5, "p50": 55.0, "p90": 75.0},
        "missing": None,
    }
    none = {"close": 50.0, "antilog_return": None, "future_price": None, "missing": "it has no price"}
    task = {"target": "realised_volatility", "horizon": 20, "prices": none, **dict.fromkeys(BAND, 0.0456)}
    signal = {**SIGNAL, "prices": priced, "tasks": [task]}
    server.answers = [(200, {}, {**ANSWER, "signals": [signal]})]
    console = Console(width=160, file=io.StringIO())
    for table in predict_tables(["A[x]"], server.url, prices=True):
        console.print(table)
    text = console.file.getvalue()
    words = (
        "further tasks",
        "realised_volatility over 20 bars",
        "4.560",
        "10.00",
        "37.5",
        "75",
        "it has no price",
    )
    assert [word for word in words if word not in text] == []
    assert json.loads(server.asked[0][3]) == {"symbols": ["A[x]"], "prices": True}


def test_prices_of_given_rows_are_asked_for_in_the_body_or_the_address(server):
    with Client(server.url) as client:
        client.score([{"symbol": "A"}], prices=True)
        client.score(
            pl.DataFrame({"symbol": ["A"], "timestamp": [datetime(2024, 5, 6, tzinfo=UTC)]}), prices=True
        )
        client.score([{"symbol": "A"}])
    rows, frame, silent = server.asked
    assert json.loads(rows[3])["prices"] is True
    assert frame[1] == "/score?cross_section=market&prices=true"
    assert "prices" not in json.loads(silent[3])
