"""How answers are put into HTTP: JSON, refusals, and faults of ours, which say their number and nothing of
the cause.
"""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import Response
from pydantic_core import to_json

from serving.api.limits import retry_after
from serving.api.refusal import Refusal
from serving.api.request_types import JSON

log = logging.getLogger("alphaloop.serving")


def json_response(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON; NaN and infinity become null, pydantic models what they hold."""
    return Response(to_json(body, inf_nan_mode="null"), status_code=status, media_type=JSON, headers=headers)


def refusal_response(error: Refusal, scope: dict[str, Any]) -> Response:
    """The answer to a refused request."""
    scope["alphaloop.result"] = error.code
    headers = dict(error.headers)
    if error.retry_s is not None:
        headers["retry-after"] = retry_after(error.retry_s)
    return json_response(error.body(scope["alphaloop.request_id"]), status=error.status, headers=headers)


def internal_error(error: Exception, scope: dict[str, Any]) -> Response:
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
