"""The service held to its own description: what /openapi.json allows is answered, and one thing wrong in it
is refused with a documented code and the place. Requests are drawn from the description alone.
"""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from tests.serving.conftest import Shared

JSON = "application/json"
SEED, REQUESTS = 20, 150
ODD_NUMBERS = (0, -0.0, 1, -1, 1e-40, 3.4e38, -3.4e38, 2**53 + 1, 123456789012345678901234567890, 0.1, 1e-300)

Draw = random.Random


@pytest.fixture(scope="module")
def described(shared: Shared) -> dict[str, Any]:
    shared.crown(shared.run.bundles[0], 1)
    return shared.live.client.get("/openapi.json").json()


def body_schema(described: dict[str, Any], path: str) -> dict[str, Any]:
    return described["paths"][path]["post"]["requestBody"]["content"][JSON]["schema"]


def drawn(schema: dict[str, Any], draw: Draw, name: str = "") -> Any:
    """A value that the schema allows. What a schema can't say is kept to besides: symbols are of the market,
    a moment is past, and no (symbol, moment) occurs twice.
    """
    if "anyOf" in schema:
        return drawn(draw.choice(schema["anyOf"]), draw, name)
    if "enum" in schema:
        return draw.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        wanted = schema.get("required", [])
        names = [key for key in schema["properties"] if key in wanted or draw.random() < 0.5]
        draw.shuffle(names)
        return {key: drawn(schema["properties"][key], draw, key) for key in names}
    if kind == "array":
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", least + draw.randrange(6))
        return [drawn(schema["items"], draw, name) for _ in range(draw.randint(least, most))]
    if kind == "number":
        return draw.choice([draw.choice(ODD_NUMBERS), draw.gauss(0, 1), draw.randrange(-9, 9)])
    if kind == "null":
        return None
    if kind == "boolean":
        return draw.random() < 0.5
    assert kind == "string", schema
    return moment(draw) if schema.get("format") == "date-time" else f"S{draw.randrange(1, 20):02d}"


def moment(draw: Draw) -> str:
    zone = draw.choice(
        [UTC, timezone(timedelta(hours=draw.randrange(-12, 15), minutes=draw.choice([0, 30])))]
    )
    past = datetime(1971, 1, 2, tzinfo=UTC) + timedelta(seconds=draw.randrange(1_600_000_000))
    text = (past + timedelta(microseconds=draw.choice([0, 500_000, 1]))).astimezone(zone).isoformat()
    return text.replace("+00:00", draw.choice(["Z", "+00:00"]))


def request(described: dict[str, Any], path: str, draw: Draw) -> dict[str, Any]:
    body = drawn(body_schema(described, path), draw)
    if path == "/signals":
        return {**body, "symbols": list(dict.fromkeys(body["symbols"]))}
    for place, row in enumerate(body["rows"]):
        row["symbol"] = f"{row['symbol']}-{place}"
    return body


def written(body: Any, draw: Draw) -> bytes:
    how = draw.choice([{}, {"indent": 1}, {"ensure_ascii": False}, {"separators": (",", ":")}])
    return json.dumps(body, **how).encode()


def post(shared: Shared, path: str, content: bytes, **headers: str) -> httpx.Response:
    headers = {"content-type": JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return shared.live.client.post(path, content=content, headers=headers)


@pytest.mark.parametrize("path", ["/signals", "/score"])
def test_what_the_description_allows_is_answered(shared, described, path):
    draw = Draw(SEED)
    for number in range(REQUESTS):
        body = request(described, path, draw)
        answer = post(shared, path, written(body, draw))
        assert answer.status_code == 200, (number, body, answer.text)
        asked = body["symbols"] if path == "/signals" else [row["symbol"] for row in body["rows"]]
        signals = answer.json()["signals"]
        assert [signal["symbol"] for signal in signals] == asked
        assert {"prices" in signal for signal in signals} == {body.get("prices", False)}


def places(value: Any, where: tuple = ()) -> list[tuple]:
    """The way to each value in a body."""
    found = [where] if where else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for key, item in inner for place in places(item, (*where, key))]


