"""The guard in front of the routes, asked through its real routes: faults of ours stay ours, nothing takes
for ever, and the crowd is bounded.
"""

import asyncio
import logging

import httpx
import pytest

from serving.api.app import make_app
from serving.api.guard import Guard
from serving.config import Settings

SETTINGS = Settings(
    api_key_variable="ALPHALOOP_TEST_NO_KEY", keyless=True, request_timeout_ms=300, most_concurrent=2
)


class Broken:
    """Answers that fail in the ways that a test asks for."""

    def read_signals(self, body: bytes) -> list[str]:
        return [body.decode()]

    async def signals(self, symbols: list[str], request_id: str) -> bytes:
        if symbols == ["slow"]:
            await asyncio.sleep(5)
        raise RuntimeError("password=hunter2")


@pytest.fixture
def guard(tmp_path) -> Guard:
    app = make_app(tmp_path, title="test", version="0")
    app.state.answers = Broken()
    return Guard(app, SETTINGS)


def ask(guard: Guard, *bodies: str) -> list[httpx.Response]:
    """All requests at once."""

    async def all_of_them():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(guard, raise_app_exceptions=False), base_url="http://127.0.0.1"
        ) as client:
            headers = {"content-type": "application/json"}
            return await asyncio.gather(
                *(client.post("/signals", content=body, headers=headers) for body in bodies)
            )

    return asyncio.run(all_of_them())


def test_a_fault_of_ours_says_its_number_and_nothing_else(guard, caplog):
    logging.getLogger("alphaloop.serving").propagate = True
    (answer,) = ask(guard, "x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
    for word in ("hunter2", "RuntimeError", "Traceback"):
        assert word not in answer.text
    assert caplog.text.count(f"Request {answer.headers['x-request-id']} to /signals failed") == 1
    assert "RuntimeError" in caplog.text


def test_a_request_that_takes_too_long_is_given_up(guard):
    (answer,) = ask(guard, "slow")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "timeout")
    assert answer.headers["retry-after"] == "1"
    assert guard.concurrency.under_way == 0


def test_those_beyond_the_bound_are_told_to_come_back(guard):
    answers = ask(guard, *["slow"] * 5)
    assert sorted(answer.status_code for answer in answers) == [429, 429, 429, 503, 503]
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 429} == {"busy"}
    assert guard.concurrency.under_way == 0
