"""The routes of the service, the guard in front of them, and the description of both (OpenAPI)."""

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from serving.api.auth import Gatekeeper
from serving.api.limits import Concurrency, Intake, Limiter, retry_after
from serving.api.openapi import describe, responses_of, score_body, signals_body
from serving.api.requests import ARROW, JSON, Refusal
from serving.config import Settings

# BentoML's parent process imports this module too, and needs neither models nor metrics.
if TYPE_CHECKING:
    from serving.live.answers import Answers
    from serving.live.metrics import Metrics
    from serving.live.state_watch import Watch

log = logging.getLogger("alphaloop.serving")

Scope, Receive, Send = (
    dict[str, Any],
    Callable[[], Awaitable[dict[str, Any]]],
    Callable[[dict[str, Any]], Awaitable[None]],
)
_ENDPOINTS = {
    "/signals": "signals",
    "/score": "score",
    "/model": "model",
    "/status": "status",
    "/openapi.json": "openapi",
    "/": "index",
}
_REVIEW = "/review"
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


def make_app(review: Path, *, title: str, version: str) -> FastAPI:
    """The routes. `app.state.answers` and `app.state.watch` must be set before the first request."""
    app = FastAPI(title=title, version=version, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.openapi = lambda: describe(app, *app.state.watch.served())

    @app.get("/", summary="Where to go from here", tags=["service"], responses=responses_of("index"))
    async def index() -> Response:
        return _json(
            {
                "service": title,
                "openapi": "/openapi.json",
                "model": "/model",
                "status": "/status",
                "review": "/review/",
                "metrics": "/metrics",
                "ready": "/readyz",
            }
        )

    @app.post(
        "/signals",
        summary="Signals of symbols",
        tags=["signals"],
        responses=responses_of("signals"),
        openapi_extra=signals_body(),
    )
    async def signals(request: Request) -> Response:
        """Scores symbols on the newest features in the online store.

        Where the store is slow or gone the last snapshot of the market answers
        (`features.source` is `snapshot`)."""
        _require_type(request, (JSON,))
        answers: Answers = request.app.state.answers
        symbols = answers.read_symbols(await request.body())
        return Response(
            await answers.signals(symbols, request.scope["alphaloop.request_id"]), media_type=JSON
        )

    @app.post(
        "/score",
        summary="Signals of given features",
        tags=["signals"],
        responses=responses_of("score"),
        openapi_extra=score_body(),
    )
    async def score(request: Request) -> Response:
        """Scores rows of given features, as JSON or as an Arrow IPC stream (columns symbol, timestamp, one
        float a feature, and `window`, little-endian float32 bytes, where the model needs one; without
        compression)."""
        arrow = _require_type(request, (JSON, ARROW)) == ARROW
        answers: Answers = request.app.state.answers
        cross_section = request.query_params.get("cross_section")
        body = await request.body()
        return Response(
            await answers.score(
                body, request.scope["alphaloop.request_id"], arrow=arrow, cross_section=cross_section
            ),
            media_type=JSON,
        )

    @app.get("/model", summary="The model that answers", tags=["service"], responses=responses_of("model"))
    async def model(request: Request) -> Response:
        return _json(model_description(request.app.state.watch))

    @app.get("/status", summary="Readiness in detail", tags=["service"], responses=responses_of("status"))
    async def status(request: Request) -> Response:
        return _json(status_description(request.app.state.watch, request.app.state.answers))

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        return refusal_response(error, request.scope)

    @app.exception_handler(HTTPException)
    async def http_problem(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        allowed = error.headers or {}
        return refusal_response(
            Refusal(
                error.status_code,
                code,
                f"{request.method} {request.url.path}: {error.detail}. GET /openapi.json lists what"
                " there is.",
                headers=allowed,
            ),
            request.scope,
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return refusal_response(
            Refusal(422, "wrong_value", "The request has parameters that are not understood."), request.scope
        )

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return internal_error(error, request.scope)

    app.mount(_REVIEW, _Pages(review), name="review")
    return app


class _Pages(StaticFiles):
    """The pages of a folder that may not be there yet; what can't be the name of a file is not found."""

    def __init__(self, folder: Path):
        super().__init__(directory=folder, html=True, check_dir=False)
        self.config_checked = True

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        try:
            return super().lookup_path(path)
        except ValueError:
            return "", None


class Guard:
    """Stands before the routes: request number, key, rate, size of the body, requests under way, time;
    counts, and never lets a traceback out.
    """

    def __init__(self, app: FastAPI, settings: Settings):
        self.app, self.settings = app, settings
        self.gatekeeper = Gatekeeper(settings.api_keys(), settings.api_key_variable)
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
        scope["alphaloop.request_id"] = uuid.uuid4().hex
        sender = _Sender(send, scope)
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
        try:
            client = self.gatekeeper.identify(
                scope["headers"], address, basic=path == _REVIEW or path.startswith(f"{_REVIEW}/")
            )
        except Refusal:
            # Guessing keys is limited like asking.
            self.limiter.admit(f"unknown {address}")
            raise
        self.limiter.admit(client)
        async with asyncio.timeout(self.settings.request_timeout_ms / 1000):
            # A client that sends its body drop by drop takes no place from the others.
            with self.intake.open() as taken:
                body = await _read_body(scope, receive, self.settings.max_body_bytes, taken)
                with self.concurrency.place():
                    if self.metrics is not None:
                        self.metrics.queue.set(self.concurrency.under_way)
                    await self.app(scope, body, send)

    async def _show_metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Like /livez and /readyz it needs no key:

        Prometheus asks often, from elsewhere, and learns nothing of any request.
        """
        # Prometheus must be imported in the worker, where BentoML has said in which folder its processes
        # meet.
        from serving.live.metrics import CONTENT_TYPE, exposition

        await Response(await asyncio.to_thread(exposition), media_type=CONTENT_TYPE)(scope, receive, send)

    def _count(self, scope: Scope, status: int, started: float) -> None:
        if self.metrics is None or scope["path"] == "/metrics":
            return
        endpoint = _ENDPOINTS.get(scope["path"]) or (
            "review" if scope["path"].startswith(_REVIEW) else "other"
        )
        result = scope.get("alphaloop.result") or ("ok" if status < 400 else str(status))
        self.metrics.requests.labels(endpoint, result).inc()
        self.metrics.request_ms.labels(endpoint).observe((time.perf_counter() - started) * 1000)
        self.metrics.queue.set(self.concurrency.under_way)


class _Sender:
    """Adds the headers that every answer has, and remembers the status.

    After the first answer began, a second one is dropped.
    """

    def __init__(self, send: Send, scope: Scope):
        self._send, self._scope, self.status, self.begun = send, scope, 500, False

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.begun = message["status"], True
            page = self._scope["path"].startswith(_REVIEW)
            headers = [
                (b"x-request-id", self._scope["alphaloop.request_id"].encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
                (b"referrer-policy", b"no-referrer"),
                (b"content-security-policy", (_PAGE_POLICY if page else _DATA_POLICY).encode()),
            ]
            message = {**message, "headers": [*message.get("headers", []), *headers]}
        await self._send(message)


async def _read_body(scope: Scope, receive: Receive, most: int, taken: Callable[[int], None]) -> Receive:
    """Read the body, at most `most` bytes of it, and return a `receive` that hands it on; `taken` is told the
    size of each part.
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
    whole = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

    async def again() -> dict[str, Any]:
        return whole.pop() if whole else await receive()

    return again


def refusal_response(error: Refusal, scope: Scope) -> Response:
    """The answer to a refused request."""
    scope["alphaloop.result"] = error.code
    headers = dict(error.headers)
    if error.retry_s is not None:
        headers["retry-after"] = retry_after(error.retry_s)
    return _json(error.body(scope["alphaloop.request_id"]), status=error.status, headers=headers)


def internal_error(error: Exception, scope: Scope) -> Response:
    """The answer to a request that failed through a fault of ours: its number, and nothing of the cause."""
    if not scope.get("alphaloop.logged"):
        log.error("Request %s to %s failed", scope["alphaloop.request_id"], scope["path"], exc_info=error)
        scope["alphaloop.logged"] = True
    return refusal_response(
        Refusal(
            500, "internal", "The service failed on this request. Its log says more under the request_id."
        ),
        scope,
    )


async def _answer(response: Response, scope: Scope, receive: Receive, send: _Sender) -> None:
    if not send.begun:
        await response(scope, receive, send)


def _json(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(body, inf_nan_mode="null"), status_code=status, media_type=JSON, headers=headers)


def _require_type(request: Request, allowed: tuple[str, ...]) -> str:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in allowed:
        raise Refusal(
            415,
            "unsupported_media_type",
            f"Content-Type {given[:100]!r} is not taken here. Send {' or '.join(allowed)}.",
            field="content-type",
        )
    return given


def model_description(watch: "Watch") -> dict[str, Any]:
    """What is served, since when, by whose word, and what was refused last."""
    champion = watch.state.champion
    if champion is None:
        raise Refusal(
            503,
            "no_champion",
            "No model is served yet. GET /status says why.",
            retry_s=5,
            last_refusal=watch.refusal,
        )
    about, model = champion.about, champion.model
    return {
        **champion.stamp,
        "since": about.get("since"),
        "who": about.get("who"),
        "why": about.get("why"),
        "verdict": about.get("verdict"),
        "period": model.period,
        "horizon_bars": model.horizon,
        "target": model.target,
        "experts": [expert.name for expert in model.experts],
        "inputs": list(model.columns),
        "context": list(model.context),
        "lookback_bars": model.lookback_bars,
        "needs_window": model.lookback_bars > 0,
        "needs_whole_bars": model.whole_bars,
        "last_refusal": watch.refusal,
    }


def status_description(watch: "Watch", answers: "Answers") -> dict[str, Any]:
    """Every condition of readiness with its reason, and how the processes beside the service are."""
    market, answer_log = watch.state.market, answers.answer_log
    writer, champion_watch = watch.status_file("log_writer.json"), watch.status_file("champion_watch.json")
    return {
        "ready": watch.ready,
        "checks": [{"name": check.name, "ok": check.ok, "reason": check.reason} for check in watch.checks],
        "features": {
            "publication": market.publication if market else None,
            "age_s": watch.feature_age_s(),
            "symbols": len(market.symbols) if market else 0,
            "behind": int(market.behind.sum()) if market else 0,
        },
        "champion_watch": {
            "up": watch.is_recent(champion_watch, "checked_at"),
            "problem": champion_watch.get("problem"),
            "refused": champion_watch.get("refused"),
        },
        "log_writer": {
            "up": watch.is_recent(writer, "at"),
            "problem": writer.get("problem"),
            "rows_written": writer.get("rows_written"),
        },
        "answer_log": (
            {"queued": answer_log.queued, "dropped": answer_log.dropped, "problem": answer_log.problem}
            if answer_log
            else None
        ),
        "last_refusal": watch.refusal,
    }
