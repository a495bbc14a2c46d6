"""The service's description for clients: models of every answer, examples, and what each error means."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from serving.api.requests import ARROW, JSON, ScoreRequest, Shape, SignalsRequest

_EXAMPLE_SIGNAL = {
    "symbol": "AAPL",
    "score": 0.0042,
    "p10": -0.031,
    "p50": 0.0042,
    "p90": 0.039,
    "uncertainty": 0.027,
    "position": 0.05,
    "feature_time": "2024-05-31T20:00:00.000000Z",
    "known_time": "2024-05-31T20:00:00.000000Z",
    "stale": False,
    "behind": False,
}
_EXAMPLE_MODEL = {
    "name": "demo",
    "version": 3,
    "bundle_sha256": "9f" * 32,
    "schema": "2b0f0c167528",
    "code_version": "f508a0e9699a5aa1",
    "train_window": "2021-01-04..2023-06-30",
}
_EXAMPLE_ANSWER = {
    "request_id": "5f0c" * 8,
    "answered_at": "2024-06-01T08:00:00.000000+00:00",
    "model": _EXAMPLE_MODEL,
    "features": {
        "publication": "9171907e1367-23f6f75a",
        "newest": "2024-05-31T20:00:00.000000Z",
        "source": "store",
    },
    "period": "1d",
    "horizon_bars": 5,
    "target": "sector_neutral_return",
    "signals": [_EXAMPLE_SIGNAL],
}


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Signal(_Answer):
    """What the model says about one symbol.

    Returns are log returns over `horizon_bars`, of the kind that `target` names.
    """

    symbol: str
    score: float | None = Field(description="expected return; null only if the model gave no finite number")
    p10: float | None = Field(description="the return is expected to fall below this in 10 % of cases")
    p50: float | None
    p90: float | None = Field(description="the return is expected to stay below this in 90 % of cases")
    uncertainty: float | None = Field(
        description=(
            "half the width of the band from p10 to p90, as the standard deviation of a normal distribution"
        )
    )
    position: float | None = Field(
        description=(
            "share of the capital of ONE new long-short book that this name gets, negative for short; 0 for"
            " most names, and for stale or behind features. /signals: in the book of the whole market."
            " /score: if this row alone stood in the market's book (cross_section market), or in the book of"
            " the request's rows with its timestamp (batch). A portfolio that rebalances every bar holds as"
            " many such books as the horizon has bars, each with an equal share of the capital."
        )
    )
    feature_time: AwareDatetime = Field(description="close of the bar that the features belong to")
    known_time: AwareDatetime | None = Field(
        description="when the features were known; null for given features"
    )
    stale: bool = Field(description="the features are older than the service's limit")
    behind: bool = Field(description="other symbols have a newer bar")


class ModelStamp(_Answer):
    """Which model answered."""

    name: str
    version: int
    bundle_sha256: str = Field(description="SHA-256 of the model's bundle")
    schema_: str = Field(alias="schema", description="hash of the input columns in their order")
    code_version: str
    train_window: str = Field(description="first and last day that the experts learned from")


class Features(_Answer):
    """Where the features came from."""

    publication: str = Field(
        description="feature publication that the market was read from; empty where none played a part"
    )
    newest: AwareDatetime = Field(description="close of the newest bar")
    source: Literal["store", "snapshot", "request"] = Field(
        description=(
            "snapshot: the store did not answer, or holds part of a publication that the model needs whole;"
            " the service's last reading of it did"
        )
    )


class SignalsAnswer(_Answer):
    """The signals, in the order of the request, and the stamps of what made them."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE_ANSWER]})

    request_id: str
    answered_at: AwareDatetime
    model: ModelStamp
    features: Features
    period: str
    horizon_bars: int
    target: str
    signals: list[Signal]


class Refused(_Answer):
    """A bundle that was not taken over."""

    version: int | None
    bundle_sha256: str | None
    reason: str
    when: AwareDatetime


