"""Keys and limits: who is let in, and how much."""

import base64

import pytest

from serving.api.auth import Gatekeeper, UnsafeBinding, is_loopback, require_safe_binding
from serving.api.limits import Concurrency, Limiter, retry_after
from serving.api.refusal import Refusal
from serving.config import Settings

VARIABLE = "ALPHALOOP_TEST_KEY"
SETTINGS = Settings(api_key_variable=VARIABLE)
HOST = (b"host", b"127.0.0.1:3000")


def headers(**values):
    return [HOST, *((name.replace("_", "-").encode(), value.encode()) for name, value in values.items())]


def basic(password):
    return f"Basic {base64.b64encode(f'reviewer:{password}'.encode()).decode()}"


def test_any_of_several_keys_opens_and_is_told_apart(monkeypatch):
    monkeypatch.setenv(VARIABLE, " first , second,")
    assert SETTINGS.api_keys() == ("first", "second")
    keeper = Gatekeeper(SETTINGS.api_keys(), VARIABLE)
    assert keeper.identify(headers(authorization="Bearer first"), "10.0.0.9") == "key 1"
    assert keeper.identify(headers(authorization="bearer second"), "10.0.0.9") == "key 2"
    assert keeper.identify(headers(x_api_key="second"), "127.0.0.1") == "key 2"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"x_api_key": ""},
        {"x_api_key": "firs"},
        {"x_api_key": "first "},
        {"authorization": "Bearer"},
        {"authorization": "first"},
        {"authorization": "Bearer first second"},
        {"authorization": basic("first")},
        {"authorization": "Basic §§§"},
    ],
)
def test_no_or_a_wrong_key_is_refused_even_on_loopback(given):
    keeper = Gatekeeper(["first", "second"], VARIABLE)
    with pytest.raises(Refusal) as caught:
        keeper.identify(headers(**given), "127.0.0.1")
    assert (caught.value.status, caught.value.code) == (401, "unauthorised")
    assert caught.value.headers == {"www-authenticate": "Bearer"}
    assert "first" not in str(caught.value)


def test_pages_take_the_key_as_a_basic_password():
    keeper = Gatekeeper(["first"], VARIABLE)
    assert keeper.identify(headers(authorization=basic("first")), "10.0.0.9", basic=True) == "key 1"
    with pytest.raises(Refusal) as caught:
        keeper.identify(headers(authorization=basic("wrong")), "10.0.0.9", basic=True)
    assert "Basic" in caught.value.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("client", "host", "passes"),
    [
        ("127.0.0.1", "127.0.0.1:3000", True),
        ("127.0.0.1", "localhost:3000", True),
        ("::1", "[::1]:3000", True),
        ("::1", "[::1]", True),
        ("10.0.0.9", "127.0.0.1:3000", False),
        # A page of evil.example whose name was turned to 127.0.0.1 sends its own name.
        ("127.0.0.1", "evil.example:3000", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        (None, "localhost", False),
    ],
)
def test_without_a_key_only_this_machine_is_answered(client, host, passes):
    keeper = Gatekeeper((), VARIABLE)
    given = [(b"host", host.encode())]
    if passes:
        assert keeper.identify(given, client) == client
        return
    with pytest.raises(Refusal) as caught:
        keeper.identify(given, client)
    assert (caught.value.status, caught.value.code) == (403, "loopback_only")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_key(monkeypatch, host):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert is_loopback(host)
    require_safe_binding(SETTINGS.model_copy(update={"host": host}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_other_addresses_need_a_key(monkeypatch, host):
    settings = SETTINGS.model_copy(update={"host": host})
    for nothing in ("", " , "):
        monkeypatch.setenv(VARIABLE, nothing)
        with pytest.raises(UnsafeBinding, match=f"{VARIABLE} to a secret, or serving.host to 127.0.0.1"):
            require_safe_binding(settings)
    monkeypatch.setenv(VARIABLE, "secret")
    require_safe_binding(settings)


def test_a_burst_is_let_through_and_then_the_rate_counts():
    now = [0.0]
    limiter = Limiter(10.0, 3, clock=lambda: now[0])
    for _ in range(3):
        limiter.admit("a")
    with pytest.raises(Refusal) as caught:
        limiter.admit("a")
    assert (caught.value.status, caught.value.code) == (429, "too_many_requests")
    assert caught.value.retry_s == pytest.approx(0.1)
    limiter.admit("b")
    now[0] = 0.1
    limiter.admit("a")
    with pytest.raises(Refusal):
        limiter.admit("a")
    now[0] = 100.0
    for _ in range(3):
        limiter.admit("a")
    assert [retry_after(seconds) for seconds in (0.01, 1.0, 1.2)] == ["1", "1", "2"]


def test_requests_beyond_the_bound_are_told_to_come_back():
    places = Concurrency(1)
    with places.place():
        with pytest.raises(Refusal, match="1 requests are being worked on") as caught, places.place():
            pass
        assert caught.value.code == "busy"
    with pytest.raises(ZeroDivisionError), places.place():
        raise ZeroDivisionError
    assert places.under_way == 0
