"""How connections are spoken, byte by byte, by a server that runs in this process."""

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from serving.api import wire
from serving.api.wire import PlainHttp
from tests.serving.live_service import until

BODY = b'{"symbols": ["A"]}'
# What Java's HttpClient sends with every first request, what browsers and curl --http2 send, and others.
OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n",
    b"connection: keep-alive, upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"Connection: Upgrade\r\nUpgrade: TLS/1.0, foo/2\r\n",
    b"Connection: Upgrade\r\nConnection: keep-alive\r\nUpgrade: h2c\r\n",
]


async def echo(scope, receive, send) -> None:
    """Answers with what the request said; its headers without those of this test's own host."""
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    said = json.dumps(
        {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "body": body.decode(),
            "names": [name.decode() for name, _ in scope["headers"]],
        }
    ).encode()
    length = (b"content-length", str(len(said)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": said})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = uvicorn.Server(
        uvicorn.Config(echo, port=0, http=PlainHttp, ws="none", lifespan="off", log_level="error")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started, what="the server")
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def draining() -> Iterator[None]:
    wire.draining.begun = True
    yield
    wire.draining.begun = False


def head(more: bytes = b"", *, path: bytes = b"/signals?a=1", length: int | None = len(BODY)) -> bytes:
    sized = b"" if length is None else b"Content-Length: %d\r\n" % length
    return b"POST " + path + b" HTTP/1.1\r\nHost: here\r\n" + more + sized + b"\r\n"


def exchange(port: int, *parts: bytes, answers: int = 1) -> tuple[list[dict], list[str]]:
    """What was understood, and the heads of the answers, for bytes sent one part after the other."""
    data = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
            # The parts must come one by one.
            connection.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                data += connection.recv(65536)
        connection.settimeout(10)
        while data.count(b'"names"') < answers or not data.endswith(b"}"):
            more = connection.recv(65536)
            if not more:
                break
            data += more
    heads = [text.decode() for text in re.findall(rb"HTTP/1\.1 .*?\r\n\r\n", data, re.DOTALL)]
    bodies = [json.loads(text) for text in re.findall(rb"\{.*?\}(?=HTTP|$)", data, re.DOTALL)]
    return bodies, heads


@pytest.mark.parametrize("offer", OFFERS)
def test_an_offered_upgrade_is_passed_over_and_the_body_read(port, offer):
    (said,), _ = exchange(port, head(offer) + BODY)
    assert (said["method"], said["path"], said["query"], said["body"]) == (
        "POST",
        "/signals",
        "a=1",
        BODY.decode(),
    )
    assert "upgrade" not in said["names"]
    assert "http2-settings" not in said["names"]


@pytest.mark.parametrize("offer", OFFERS)
def test_it_does_not_matter_where_the_bytes_are_cut(port, offer):
    whole = head(offer) + BODY
    for cut in (1, 20, len(whole) - len(BODY) - 2, len(whole) - len(BODY), len(whole) - 3):
        (said,), _ = exchange(port, whole[:cut], whole[cut:])
        assert said["body"] == BODY.decode(), cut


@pytest.mark.parametrize("offer", [b"", *OFFERS])
def test_chunked_bodies_pipelined_requests_and_expectations_are_understood(port, offer):
    chunked = (
        head(offer + b"Transfer-Encoding: chunked\r\n", length=None) + b"12\r\n" + BODY + b"\r\n0\r\n\r\n"
    )
    got = b"GET /b HTTP/1.1\r\nHost: here\r\n" + offer + b"\r\n"
    said, heads = exchange(port, chunked + (head(offer) + BODY) * 2 + got, answers=4)
    assert [(each["method"], each["body"]) for each in said] == [("POST", BODY.decode())] * 3 + [("GET", "")]
    assert all("connection: close" not in text for text in heads)
    (said,), heads = exchange(port, head(offer + b"Expect: 100-continue\r\n"), BODY)
    assert said["body"] == BODY.decode()
    assert heads[0].startswith("HTTP/1.1 100")


def test_get_and_head_with_an_offer_are_answered(port):
    for method in (b"GET", b"HEAD", b"DELETE"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(method + b" / HTTP/1.1\r\nHost: here\r\nConnection: close, Upgrade\r\n")
            connection.sendall(b"Upgrade: h2c\r\n\r\n")
            data = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
        assert data.startswith(b"HTTP/1.1 200")
        assert data.endswith(b"}") == (method != b"HEAD")


@pytest.mark.parametrize(
    "what", [b"CONNECT here:80 HTTP/1.1\r\nHost: here\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
def test_another_protocol_is_refused_at_once(port, what):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(what)
        data = b"".join(iter(lambda: connection.recv(65536), b""))
    assert data.startswith(b"HTTP/1.1 400")


def test_while_draining_each_answer_is_the_last_of_its_connection(port, draining):
    _, heads = exchange(port, head() + BODY)
    assert "connection: close" in heads[0]


def test_while_draining_all_requests_that_came_at_once_are_answered(port, draining):
    said, heads = exchange(port, (head() + BODY) * 5, answers=5)
    assert len(said) == 5
    assert [("connection: close" in text) for text in heads] == [False] * 4 + [True]
