"""Keys, limits, plans and positions: the rules that need no running service."""

import base64
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.settings import ConfigError
from components.sizing import long_short_weights
from serving.api.auth import Gatekeeper, UnsafeBinding, is_loopback, require_safe_binding
from serving.api.limits import Concurrency, Limiter, retry_after
from serving.api.requests import Refusal
from serving.config import Settings
from serving.live.online import Book
from serving.live.positions import batch_weights, inserted_weights
from serving.processes.plan import PLAN_VARIABLE, PlanError, read_plan

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
    clock = SimpleNamespace(now=0.0)
    limiter = Limiter(10.0, 3, clock=lambda: clock.now)
    for _ in range(3):
        limiter.admit("a")
    with pytest.raises(Refusal) as caught:
        limiter.admit("a")
    assert (caught.value.status, caught.value.code) == (429, "too_many_requests")
    assert caught.value.retry_s == pytest.approx(0.1)
    limiter.admit("b")
    clock.now = 0.1
    limiter.admit("a")
    with pytest.raises(Refusal):
        limiter.admit("a")
    clock.now = 100.0
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


def test_a_plan_that_is_missing_or_broken_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv(PLAN_VARIABLE, raising=False)
    with pytest.raises(PlanError, match="alphaloop serve"):
        read_plan()
    (tmp_path / "plan.json").write_text('{"folder": "x"}')
    with pytest.raises(PlanError, match="is not a serving plan"):
        read_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text(
        '{"folder": "x", "name": "n", "serving": {"prot": 1}, "feature_store": {}}'
    )
    with pytest.raises(ConfigError, match="Did you mean 'port'"):
        read_plan(tmp_path / "plan.json")


BOOK = Book(
    quantile=0.1,
    top_k=5,
    top_k_max_share=0.2,
    gross_exposure=1.0,
    max_weight=0.25,
    sizing="equal",
    skip_share=0.0,
)


@dataclass(frozen=True)
class StandInMarket:
    """The part of a market that positions look at."""

    book_scores: np.ndarray
    scores: SimpleNamespace


def make_market(scores, uncertainty):
    return StandInMarket(
        np.asarray(scores, dtype=float), SimpleNamespace(uncertainty=np.asarray(uncertainty, dtype=float))
    )


def brute_force(score, uncertainty, place, market, book):
    """The book of the market with this one row in it."""
    scores, widths = market.book_scores.copy(), market.scores.uncertainty.copy()
    if place >= 0:
        scores[place] = np.nan
    return long_short_weights(np.append(scores, score)[None], np.append(widths, uncertainty)[None], book)[
        0, -1
    ]


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    names=st.integers(0, 60),
    rows=st.integers(1, 8),
    levels=st.sampled_from([2, 5, 1000]),
    sizing=st.sampled_from(["equal", "confidence"]),
    quantile=st.sampled_from([0.05, 0.1, 0.3, 0.5]),
    skip=st.sampled_from([0.0, 0.3]),
)
def test_a_row_gets_the_weight_that_it_has_in_the_markets_book(
    seed, names, rows, levels, sizing, quantile, skip
):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, names).astype(float)
    scores[rng.random(names) < 0.1] = np.nan
    market = make_market(scores, rng.uniform(0.01, 0.1, names))
    book = replace(BOOK, sizing=sizing, quantile=quantile, skip_share=skip)
    own, widths = rng.integers(-1, levels + 1, rows).astype(float), rng.uniform(0.01, 0.1, rows)
    places = rng.integers(-1, names, rows) if names else np.full(rows, -1)
    found = inserted_weights(own, widths, places, market, book)
    np.testing.assert_allclose(
        found,
        [brute_force(*values, market, book) for values in zip(own, widths, places, strict=True)],
        atol=1e-12,
    )


@hypothesis_settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 60), bars=st.integers(1, 5))
def test_a_batch_is_one_book_a_bar(seed, rows, bars):
    rng = np.random.default_rng(seed)
    score, widths = rng.normal(size=rows), rng.uniform(0.01, 0.1, rows)
    bar = np.unique(rng.integers(0, bars, rows), return_inverse=True)[1]
    found = batch_weights(score, widths, bar, BOOK)
    for number in range(bar.max() + 1):
        mine = bar == number
        np.testing.assert_allclose(
            found[mine], long_short_weights(score[mine][None], widths[mine][None], BOOK)[0], atol=1e-12
        )
