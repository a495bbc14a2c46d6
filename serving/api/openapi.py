"""The service's description for clients: what each request takes, what each answer and each error means."""

import copy
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from serving.api.answer_types import ErrorAnswer, IndexAnswer, ModelAnswer, SignalsAnswer, StatusAnswer
from serving.api.given_rows import Shape
from serving.api.request_types import ARROW, EXAMPLE_MOMENT, JSON, ScoreRequest, SignalsRequest

# Status, codes, and what a client should do.
_ERRORS: dict[int, tuple[tuple[str, ...], str]] = {
    400: (
        ("malformed_json", "malformed_arrow", "unexpected_body", "said_twice", "disconnected"),
        "The body can't be parsed, or a header is there twice",
    ),
    401: (("unauthorised",), "An API key is needed"),
    403: (("loopback_only",), "Without an API key only clients on the same machine are answered, if any"),
    413: (("oversized_batch", "body_too_large"), "The request is larger than the service takes; split it"),
    415: (("unsupported_media_type",), "The Content-Type, its charset or the Content-Encoding is not taken"),
    422: (
        (
            "unknown_symbol",
            "duplicate_symbol",
            "said_twice",
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
            "whole_bars_needed",
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
_ABOUT = (
    "Signals of the champion: expected return, band and suggested position of each symbol, with the stamps of"
    ' the model and of the features that made them. Every error is `{"error": {code, field, message,'
    " request_id}}`. Where the service has no key, programs on its machine need none. /livez, /readyz and"
    " /metrics (Prometheus) never do. GET answers HEAD too."
)


def responses_of(endpoint: str) -> dict[int | str, dict[str, Any]]:
    """The answers of an endpoint by status, as FastAPI takes them."""
    statuses = sorted(_ERRORS) if endpoint in ("signals", "score") else sorted((*_ALWAYS, 400, 413, 422))
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
    """The request body and the query parameters of /score."""
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
    # No defaults: generated clients would send them beside others in the body.
    said = {"cross_section": {"type": "string", "enum": ["market", "batch"]}, "prices": {"type": "boolean"}}
    parameters = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": "as in the JSON body, for requests that do not name it there",
            "schema": schema,
        }
        for name, schema in said.items()
    ]
    return {"requestBody": {"required": True, "content": content}, "parameters": parameters}


def describe(
    app: FastAPI, shape: Shape | None, symbols: Sequence[str], *, prefix: str = ""
) -> dict[str, Any]:
    """The OpenAPI document, with the columns that are served now written into the request bodies, and symbols
    of the market as examples: which ones there are changes, and clients are generated once.

    `prefix`: path below which a proxy shows the service.
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
        document["servers"] = [{"url": prefix or "/"}]
        document["security"] = [{"bearer": []}, {"api_key": []}]
        app.openapi_schema = document
    return _as_served(app.openapi_schema, shape, symbols)


def _example_row(symbol: str, shape: Shape) -> dict[str, Any]:
    row = {
        "symbol": symbol,
        "timestamp": EXAMPLE_MOMENT,
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
    bodies["/signals"]["symbols"]["items"]["examples"] = names
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
