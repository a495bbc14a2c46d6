"""What keeps one client, or all together, from drowning the service: a token bucket for each client, and
bounds on bodies in memory and requests under way.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serving.api.refusal import Refusal

MOST_CLIENTS = 10_000


class Limiter:
    """Token buckets by client, each refilled at `rate` a second up to `burst`.

    Used from one event loop; the clients not seen for longest are forgotten.
    """

    def __init__(self, rate: float, burst: int, *, clock: Callable[[], float] = time.monotonic):
        self.rate, self.burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, client: str) -> None:
        """Take a token of the client; a Refusal 429 `too_many_requests` where none is left."""
        now = self._clock()
        tokens, seen = self._buckets.pop(client, (float(self.burst), now))
        tokens = min(tokens + (now - seen) * self.rate, self.burst)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - allowed, now)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait_s = (1 - tokens) / self.rate
            raise Refusal(
                429,
                "too_many_requests",
                f"More than {self.rate:g} requests a second. Try again in {wait_s:.2f} s, or ask for more"
                " symbols in one request.",
                retry_s=wait_s,
            )


class Concurrency:
    """Counts requests under way and turns away those beyond `most`."""

    def __init__(self, most: int):
        self.most, self.under_way = most, 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place while a request is worked on; a Refusal 429 `busy` where there is none."""
        if self.under_way >= self.most:
            raise Refusal(
                429, "busy", f"{self.most} requests are being worked on. Try again in a second.", retry_s=1
            )
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


class Intake:
    """Counts the bytes of the bodies that are in memory and turns away what goes beyond `most`."""

    def __init__(self, most: int):
        self.most, self.held = most, 0

    @contextmanager
    def open(self) -> Iterator[Callable[[int], None]]:
        """Yields what is told of each part of one body: a Refusal 429 `busy` where it has no room.

        At the end the body's room is free again.
        """
        own = 0

        def taken(size: int) -> None:
            nonlocal own
            if self.held + size > self.most:
                raise Refusal(
                    429, "busy", "Too many large requests are on their way. Try again in a second.", retry_s=1
                )
            own += size
            self.held += size

        try:
            yield taken
        finally:
            self.held -= own


def retry_after(seconds: float) -> str:
    """Value of the header Retry-After: whole seconds, at least one."""
    return str(max(math.ceil(seconds), 1))
