"""What no client should send: a fuzz run over the service's own description, and requests made by hand to
hurt it. It never fails with a 5xx, never hangs, and goes on answering others meanwhile."""

import io
import json
import os
import re
import socket
import threading
import time
from contextlib import ExitStack, closing

import httpx
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from tests.serving.conftest import copy_run
from tests.serving.fuzz import KEY, KEY_VARIABLE, fuzz
from tests.serving.live_service import Live, live_service, until
from tests.serving.small_champion import SmallRun, crown

# Without its guards the service did not answer at all; how soon it does is measured in tests/benchmarks.
SOON_S = 60.0
# So long a connection that nothing comes from counts as silent.
SILENCE_S = 1.0


@pytest.fixture(scope="module")
def run(small_run, tmp_path_factory) -> SmallRun:
    run = copy_run(small_run, tmp_path_factory.mktemp("fuzz") / "run")
    crown(run.folder, run.bundles[0], 1)
    return run


@pytest.fixture(scope="module")
def live(run):
    """A service with a key, and without a limit on its clients' rate."""
    settings = {
        "api_key_variable": KEY_VARIABLE,
        "requests_per_second": 1e6,
        "burst": 1_000_000,
        "request_timeout_ms": 2000.0,
    }
    with live_service(
        run.plan(settings), environment={KEY_VARIABLE: KEY}, headers={"Authorization": f"Bearer {KEY}"}
    ) as live:
        yield live


def test_what_schemathesis_finds_in_the_description_holds(live):
    examples = int(os.environ.get("ALPHALOOP_FUZZ_EXAMPLES", "3"))
    found = fuzz(live, examples)
    assert not found.failures, found.text
    assert found.requests > 300
    for bad in ("Traceback", "RuntimeWarning", "failed"):
        assert bad not in live.log.read_text()


def port_of(live: Live) -> int:
    return int(live.url.rpartition(":")[2])


def head(
    path: str = "/signals",
    *,
    length: int | str = 0,
    kind: str = "application/json",
    more: bytes = b"",
    version: str = "1.1",
) -> bytes:
    text = (
        f"POST {path} HTTP/{version}\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\nContent-Type:"
        f" {kind}\r\nContent-Length: {length}\r\n"
    )
    return text.encode() + more + b"\r\n"


def raw(
    live: Live, *parts: bytes, shut: bool = False, answers: int = 1, silence_s: float = SILENCE_S
) -> bytes:
    """Send bytes and return what comes back until so many answers are whole, or the service closes or falls
    silent.
    """
    with socket.create_connection(("127.0.0.1", port_of(live)), timeout=SOON_S) as connection:
        for part in parts:
            connection.sendall(part)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        connection.settimeout(silence_s)
        try:
            while whole_answers(answer) < answers and (more := connection.recv(65536)):
                answer += more
        except TimeoutError:
            pass
        except ConnectionResetError:
            pass
        return answer


def whole_answers(data: bytes) -> int:
    """How many answers the bytes hold from beginning to end; those without a length are never whole."""
    count = 0
    while (end := data.find(b"\r\n\r\n")) >= 0:
        length = re.search(rb"^content-length: (\d+)", data[:end], re.IGNORECASE | re.MULTILINE)
        if length is None or len(data) < end + 4 + int(length[1]):
            break
        count, data = count + 1, data[end + 4 + int(length[1]) :]
    return count


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def assert_well(live: Live) -> None:
    """It is alive and answers others, soon."""
    began = time.monotonic()
    assert live.client.get("/livez").status_code == 200
    answer = live.signals("S01")
    assert answer.status_code == 200, answer.text
    assert time.monotonic() - began < SOON_S


BODY = json.dumps({"symbols": ["S01"]}).encode()
ROW = b'{"symbol":"S01","timestamp":"2023-11-01T21:00:00Z","features":{'


def many(pattern: bytes, count: int) -> bytes:
    return b",".join(pattern % number for number in range(count))


