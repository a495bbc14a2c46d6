"""Asks the service whether it is ready, and says in one line what it serves or why it serves nothing."""

import http.client
import json
import sys
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from serving.api.answer_types import ModelAnswer, StatusAnswer
from serving.faults import Faults
from serving.processes.plan import ServingPlan

_faults = Faults(lambda text: print(f"[serve] {text}", file=sys.stderr, flush=True))

_Asked = TypeVar("_Asked", bound=BaseModel)


def address(plan: ServingPlan) -> str:
    """Where the service answers, as a URL."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(plan.serving.host, plan.serving.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{plan.serving.port}"


def readiness(plan: ServingPlan) -> tuple[bool, str]:
    """Whether the service is ready, and in one line what it serves or why it is not."""
    status = _ask(plan, "/status", StatusAnswer)
    if status is None:
        return False, f"{address(plan)} does not answer yet; see {plan.serving_folder / 'service.log'}"
    if status.instance != plan.instance:
        return False, f"another service answers at {address(plan)}"
    model = _ask(plan, "/model", ModelAnswer) if status.ready else None
    if model is not None:
        champion = f"champion {model.name} version {model.version} ({model.bundle_sha256[:12]})"
        return True, f"{address(plan)}  {champion}"
    reasons = [check.reason or check.name for check in status.checks if not check.ok]
    return False, "; ".join(reasons) or "GET /status says why"


def _ask(plan: ServingPlan, path: str, kind: type[_Asked]) -> _Asked | None:
    """The answer of a route; None where nobody answers, or something else than this version's service."""
    keys = plan.serving.api_keys()
    host = address(plan).removeprefix("http://").rsplit(":", 1)[0].strip("[]")
    connection = http.client.HTTPConnection(host, plan.serving.port, timeout=2)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {keys[0]}"} if keys else {})
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    if isinstance(answer, dict) and "error" in answer:
        return None
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        _faults.say(f"{address(plan)}{path} answers something else than the service of this version", error)
        return None