class ModelAnswer(ModelStamp):
    """What is served, since when, and its gates."""

    since: str | None
    who: str | None
    why: str | None
    verdict: Any = Field(description="the gates' verdict, each gate with number, threshold and reason")
    period: str
    horizon_bars: int
    target: str
    experts: list[str]
    inputs: list[str] = Field(description="columns that /score needs, besides `context`")
    context: list[str]
    lookback_bars: int
    needs_window: bool
    needs_whole_bars: bool = Field(
        description="whether /score takes whole bars with cross_section batch only"
    )
    last_refusal: Refused | None


class CheckAnswer(_Answer):
    name: str
    ok: bool
    reason: str


class FeatureStatus(_Answer):
    publication: str | None
    age_s: float | None
    symbols: int
    behind: int


class WatchStatus(_Answer):
    up: bool
    problem: str | None
    refused: Any


class WriterStatus(_Answer):
    up: bool
    problem: str | None
    rows_written: int | None


class LogStatus(_Answer):
    queued: int
    dropped: int
    problem: str | None


class StatusAnswer(_Answer):
    """Readiness and its reasons."""

    ready: bool
    checks: list[CheckAnswer]
    features: FeatureStatus
    champion_watch: WatchStatus
    log_writer: WriterStatus
    answer_log: LogStatus | None
    last_refusal: Refused | None


class IndexAnswer(_Answer):
    service: str
    openapi: str
    model: str
    status: str
    review: str
    metrics: str
    ready: str


class ErrorBody(BaseModel):
    model_config = ConfigDict(extra="allow")

    code: str
    field: str | None = Field(description="the field that is to blame, such as rows[3].features.rsi_14_rank")
    message: str
    request_id: str


class ErrorAnswer(_Answer):
    """Why a request was not answered, for machines (`code`) and for people (`message`)."""

    error: ErrorBody


# Status, codes, and what a client should do.
_ERRORS: dict[int, tuple[tuple[str, ...], str]] = {
    400: (("malformed_json", "malformed_arrow", "disconnected"), "The body can't be parsed"),
    401: (("unauthorised",), "An API key is needed"),
    403: (("loopback_only",), "Without an API key only clients on the same machine are answered"),
    413: (("oversized_batch", "body_too_large"), "The request is larger than the service takes; split it"),
    415: (("unsupported_media_type",), "The Content-Type is not taken here"),
    422: (
        (
            "unknown_symbol",
            "duplicate_symbol",
            "empty_batch",
            "missing_feature",
            "extra_feature",
            "missing_field",
            "extra_field",
            "wrong_type",
            "wrong_value",
            "nan",
            "infinity",
            "future_timestamp",
            "missing_window",
            "wrong_window_shape",
        ),
        "The request is understood but its content is refused; `field` names the place",
    ),
    429: (("too_many_requests", "busy"), "Too many requests; the header Retry-After says when to come back"),
    500: (("internal",), "A fault of the service; its log says more under the request_id"),
    503: (
        ("no_champion", "store_unavailable", "timeout"),
        "Nothing can be answered now; the header Retry-After says when to come back",
    ),
}
_ALWAYS = (401, 403, 429, 500, 503)
_ANSWERS: dict[str, type[BaseModel]] = {
    "signals": SignalsAnswer,
    "score": SignalsAnswer,
    "model": ModelAnswer,
    "status": StatusAnswer,
    "index": IndexAnswer,
}


def responses_of(endpoint: str) -> dict[int | str, dict[str, Any]]:
    """The answers of an endpoint by status, as FastAPI takes them."""
    statuses = sorted(_ERRORS) if endpoint in ("signals", "score") else sorted((*_ALWAYS, 400, 413))
    errors = {
        status: {
            "model": ErrorAnswer,
            "description": f"{_ERRORS[status][1]}. Codes: {', '.join(_ERRORS[status][0])}",
        }
        for status in statuses
    }
    return {200: {"model": _ANSWERS[endpoint], "description": "The answer"}, **errors}


def signals_body() -> dict[str, Any]:
    """The request body of /signals."""
    schema = SignalsRequest.model_json_schema()
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


