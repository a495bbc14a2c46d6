"""How connections are spoken: HTTP/1.1 whatever else a client offers, and drained before the process ends.

Uvicorn reads no body where a request offers an upgrade (Java's HttpClient does with every first one:
`Upgrade: h2c`), and closes kept connections at the first SIGTERM, while requests are on their way.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import httptools
import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from components.processes.endings import ending_signals

# What only the offer of another protocol needs (RFC 9113, 3.2.1; RFC 9110, 7.8).
_OFFERS = (b"upgrade", b"http2-settings")
# Uvicorn looks ten times a second whether it is to end.
_LISTENS_ON_S = 2.0
_TAKEN_AFTER_S = 0.1


class _Draining:
    """Whether this process is about to end."""

    begun = False


draining = _Draining()


class PlainHttp(HttpToolsProtocol):
    """Uvicorn's protocol without upgrades; while draining each answer is its connection's last."""

    def _should_upgrade(self) -> bool:
        return False

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        earlier = self.cycle
        super().on_headers_complete()
        if not draining.begun:
            return
        # Of requests that came at once the last one closes the connection.
        if earlier is not None and not earlier.response_started:
            earlier.keep_alive = True
        self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if not self.parser.should_upgrade():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._read_again(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _read_again(self, rest: bytes) -> None:
        """Read the request anew without its offer; `rest` is what came after its head."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.send_400_response("This is no proxy.")
            return
        head = [method, b" ", self.url, b" HTTP/", self.parser.get_http_version().encode(), b"\r\n"]
        for name, value in self.headers:
            kept = _without_offers(value) if name == b"connection" else value
            if name not in _OFFERS and kept:
                head += [name, b": ", kept, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"".join([*head, b"\r\n", rest]))


def _without_offers(connection: bytes) -> bytes:
    tokens = [token.strip() for token in connection.split(b",")]
    return b", ".join(token for token in tokens if token.lower() not in _OFFERS)


def speak_plain_http() -> None:
    """Have Uvicorn, which BentoML starts with its defaults, use `PlainHttp` and no web sockets."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{PlainHttp.__name__}"
    uvicorn.config.WS_PROTOCOLS["auto"] = None


def drain_first(seconds: float, tell: Callable[[], None]) -> None:
    """Have SIGTERM, SIGINT and SIGHUP first call `tell` and make each answer its connection's last; only
    after `seconds` what Uvicorn does at once: no new connections, and the end after the last answer.

    A second signal ends the wait. To be called in the main thread of a worker, once Uvicorn runs.
    """
    uvicorns = signal.getsignal(signal.SIGTERM)

    def end() -> None:
        _end(uvicorns)

    def begin(*_: object) -> None:
        pause_s = 0.0 if draining.begun else seconds
        draining.begun = True
        tell()
        timer = threading.Timer(pause_s, end)
        timer.daemon = True
        timer.start()

    if callable(uvicorns):
        for number in ending_signals():
            signal.signal(number, begin)


def _end(uvicorns: Callable[[int, None], None]) -> None:
    """Have Uvicorn end, and the kernel take no more connections.

    BentoML's own process holds the socket too: connections would wait there for an answer that nobody gives.
    """
    listeners = list(getattr(getattr(uvicorns, "__self__", None), "servers", ()))
    held = [
        socket.socket(fileno=os.dup(each.fileno())) for listener in listeners for each in listener.sockets
    ]
    # Those that are connected already are taken; further ones are told to try again a second later.
    for each in held:
        each.listen(0)
    time.sleep(_TAKEN_AFTER_S)
    uvicorns(signal.SIGTERM, None)
    deadline = time.monotonic() + _LISTENS_ON_S
    while time.monotonic() < deadline and any(listener.is_serving() for listener in listeners):
        time.sleep(0.01)
    for each in held:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