def spoil(body: Any, draw: Draw, path: str) -> tuple[str, bytes]:
    """One thing wrong somewhere in a body that is right, and what it is."""
    where = draw.choice(places(body))
    parent = body
    for key in where[:-1]:
        parent = parent[key]
    key, held = where[-1], parent[where[-1]]
    choices: dict[str, Callable[[], Any]] = {"another type": lambda: other_type(held, draw, key)}
    if isinstance(parent, dict):
        choices |= {"twice": lambda: TWICE, "misspelt": lambda: MISSPELT}
        choices |= {"missing": lambda: MISSING} if key not in MAY_BE_MISSING else {}
    if isinstance(held, float | int):
        choices["odd number"] = lambda: draw.choice(["1e400", "-1e39", "NaN", "Infinity", "1" + "0" * 400])
    if key == "timestamp":
        choices["no moment"] = lambda: json.dumps(draw.choice(NO_MOMENTS))
    what = draw.choice(sorted(choices))
    put = choices[what]()
    text = json.dumps(body)
    if put in (MISSING, MISSPELT, TWICE):
        if put is MISSING:
            del parent[key]
            return f"{what} {where}", json.dumps(body).encode()
        parent[f"{key}{MARK}"] = held
        if put is MISSPELT:
            del parent[key]
        text = json.dumps(body)
        return f"{what} {where}", text.replace(MARK, "" if put is TWICE else "_").encode()
    parent[key] = MARK
    return f"{what} {where} {put[:40]}", json.dumps(body).replace(json.dumps(MARK), put).encode()


MARK = "@@@"
MISSING, MISSPELT, TWICE = "missing", "misspelt", "twice"
MAY_BE_MISSING = ("cross_section", "window", "prices")
NO_MOMENTS = (
    "1717185600",
    "2024-05-31",
    "2024-05-31T20:00:00",
    "2024-05-31 20:00:00Z",
    "2024-05-31T20:00Z",
    "2024-13-01T20:00:00Z",
    "2024-05-31T20:00:00.1234567Z",
    "2024-05-31T20:00:00+0530",
    "2999-05-31T20:00:00Z",
    "Fri, 31 May 2024 20:00:00 GMT",
    "",
)


def other_type(held: Any, draw: Draw, key: Any) -> str:
    """JSON of another type than what was there; where null is allowed it is not chosen."""
    kinds = {"text": '"1.5"', "true": "true", "list": "[[]]", "object": "{}", "number": "1717185600"}
    if isinstance(held, str):
        kinds.pop("text")
    elif isinstance(held, list):
        kinds.pop("list")
    elif isinstance(held, dict):
        kinds.pop("object")
    elif isinstance(held, bool):
        kinds.pop("true")
    else:
        kinds.pop("number")
    return kinds[draw.choice(sorted(kinds))]


@pytest.mark.parametrize("path", ["/signals", "/score"])
def test_one_thing_wrong_is_refused_as_documented_with_its_place(shared, described, path):
    draw = Draw(SEED)
    documented = described["paths"][path]["post"]["responses"]
    seen: set[str] = set()
    for _ in range(2 * REQUESTS):
        what, content = spoil(request(described, path, draw), draw, path)
        answer = post(shared, path, content)
        assert answer.status_code in (400, 413, 422), (what, content[:300], answer.text[:300])
        error = answer.json()["error"]
        assert error["field"], (what, error)
        assert error["code"] in documented[str(answer.status_code)]["description"], (what, error)
        seen.add(error["code"])
    assert {"said_twice", "wrong_type"} <= seen
    assert "failed" not in shared.live.log.read_text()


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (lambda text: b"\xef\xbb\xbf" + text, {}, 400),
        (lambda text: text.decode().encode("utf-16"), {}, 400),
        (lambda text: text.decode().encode("utf-16-be"), {}, 400),
        (lambda text: text, {"content_encoding": "gzip"}, 415),
        (lambda text: text, {"content_encoding": "br"}, 415),
        (lambda text: text, {"content_type": f"{JSON}; charset=utf-16"}, 415),
        (lambda text: text, {"content_type": "text/plain"}, 415),
        (lambda text: text, {"content_type": "application/x-www-form-urlencoded"}, 415),
        (lambda text: text, {"content_type": "application/vnd.api+json"}, 415),
    ],
)
@pytest.mark.parametrize("path", ["/signals", "/score"])
def test_another_form_of_the_same_body_is_refused(shared, described, path, content, headers, status):
    right = json.dumps(request(described, path, Draw(SEED))).encode()
    assert post(shared, path, right).status_code == 200
    answer = post(shared, path, content(right), **headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["field"] in ("body", "content-type", "content-encoding")


def test_symbols_are_described_as_texts_with_examples_not_as_the_list_of_today(shared, described):
    items = body_schema(described, "/signals")["properties"]["symbols"]["items"]
    assert (items["type"], items["minLength"], items["maxLength"]) == ("string", 1, 64)
    assert "enum" not in json.dumps(items)
    assert set(items["examples"]) <= set(shared.run.market.symbols)
    example = described["paths"]["/signals"]["post"]["requestBody"]["content"][JSON]["examples"]
    for each in example.values():
        assert post(shared, "/signals", json.dumps(each["value"]).encode()).status_code == 200
