"""What stands in front of the routes: request number, key, rate, size of the body, crowd, time."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Response

from serving.api.auth import Gatekeeper
from serving.api.bento_schema import PATH as BENTO_SCHEMA
from serving.api.head import require_known_query, require_no_body, require_said_once
from serving.api.limits import Concurrency, Intake, Limiter
from serving.api.refusal import Refusal
from serving.api.responses import internal_error, refusal_response
from serving.config import Settings

# BentoML's parent process imports this module too, and needs no metrics.
if TYPE_CHECKING:
    from serving.live.metrics import Metrics

REVIEW = "/review"

# As ASGI gives them.
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
_ENDPOINTS = {
    "/signals": "signals",
    "/score": "score",
    "/model": "model",
    "/status": "status",
    "/openapi.json": "openapi",
    BENTO_SCHEMA: "schema",
    "/": "index",
}
_POSTED = ("/signals", "/score")
# Pages of the review are whole in themselves: they may run and style themselves, and load nothing from
# anywhere else.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self'"
    " data: blob:; font-src data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'self'"
)
_DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
# Bodies of the largest size that may be in memory together.
_BODIES = 8


class Guard:
    """Stands before the routes: request number, key, rate, size of the body, requests under way, time;
    counts, and never lets a traceback out.
    """

    def __init__(self, app: FastAPI, settings: Settings):
        self.app, self.settings = app, settings
        self.gatekeeper = Gatekeeper(
            settings.api_keys(), settings.api_key_variable, keyless=settings.keyless, own_name=settings.host
        )
        self.limiter = Limiter(settings.requests_per_second, settings.burst)
        self.concurrency = Concurrency(settings.most_concurrent)
        self.intake = Intake(_BODIES * settings.max_body_bytes)
        self.metrics: Metrics | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        bodiless = scope["method"] == "HEAD"
        if bodiless:
            scope = {**scope, "method": "GET"}
        scope["alphaloop.request_id"] = uuid.uuid4().hex
        sender = _Sender(send, scope, bodiless=bodiless)
        try:
            await self._pass(scope, receive, sender)
        except Refusal as error:
            await _answer(refusal_response(error, scope), scope, receive, sender)
        except TimeoutError:
            late = Refusal(
                503,
                "timeout",
                f"The answer took longer than {self.settings.request_timeout_ms:g} ms. Ask for less in one"
                " request, or try again.",
                retry_s=1,
            )
            await _answer(refusal_response(late, scope), scope, receive, sender)
        except Exception as error:
            await _answer(internal_error(error, scope), scope, receive, sender)
        finally:
            self._count(scope, sender.status, started)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, address = scope["path"], (scope.get("client") or ("local", 0))[0]
        if path == "/metrics" and scope["method"] == "GET":
            await self._show_metrics(scope, receive, send)
            return
        page = path == REVIEW or path.startswith(f"{REVIEW}/")
        try:
            require_said_once(scope["headers"])
            client = self.gatekeeper.identify(scope["headers"], address, basic=page)
        except Refusal:
            # Guessing keys is limited like asking.
            self.limiter.admit(f"unknown {address}")
            raise
        self.limiter.admit(client)
        if path in _ENDPOINTS and scope["method"] == ("POST" if path in _POSTED else "GET"):
            require_known_query(path, scope["query_string"])
        async with asyncio.timeout(self.settings.request_timeout_ms / 1000):
            # A client that sends its body drop by drop takes no place from the others.
            with self.intake.open() as taken:
                body, read_again = await _read_body(scope, receive, self.settings.max_body_bytes, taken)
                require_no_body(scope["method"], body)
                with self.concurrency.place():
                    if self.metrics is not None:
                        self.metrics.queue.set(self.concurrency.under_way)
                    await self.app(scope, read_again, send)

    async def _show_metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Like /livez and /readyz it needs no key: Prometheus asks often, from elsewhere, and
        learns nothing of any request.
        """
        # Prometheus must be imported in the worker, where BentoML has said in which folder its processes
        # meet.
        from serving.live.metrics import exposition

        accept = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")
        body, kind = await asyncio.to_thread(exposition, accept)
        await Response(body, headers={"content-type": kind})(scope, receive, send)

    def _count(self, scope: Scope, status: int, started: float) -> None:
        if self.metrics is None or scope["path"] == "/metrics":
            return
        endpoint = _ENDPOINTS.get(scope["path"]) or (
            "review" if scope["path"].startswith(REVIEW) else "other"
        )
        result = scope.get("alphaloop.result") or ("ok" if status < 400 else str(status))
        self.metrics.requests.labels(endpoint, result).inc()
        self.metrics.request_seconds.labels(endpoint).observe(time.perf_counter() - started)
        self.metrics.queue.set(self.concurrency.under_way)


class _Sender:
    """Adds the headers that every answer has, remembers the status, and leaves out the body that HEAD must
    not get.

    After the first answer began, a second one is dropped.
    """

    def __init__(self, send: Send, scope: Scope, *, bodiless: bool):
        self._send, self._scope, self._bodiless = send, scope, bodiless
        self.status, self.begun = 500, False

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.begun = message["status"], True
            page = self._scope["path"].startswith(REVIEW)
            headers = [
                (b"x-request-id", self._scope["alphaloop.request_id"].encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
                (b"referrer-policy", b"no-referrer"),
                (b"content-security-policy", (_PAGE_POLICY if page else _DATA_POLICY).encode()),
            ]
            message = {**message, "headers": [*message.get("headers", []), *headers]}
        elif self._bodiless:
            message = {**message, "body": b""}
        await self._send(message)


async def _read_body(
    scope: Scope, receive: Receive, most: int, taken: Callable[[int], None]
) -> tuple[bytes, Receive]:
    """Read the body, at most `most` bytes of it, and return it with a `receive` that hands it on; `taken` is
    told the size of each part.
    """
    announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    too_large = Refusal(
        413,
        "body_too_large",
        f"The body is larger than {most:,} bytes. Split the request, or send Arrow in place of JSON.",
        field="body",
    )
    if announced.isdigit() and int(announced) > most:
        raise too_large
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "disconnected", "The client went away.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > most:
            raise too_large
        taken(len(parts[-1]))
    body = b"".join(parts)
    whole = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> dict[str, Any]:
        return whole.pop() if whole else await receive()

    return body, again


async def _answer(response: Response, scope: Scope, receive: Receive, send: _Sender) -> None:
    if not send.begun:
        await response(scope, receive, send)
