"""Settings of the service: where it listens, what it lets in, how long it waits, and what it keeps of its
answers.
"""

import os
from typing import Annotated, Literal

from pydantic import Field

from components.settings import Section

LOOPBACK = ("127.0.0.1", "::1", "localhost")
# `scheme://host` with an optional port, as browsers send it: no `*`, no `null`, no path.
_ORIGIN = r"^https?://[A-Za-z0-9.\-]+(:\d{1,5})?$|^https?://\[[0-9A-Fa-f:]+\](:\d{1,5})?$"


class Settings(Section):
    """How the champion is served. Times carry their unit in the name; limits are those of one worker."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="address to listen on; anything but a loopback address needs an API key",
    )
    port: int = Field(3000, ge=1, le=65535, description="port to listen on")
    workers: int = Field(
        1, ge=1, le=64, description="worker processes; each holds the model and its own limits"
    )
    threads: int = Field(2, ge=1, description="threads that a model uses for one batch")
    api_key_variable: str = Field(
        "ALPHALOOP_API_KEY",
        min_length=1,
        description="environment variable with the API keys, comma separated; see `keyless` for none at all",
    )
    keyless: bool = Field(
        False,
        description=(
            "without an API key answer programs on this machine; only on a loopback address, and nothing that"
            " comes through a proxy. A proxy that says nothing of itself looks like this machine: set a key"
            " behind one"
        ),
    )
    prefix: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~\-]+)*$",
        description=(
            "path below which a proxy shows the service, such as /alphaloop; links and the OpenAPI document"
            " carry it"
        ),
    )
    cors_origins: tuple[Annotated[str, Field(pattern=_ORIGIN)], ...] = Field(
        (),
        description=(
            "origins whose pages may ask the service from a browser, such as https://desk.example; each named"
            " whole, `*` is refused"
        ),
    )
    max_symbols: int = Field(5000, ge=1, description="symbols in one request to /signals")
    max_rows: int = Field(2000, ge=1, description="rows in one request to /score")
    max_body_bytes: int = Field(32 * 2**20, ge=1024, description="largest request body")
    requests_per_second: float = Field(
        500.0,
        gt=0,
        description="steady rate of requests that one API key may send; without a key, one client address",
    )
    burst: int = Field(1000, ge=1, description="requests that may come at once before the rate counts")
    most_concurrent: int = Field(
        64, ge=1, description="requests worked on at a time; further ones are told to come back"
    )
    request_timeout_ms: float = Field(5000, gt=0, description="a request that takes longer is given up")
    drain_seconds: float = Field(
        5.0,
        ge=0,
        le=20,
        description=(
            "told to end (SIGTERM, SIGHUP, Ctrl-C) the service is not ready at once, but answers so long;"
            " allow request_timeout_ms and 10 s more before it is killed"
        ),
    )
    store_timeout_ms: float = Field(
        250,
        gt=0,
        description=(
            "a read of the online store that takes longer is given up; the last snapshot of the market"
            " answers"
        ),
    )
    max_feature_age_hours: float | None = Field(
        120.0,
        gt=0,
        description=(
            "the newest bar may be this old; older ones are marked stale, get no position and make the"
            " service not ready. None: no limit, for simulated or historical data"
        ),
    )
    poll_seconds: float = Field(
        1.0, gt=0, description="how often champion, feature store and readiness are looked at"
    )
    log_answers: bool = Field(True, description="keep every answer with its features, for drift and replay")
    log_queue_answers: int = Field(
        1000, ge=1, description="answers that may wait for the disk; further ones are not logged, and counted"
    )
    log_segment_seconds: float = Field(
        5.0,
        gt=0,
        description="a segment of the answer log is closed after this time, and the writer takes it",
    )
    log_segment_bytes: int = Field(
        16 * 2**20, ge=2**16, description="a segment of the answer log is closed at this size"
    )
    log_spool_bytes: int = Field(
        2 * 2**30,
        ge=2**20,
        description=(
            "answers that wait for the log writer may take this much disk; further ones are not logged, and"
            " counted"
        ),
    )
    keep_served_days: float | None = Field(
        400.0,
        gt=0,
        description=(
            "answers older than this are removed from `served`; None: never. What drift still looks at (the"
            " newest drift.window_bars bars of each champion on disk) always stays"
        ),
    )
    keep_served_bytes: int | None = Field(
        50 * 2**30,
        ge=2**20,
        description="`served` may take this much disk, then its oldest hours are removed; None: no limit",
    )
    registry_poll_seconds: float = Field(
        2.0, gt=0, description="how often the champion watcher asks the registry who is champion"
    )
    registry_timeout_s: float = Field(
        30.0,
        gt=0,
        description=(
            "an answer of the registry, download included, may take this long; then the watcher starts over"
        ),
    )
    keep_champions: int = Field(
        3, ge=1, description="bundles of champions kept on disk, the present one included"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="what the service's own log says; request bodies and keys never appear in it"
    )

    def api_keys(self) -> tuple[str, ...]:
        """The keys that the environment gives; empty where none is set."""
        return tuple(
            key for part in os.environ.get(self.api_key_variable, "").split(",") if (key := part.strip())
        )