def score_body() -> dict[str, Any]:
    """The request body and the query parameter of /score."""
    schema = _inlined(ScoreRequest.model_json_schema())
    content = {
        JSON: {"schema": schema},
        ARROW: {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": (
                    "Arrow IPC stream: symbol (string), timestamp (timestamp[us, UTC]), one float32 a"
                    " feature, window (binary)"
                ),
            }
        },
    }
    parameter = {
        "name": "cross_section",
        "in": "query",
        "required": False,
        "description": "as in the JSON body, for requests that do not name it there",
        "schema": {"type": "string", "enum": ["market", "batch"], "default": "market"},
    }
    return {"requestBody": {"required": True, "content": content}, "parameters": [parameter]}


def describe(app: FastAPI, shape: Shape | None, symbols: Sequence[str]) -> dict[str, Any]:
    """The OpenAPI document, with the columns and symbols that are served now written into the
    request bodies.
    """
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "an API key of the service"},
            "api_key": {
                "type": "apiKey",
                "in": "header",
                "name": "X-API-Key",
                "description": "an API key of the service",
            },
        }
        document["security"] = [{"bearer": []}, {"api_key": []}]
        app.openapi_schema = document
    return _as_served(app.openapi_schema, shape, symbols)


def _example_row(symbol: str, shape: Shape) -> dict[str, Any]:
    row = {
        "symbol": symbol,
        "timestamp": "2024-05-31T20:00:00Z",
        "features": dict.fromkeys(shape.columns, 0.1) | dict.fromkeys(shape.context),
    }
    return row | (
        {"window": [[0.1] * len(shape.columns)] * shape.lookback_bars} if shape.lookback_bars else {}
    )


def _as_served(document: dict[str, Any], shape: Shape | None, symbols: Sequence[str]) -> dict[str, Any]:
    document = copy.deepcopy(document)
    contents = {
        path: document["paths"][path]["post"]["requestBody"]["content"][JSON]
        for path in ("/signals", "/score")
    }
    bodies = {path: content["schema"]["properties"] for path, content in contents.items()}
    names = [*symbols[:2]] or ["AAPL", "MSFT"]
    contents["/signals"]["examples"] = {"by symbols": {"value": {"symbols": names}}}
    bodies["/signals"]["symbols"]["uniqueItems"] = True
    if symbols:
        bodies["/signals"]["symbols"]["items"]["enum"] = list(symbols)
    if shape is not None:
        row = bodies["/score"]["rows"]["items"]
        value = row["properties"]["features"]["additionalProperties"]
        row["properties"]["features"] = {
            **row["properties"]["features"],
            "additionalProperties": False,
            "required": list(shape.names),
            "properties": dict.fromkeys(shape.names, value),
        }
        if shape.lookback_bars:
            bars = {"minItems": shape.lookback_bars, "maxItems": shape.lookback_bars}
            inputs = {
                "type": "array",
                "items": value,
                "minItems": len(shape.columns),
                "maxItems": len(shape.columns),
            }
            row["properties"]["window"] = {
                "type": "array",
                "description": "oldest bar first, the newest bar last",
                "items": inputs,
                **bars,
            }
            row["required"] = [*row["required"], "window"]
        else:
            row["properties"]["window"] = {
                "type": "null",
                "description": "the model that is served needs none",
            }
        example = {
            "cross_section": "batch" if shape.whole_bars else "market",
            "rows": [_example_row(names[0], shape)],
        }
        contents["/score"]["examples"] = {"one row": {"value": example}}
    return document


_ABOUT = (
    "Signals of the champion: expected return, band and suggested position of each symbol, with the stamps of"
    ' the model and of the features that made them. Every error is `{"error": {code, field, message,'
    " request_id}}`. Clients on the same machine need no key unless the service has one. /livez, /readyz and"
    " /metrics (Prometheus) need none."
)


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its `$defs` put where they are referred to."""
    definitions = schema.pop("$defs", {})

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return resolve(definitions[value["$ref"].rpartition("/")[2]])
            return {key: resolve(item) for key, item in value.items()}
        return [resolve(item) for item in value] if isinstance(value, list) else value

    return resolve(schema)
