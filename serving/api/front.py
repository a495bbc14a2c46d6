"""What stands before everything that the service answers, the probes of its health included: the path below
which a proxy shows it, pages of other origins that may ask it (CORS), and what we answer instead of BentoML.
"""

from collections.abc import Collection
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.bento_schema import PATH as BENTO_SCHEMA
from serving.config import Settings

_PREFLIGHT_S = 600
_OURS = (BENTO_SCHEMA, "/docs.json")


class Prefix:
    """Takes the prefix off a path that has it: a proxy may pass it on or take it off itself."""

    def __init__(self, app: ASGIApp, prefix: str):
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path == self._prefix or path.startswith(f"{self._prefix}/"):
            shorter = path[len(self._prefix) :] or "/"
            scope = {**scope, "path": shorter, "raw_path": shorter.encode()}
        await self._app(scope, receive, send)


class InsteadOfBentoML:
    """Gives our own routes some paths that BentoML has routes for itself, with what stands before them: keys
    and limits."""

    def __init__(self, app: ASGIApp, ours: ASGIApp, paths: Collection[str]):
        self._app, self._ours, self._paths = app, ours, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._ours if scope.get("path") in self._paths else self._app)(scope, receive, send)


def layers(settings: Settings, ours: ASGIApp) -> list[tuple[type, dict[str, Any]]]:
    """The middlewares, outermost first, each with its arguments; `ours` answers for our own routes."""
    found: list[tuple[type, dict[str, Any]]] = []
    if settings.cors_origins:
        cors = {
            "allow_origins": settings.cors_origins,
            "allow_methods": ("GET", "HEAD", "POST"),
            "allow_headers": ("Authorization", "Content-Type", "X-API-Key"),
            "expose_headers": ("X-Request-ID", "Retry-After"),
            "allow_credentials": False,
            "max_age": _PREFLIGHT_S,
        }
        found.append((CORSMiddleware, cors))
    if settings.prefix:
        found.append((Prefix, {"prefix": settings.prefix}))
    return [*found, (InsteadOfBentoML, {"ours": ours, "paths": _OURS})]