# Path, body, and the codes that may refuse it.
HEAVY = {
    "a million symbols": (
        "/signals",
        b'{"symbols":[' + many(b'"S%d"', 1_000_000) + b"]}",
        {"body_too_large"},
    ),
    "100,000 symbols": ("/signals", b'{"symbols":[' + many(b'"S%d"', 100_000) + b"]}", {"oversized_batch"}),
    "100,000 short symbols": ("/signals", b'{"symbols":[' + b'"",' * 99_999 + b'""]}', {"wrong_value"}),
    "a symbol of 30 MB": ("/signals", b'{"symbols":["' + b"x" * 30_000_000 + b'"]}', {"body_too_large"}),
    "deep arrays": ("/score", b"[" * 1_000_000, {"oversized_batch"}),
    "deep objects": ("/score", b'{"a":' * 1_000_000, {"oversized_batch"}),
    "deep, but not wide": ("/score", b"[" * 50_000, {"malformed_json"}),
    "a million rows of nothing": ("/score", b'{"rows":[' + b"{}," * 1_000_000 + b"{}]}", {"oversized_batch"}),
    "100,000 rows of nothing": ("/score", b'{"rows":[' + b"{}," * 100_000 + b"{}]}", {"missing_field"}),
    "100,000 wrong rows": ("/score", b'{"rows":[' + b"1," * 100_000 + b"1]}", {"wrong_type"}),
    "100,000 features": (
        "/score",
        b'{"rows":[' + ROW + many(b'"k%d":1.0', 100_000) + b"}}]}",
        {"extra_feature"},
    ),
    "100,000 wrong features": (
        "/score",
        b'{"rows":[' + ROW + many(b'"k%d":"x"', 100_000) + b"}}]}",
        {"extra_feature"},
    ),
    "a million features": (
        "/score",
        b'{"rows":[' + ROW + many(b'"k%d":1', 1_000_000) + b"}}]}",
        {"oversized_batch"},
    ),
    "100,000 surplus fields": ("/score", b'{"rows":[],' + many(b'"k%d":1', 100_000) + b"}", {"empty_batch"}),
    "a window of anything": (
        "/score",
        b'{"rows":[' + ROW + b'},"window":[[' + b'"",' * 100_000 + b"1]]}]}",
        {"wrong_type"},
    ),
    "a number of a million digits": (
        "/score",
        b'{"rows":[' + ROW + b'"a":' + b"9" * 1_000_000 + b"}}]}",
        {"malformed_json"},
    ),
    "an exponent of a million digits": (
        "/score",
        b'{"rows":[' + ROW + b'"a":1e' + b"9" * 1_000_000 + b"}}]}",
        {"infinity", "malformed_json"},
    ),
}


@pytest.mark.parametrize("name", HEAVY)
def test_a_body_that_is_costly_to_read_is_refused_before_it_costs_much(live, name):
    path, body, codes = HEAVY[name]
    began = time.monotonic()
    answer = live.client.post(path, content=body, headers={"content-type": "application/json"})
    assert time.monotonic() - began < SOON_S
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["code"] in codes
    assert len(answer.content) < 2000
    assert_well(live)


@pytest.mark.parametrize(
    "symbol",
    [
        "\x00",
        "S01\x00",
        "\u202eS01",
        "🜁" * 64,
        "\ud7ff",
        "a\r\nX-Evil: 1",
        "../../etc/passwd",
        "' OR 1=1 --",
        "%00",
        "\\u0000",
        "<script>alert(1)</script>",
        "{{7*7}}",
        "$(id)",
    ],
)
def test_odd_texts_are_symbols_that_nobody_knows(live, symbol):
    answer = live.client.post("/signals", json={"symbols": [symbol]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unknown_symbol")
    assert "x-evil" not in answer.headers
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "body",
    [
        b'{"symbols":["\xff\xfe"]}',
        b'{"symbols":["\\ud800"]}',
        b"\x00" * 1000,
        b"\xef\xbb\xbf{}",
        b"{}" * 1000,
        b'{"symbols":NaN}',
        b"null",
        b"true",
        b'"x"',
        b"-",
        b"",
    ],
)
def test_broken_texts_are_refused(live, body):
    answer = live.client.post("/signals", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["code"] in ("malformed_json", "wrong_type", "missing_field", "nan")


def test_an_arrow_stream_that_claims_more_than_it_holds_is_refused(live):
    frame = pa.table(
        {
            "symbol": ["S01"],
            "timestamp": pa.array([0], pa.timestamp("us", "UTC")),
            "x": pa.array([1.0], pa.float32()),
        }
    )
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, frame.schema) as writer:
        writer.write_table(frame)
    whole, random = stream.getvalue(), np.random.default_rng(0)
    bodies = [whole[:cut] for cut in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 9)]
    bodies += [
        b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"\0" * 64,
        b"\xff\xff\xff\xff\xf0\xff\xff\x7f" + whole[8:],
        b"ARROW1\0\0" + whole,
        os.urandom(5000),
        whole + whole,
    ]
    for _ in range(150):
        spoiled = bytearray(whole)
        for place in random.integers(0, len(spoiled), random.integers(1, 12)):
            spoiled[place] = random.integers(0, 256)
        bodies.append(bytes(spoiled))
    # A million rows of one symbol compress to nothing; a dictionary unfolds to any size.
    long = pl.DataFrame({"symbol": ["S01"] * 1_000_000})
    for codec in ("zstd", "lz4"):
        packed = io.BytesIO()
        long.write_ipc_stream(packed, compression=codec)
        bodies.append(packed.getvalue())
    folded = io.BytesIO()
    with pa.ipc.new_stream(folded, pa.schema([("symbol", pa.dictionary(pa.int8(), pa.string()))])) as writer:
        writer.write_table(
            pa.table(
                {
                    "symbol": pa.DictionaryArray.from_arrays(
                        pa.array([0] * 100_000, pa.int8()), pa.array(["x" * 1_000_000])
                    )
                }
            )
        )
    bodies.append(folded.getvalue())
    for number, body in enumerate(bodies):
        began = time.monotonic()
        answer = live.client.post(
            "/score", content=body, headers={"content-type": "application/vnd.apache.arrow.stream"}
        )
        assert 400 <= answer.status_code < 500, (number, answer.text)
        assert answer.json()["error"]["code"] != "disconnected"
        assert time.monotonic() - began < SOON_S
    assert_well(live)


