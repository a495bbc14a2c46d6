"""The routes of the service, and what they say of it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from serving.api.bento_schema import PATH as BENTO_SCHEMA
from serving.api.bento_schema import bento_schema
from serving.api.guard import REVIEW
from serving.api.head import require_type
from serving.api.openapi import describe, responses_of, score_body, signals_body
from serving.api.refusal import Refusal
from serving.api.request_types import ARROW, JSON
from serving.api.responses import internal_error, json_response, refusal_response

# BentoML's parent process imports this module too, and needs no models.
if TYPE_CHECKING:
    from serving.live.answers import Answers

routes = APIRouter()


def make_app(review: Path, *, title: str, version: str, prefix: str = "") -> FastAPI:
    """The routes. `app.state.answers` and `app.state.keeper` must be set before the first request.

    Parameters
    ----------
    review : folder of the pages below /review; it may come later
    prefix : path below which a proxy shows the service; links carry it
    """
    app = FastAPI(
        title=title,
        version=version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Names of operations become names in generated clients.
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.prefix = prefix
    app.openapi = lambda: describe(app, *app.state.keeper.known_names(), prefix=prefix)
    app.include_router(routes)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    app.mount(REVIEW, _Pages(review), name="review")
    return app


@routes.get("/", summary="Where to go from here", tags=["service"], responses=responses_of("index"))
async def index(request: Request) -> Response:
    places = {
        "openapi": "/openapi.json",
        "model": "/model",
        "status": "/status",
        "review": "/review/",
        "metrics": "/metrics",
        "ready": "/readyz",
    }
    prefix = request.app.state.prefix
    return json_response(
        {"service": request.app.title, **{name: prefix + path for name, path in places.items()}}
    )


@routes.post(
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
    require_type(request.headers, (JSON,))
    answers: Answers = request.app.state.answers
    asked = answers.read_signals(await request.body())
    return Response(await answers.signals(asked, request.scope["alphaloop.request_id"]), media_type=JSON)


@routes.post(
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
    arrow = require_type(request.headers, (JSON, ARROW)) == ARROW
    answers: Answers = request.app.state.answers
    said = {name: request.query_params.get(name) for name in ("cross_section", "prices")}
    body = await request.body()
    found = await answers.score(body, request.scope["alphaloop.request_id"], arrow=arrow, **said)
    return Response(found, media_type=JSON)


@routes.get("/model", summary="The model that answers", tags=["service"], responses=responses_of("model"))
async def model(request: Request) -> Response:
    from serving.live.status import model_answer

    return json_response(model_answer(request.app.state.keeper))


@routes.get("/status", summary="Readiness in detail", tags=["service"], responses=responses_of("status"))
async def status(request: Request) -> Response:
    from serving.live.status import status_answer

    return json_response(status_answer(request.app.state.keeper, request.app.state.answers.answer_log))


@routes.get(BENTO_SCHEMA, include_in_schema=False)
async def schema(request: Request) -> Response:
    return json_response(bento_schema(request.app.title))


async def _refused(request: Request, error: Refusal) -> Response:
    return refusal_response(error, request.scope)


async def _http_problem(request: Request, error: HTTPException) -> Response:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    words = f"{request.method} {request.url.path}: {error.detail}. GET /openapi.json lists what there is."
    headers = {name: value.replace("GET", "GET, HEAD") for name, value in (error.headers or {}).items()}
    return refusal_response(Refusal(error.status_code, code, words, headers=headers), request.scope)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    return refusal_response(
        Refusal(422, "wrong_value", "The request has parameters that are not understood."), request.scope
    )


async def _failed(request: Request, error: Exception) -> Response:
    return internal_error(error, request.scope)


class _Pages(StaticFiles):
    """The pages of a folder that may not be there yet; what can't be the name of a file is not found.

    A folder's address leads on to the one with a slash, relative to itself: a proxy in front may have shown
    it under another name and below a prefix.
    """

    def __init__(self, folder: Path):
        super().__init__(directory=folder, html=True, check_dir=False)
        self.config_checked = True

    async def get_response(self, path: str, scope: Scope) -> Response:
        found = await super().get_response(path, scope)
        if isinstance(found, RedirectResponse):
            found.headers["location"] = f"{scope['path'].rpartition('/')[2]}/"
        return found

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        try:
            return super().lookup_path(path)
        except ValueError:
            return "", None
