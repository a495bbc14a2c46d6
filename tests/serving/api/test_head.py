"""What a request says before its body, asked through the real guard and routes."""

import asyncio
import gzip

import httpx
import pytest

from serving.api.app import make_app
from serving.api.guard import Guard
from serving.config import Settings

SETTINGS = Settings(api_key_variable="ALPHALOOP_TEST_NO_KEY", keyless=True)
BODY = b'{"symbols": ["A"]}'
JSON = ("content-type", "application/json")


class Kept:
    """Answers everything, and keeps what it was asked."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def read_signals(self, body: bytes) -> list[str]:
        self.bodies.append(body)
        return ["A"]

    async def signals(self, symbols: list[str], request_id: str) -> bytes:
        return b"{}"

    async def score(self, body: bytes, request_id: str, **how: object) -> bytes:
        self.bodies.append(body)
        return b"{}"


@pytest.fixture
def guard(tmp_path) -> Guard:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.html").write_text("<h1>here</h1>")
    app = make_app(tmp_path, title="test", version="0", prefix="/below")
    app.state.answers = Kept()
    return Guard(app, SETTINGS)


def ask(guard: Guard, method: str, path: str, *, headers=(), content: bytes = b"") -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(guard, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, headers=list(headers), content=content)

    return asyncio.run(once())


def code_of(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["field"]


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        'application/json; charset="UTF-8"',
        "application/json;charset=us-ascii",
    ],
)
def test_json_in_utf8_is_taken_however_it_is_spelt(guard, kind):
    answer = ask(guard, "POST", "/signals", headers=[("content-type", kind)], content=BODY)
    assert answer.status_code == 200, answer.text
    assert guard.app.state.answers.bodies == [BODY]


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ([], "content-type"),
        ([("content-type", "text/json")], "content-type"),
        ([("content-type", "application/json; charset=utf-16")], "content-type"),
        ([("content-type", "application/json; charset=latin-1")], "content-type"),
        ([("content-type", "application/json, application/json")], "content-type"),
        ([JSON, ("content-encoding", "gzip")], "content-encoding"),
        ([JSON, ("content-encoding", "identity, br")], "content-encoding"),
    ],
)
@pytest.mark.parametrize("path", ["/signals", "/score"])
def test_a_body_in_another_form_is_refused_unread(guard, path, headers, field):
    for content in (BODY, gzip.compress(BODY)):
        answer = ask(guard, "POST", path, headers=headers, content=content)
        assert code_of(answer) == (415, "unsupported_media_type", field)
    assert guard.app.state.answers.bodies == []


def test_a_body_that_says_it_is_as_it_is_is_taken(guard):
    answer = ask(guard, "POST", "/signals", headers=[JSON, ("content-encoding", "identity")], content=BODY)
    assert answer.status_code == 200


@pytest.mark.parametrize("name", ["content-type", "authorization", "x-api-key", "content-encoding", "host"])
def test_a_header_that_is_there_twice_is_refused(guard, name):
    twice = [(name, "application/json"), (name, "application/json")]
    answer = ask(guard, "POST", "/signals", headers=[JSON, *twice], content=BODY)
    assert code_of(answer) == (400, "said_twice", name)


def test_headers_of_which_there_may_be_several_are_taken(guard):
    several = [("accept", "text/html"), ("accept", "application/json"), ("x-trace", "1"), ("x-trace", "2")]
    assert ask(guard, "POST", "/signals", headers=[JSON, *several], content=BODY).status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "code", "field"),
    [
        ("/signals?limit=3", 422, "extra_field", "limit"),
        ("/signals?cross_section=batch", 422, "extra_field", "cross_section"),
        ("/score?cross_section=market&cross_section=batch", 422, "said_twice", "cross_section"),
        ("/score?cross_section=batch&cross%5Fsection=batch", 422, "said_twice", "cross_section"),
        ("/score?Cross_Section=batch", 422, "extra_field", "Cross_Section"),
    ],
)
def test_a_parameter_that_is_unknown_or_there_twice_is_refused(guard, path, status, code, field):
    assert code_of(ask(guard, "POST", path, headers=[JSON], content=BODY)) == (status, code, field)


def test_the_one_parameter_there_is_is_taken_once(guard):
    assert ask(guard, "POST", "/score?cross_section=batch", headers=[JSON], content=BODY).status_code == 200


def test_what_takes_no_body_refuses_one(guard):
    assert code_of(ask(guard, "GET", "/", content=b"{}")) == (400, "unexpected_body", "body")


def test_head_is_get_without_its_body(guard):
    got, headed = ask(guard, "GET", "/"), ask(guard, "HEAD", "/")
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers["content-length"] == got.headers["content-length"] == str(len(got.content))
    refused = ask(guard, "HEAD", "/signals")
    assert (refused.status_code, refused.content, refused.headers["allow"]) == (405, b"", "POST")
    assert ask(guard, "PUT", "/").headers["allow"] == "GET, HEAD"


def test_links_carry_the_prefix_and_a_folder_leads_on_relative_to_itself(guard):
    index = ask(guard, "GET", "/").json()
    assert index["model"] == "/below/model"
    assert all(path.startswith("/below/") for name, path in index.items() if name != "service")
    assert ask(guard, "GET", "/review/pages").headers["location"] == "pages/"
    assert ask(guard, "GET", "/review/pages/").text == "<h1>here</h1>"
