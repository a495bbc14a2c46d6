"""What BentoML's own client reads to find endpoints, /schema.json: our routes are mounted, so that BentoML
itself knows none of them.
"""

from typing import Any

from pydantic import BaseModel

from serving.api.answer_types import SignalsAnswer
from serving.api.request_types import ScoreRequest, SignalsRequest

PATH = "/schema.json"
_POSTED: dict[str, tuple[type[BaseModel], str]] = {
    "signals": (SignalsRequest, "Signals of symbols, from the newest features in the online store."),
    "score": (ScoreRequest, "Signals of given features."),
}


def bento_schema(title: str) -> dict[str, Any]:
    """The endpoints as BentoML describes its own: name, route, and the JSON schemas of what goes in and out.

    BentoML's client posts only: the service's other routes are not for it.
    """
    output = SignalsAnswer.model_json_schema()
    routes = [
        {
            "name": name,
            "route": f"/{name}",
            "doc": doc,
            "batchable": False,
            "input": body.model_json_schema(),
            "output": output,
        }
        for name, (body, doc) in _POSTED.items()
    ]
    return {"name": title, "type": "service", "routes": routes}
