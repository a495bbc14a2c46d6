"""Keys and limits: who is let in, and how much."""

import base64

import pytest

from serving.api.auth import Gatekeeper, UnsafeBinding, is_loopback, require_safe_binding
from serving.api.limits import Concurrency, Limiter, retry_after
from serving.api.refusal import Refusal
from serving.config import Settings

VARIABLE = "ALPHALOOP_TEST_KEY"
SETTINGS = Settings(api_key_variable=VARIABLE)
KEYLESS = Settings(api_key_variable=VARIABLE, keyless=True)
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


def test_two_keys_that_differ_are_refused_and_one_said_in_two_ways_is_taken():
    keeper = Gatekeeper(["first", "second"], VARIABLE)
    with pytest.raises(Refusal) as caught:
        keeper.identify(headers(authorization="Bearer first", x_api_key="second"), "10.0.0.9")
    assert (caught.value.status, caught.value.field) == (401, "x-api-key")
    assert keeper.identify(headers(authorization="Bearer first", x_api_key="first"), "10.0.0.9") == "key 1"


@pytest.mark.parametrize(
    ("client", "host", "passes"),
    [
        ("127.0.0.1", "127.0.0.1:3000", True),
        ("127.0.0.1", "localhost:3000", True),
        ("127.0.0.1", "desk-7:3000", True),
        ("::1", "[::1]:3000", True),
        ("::1", "[::1]", True),
        ("10.0.0.9", "127.0.0.1:3000", False),
        # A page of evil.example whose name was turned to 127.0.0.1 sends its own name.
        ("127.0.0.1", "evil.example:3000", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "", False),
        (None, "localhost", False),
    ],
)
def test_without_a_key_only_this_machine_is_answered(client, host, passes):
    keeper = Gatekeeper((), VARIABLE, keyless=True, own_name="desk-7")
    given = [(b"host", host.encode())]
    if passes:
        assert keeper.identify(given, client) == client
        return
    refuse_local(keeper, given, client)


def refuse_local(keeper, given, client="127.0.0.1"):
    with pytest.raises(Refusal) as caught:
        keeper.identify(given, client)
    assert (caught.value.status, caught.value.code) == (403, "loopback_only")


@pytest.mark.parametrize(
    "said",
    [
        {"x_forwarded_for": "203.0.113.9"},
        {"x_forwarded_for": "127.0.0.1"},
        {"x_forwarded_proto": "https"},
        {"x_forwarded_host": "localhost"},
        {"x_real_ip": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"via": "1.1 proxy"},
    ],
)
def test_without_a_key_nothing_that_came_through_a_proxy_is_answered(said):
    refuse_local(Gatekeeper((), VARIABLE, keyless=True), headers(**said))
    assert (
        Gatekeeper(["first"], VARIABLE).identify(headers(x_api_key="first", **said), "127.0.0.1") == "key 1"
    )


def test_without_a_key_nobody_is_answered_unless_that_was_asked_for():
    refuse_local(Gatekeeper((), VARIABLE), headers())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_serving_without_a_key_must_be_asked_for(monkeypatch, host):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert is_loopback(host)
    with pytest.raises(UnsafeBinding, match=f"(?s){VARIABLE}.*--keyless"):
        require_safe_binding(SETTINGS.model_copy(update={"host": host}))
    require_safe_binding(KEYLESS.model_copy(update={"host": host}))
    monkeypatch.setenv(VARIABLE, "secret")
    require_safe_binding(SETTINGS.model_copy(update={"host": host}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_other_addresses_need_a_key(monkeypatch, host):
    settings = KEYLESS.model_copy(update={"host": host})
    for nothing in ("", " , "):
        monkeypatch.setenv(VARIABLE, nothing)
        with pytest.raises(UnsafeBinding, match=f"{VARIABLE} to a secret, or serving.host to 127.0.0.1"):
            require_safe_binding(settings)
    monkeypatch.setenv(VARIABLE, "secret")
    require_safe_binding(settings)


@pytest.mark.parametrize("origin", ["*", "null", "https://a.example/", "https://*.example", "a.example", ""])
def test_an_origin_that_no_browser_sends_is_refused(origin):
    with pytest.raises(ValueError, match="cors_origins"):
        Settings(cors_origins=(origin,))


@pytest.mark.parametrize("origin", ["https://a.example", "http://localhost:3001", "http://[::1]:80"])
def test_an_origin_is_taken_as_browsers_send_it(origin):
    assert Settings(cors_origins=(origin,)).cors_origins == (origin,)


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