REQUESTS = {
    "no request at all": (b"\r\n\r\n",),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,),
    "a negative length": (head(length=-5), BODY),
    "a length that is no number": (head(length="many"), BODY),
    "two lengths": (head(length=len(BODY), more=b"Content-Length: 3\r\n"), BODY),
    "length and chunks": (head(length=len(BODY), more=b"Transfer-Encoding: chunked\r\n"), BODY),
    "broken chunks": (
        head(length=0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"),
        b"zz\r\nabc\r\n0\r\n\r\n",
    ),
    "a chunk without end": (
        head(length=0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"),
        b"fffffffffffffff\r\nabc\r\n",
    ),
    "a header of a megabyte": (head(more=b"X-Long: " + b"a" * 1_000_000 + b"\r\n"),),
    "ten thousand headers": (head(more=b"".join(b"X-%d: 1\r\n" % number for number in range(10_000))),),
    "a header folded over lines": (head(more=b"X-Folded: a\r\n b\r\n", length=len(BODY)), BODY),
    "a null byte in a header": (head(more=b"X-Null: a\0b\r\n"),),
    "a path of a megabyte": (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",),
    "a path out of the folder": (
        b"GET /review/../../secret.txt HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        f"Authorization: Bearer {KEY}\r\n\r\n".encode(),
    ),
    "a path with null bytes": (
        f"GET /review/%00 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode(),
    ),
    "another version": (b"GET /livez HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",),
    "another method": (b"BREW / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",),
    "an expectation that nobody meets": (head(length=len(BODY), more=b"Expect: 42\r\n"), BODY),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_broken_http_is_refused_or_dropped(live, name):
    answer = raw(live, *REQUESTS[name])
    assert status_of(answer) < 500, answer[:300]
    assert b"Traceback" not in answer
    assert_well(live)


def test_paths_that_nobody_serves_leave_nothing_behind(live):
    before = len(live.client.get("/metrics").text)
    for number in range(300):
        assert live.client.get(f"/nowhere/{number}").status_code == 404
    after = live.client.get("/metrics")
    assert "nowhere" not in after.text
    assert len(after.text) < before + 2000


def test_http_1_0_and_requests_in_one_go_are_answered(live):
    assert status_of(raw(live, head(length=len(BODY), version="1.0"), BODY, silence_s=SOON_S)) == 200
    answers = raw(live, (head(length=len(BODY)) + BODY) * 5, answers=5, silence_s=SOON_S)
    assert answers.count(b"HTTP/1.1 200 OK") == 5


def test_a_body_shorter_than_announced_is_given_up(live):
    began = time.monotonic()
    assert status_of(raw(live, head(length=10_000), BODY, shut=True)) in (0, 400, 503)
    with socket.create_connection(("127.0.0.1", port_of(live)), timeout=SOON_S) as waiting:
        waiting.sendall(head(length=10_000) + BODY)
        assert status_of(waiting.recv(65536)) == 503
    assert time.monotonic() - began < 2 * SOON_S


def test_clients_that_dribble_take_no_place_from_others(live):
    with ExitStack() as stack:
        dribbling = [
            stack.enter_context(
                closing(socket.create_connection(("127.0.0.1", port_of(live)), timeout=SOON_S))
            )
            for _ in range(400)
        ]
        stop = threading.Event()

        def dribble() -> None:
            for number, connection in enumerate(dribbling):
                connection.sendall(
                    head(length=10_000)
                    if number % 2
                    else b"POST /signals HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
                )
            while not stop.wait(0.2):
                for number, connection in enumerate(dribbling):
                    if stop.is_set():
                        return
                    try:
                        connection.send(b"a")
                    except OSError:
                        dribbling[number] = socket.socket()

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            for _ in range(20):
                assert_well(live)
                time.sleep(0.1)
        finally:
            stop.set()
            thread.join()


def test_clients_that_do_not_read_their_answers_or_leave_take_nothing_from_others(live, run):
    body = json.dumps({"symbols": run.market.symbols}).encode()
    with ExitStack() as stack:
        for number in range(100):
            connection = stack.enter_context(
                closing(socket.create_connection(("127.0.0.1", port_of(live)), timeout=SOON_S))
            )
            connection.sendall((head(length=len(body)) + body) * 5)
            if number % 2:
                connection.close()
        assert_well(live)
    until(lambda: live.metric("queue") == 0, what="an empty queue")


def test_a_flood_of_connections_leaves_the_service_reachable(live):
    with ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(
                closing(socket.create_connection(("127.0.0.1", port_of(live)), timeout=SOON_S))
            )
        with httpx.Client(
            base_url=live.url, timeout=SOON_S, headers={"Authorization": f"Bearer {KEY}"}
        ) as fresh:
            assert fresh.get("/livez").status_code == 200
            assert fresh.post("/signals", json={"symbols": ["S01"]}).status_code == 200
    assert_well(live)
