"""Answers with price forms: the numbers, what is missing with its reason, and nothing where nobody asked."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from components.scoring import Scores
from serving.api.answer_types import SignalsAnswer
from serving.live.answer_body import answer_body
from serving.live.price_entries import price_entries
from serving.live.signals import Signals

BAR_US = 1_700_000_000_000_000
STAMP = {
    "name": "demo",
    "version": 3,
    "bundle_sha256": "a" * 64,
    "schema": "s",
    "code_version": "c",
    "train_window": "w",
}
SCORES = Scores(
    *(np.array(pair) for pair in ((0.1, -0.2), (0.3, 0.3), (-0.3, -0.6), (0.1, -0.2), (0.5, 0.2)))
)


def body(target: str, *, prices: bool) -> dict:
    """A has a close of 50, B none."""
    signals = Signals(
        symbols=["A", "B"],
        timestamps_us=np.full(2, BAR_US),
        known_us=np.full(2, BAR_US),
        values=np.zeros((2, 1), dtype=np.float32),
        scores=SCORES,
        further=(),
        position=np.zeros(2),
        closes=np.array([50.0, np.nan]),
        stale=np.zeros(2, dtype=bool),
        behind=np.zeros(2, dtype=bool),
        outside=np.zeros(2, dtype=bool),
        source="store",
        publication="p",
        newest_us=BAR_US,
    )
    served = SimpleNamespace(stamp=STAMP, model=SimpleNamespace(period="1d", horizon=5, target=target))
    return json.loads(answer_body(signals, served, "r", BAR_US, prices=prices))


def test_a_log_return_is_told_as_a_return_and_as_a_price():
    found = SignalsAnswer.model_validate(body("log_return", prices=True)).signals
    first, second = (signal.prices for signal in found)
    assert first.close == 50.0
    assert first.missing is None
    assert first.antilog_return.score == pytest.approx(np.exp(0.1) - 1)
    band = (first.future_price.p10, first.future_price.p50, first.future_price.p90)
    assert band == pytest.approx((50 * np.exp(-0.3), 50 * np.exp(0.1), 50 * np.exp(0.5)))
    assert second.close is None
    assert second.antilog_return.p90 == pytest.approx(np.exp(0.2) - 1)
    assert second.future_price is None
    assert "close of the bar" in second.missing


def test_a_band_beyond_every_number_is_no_price_and_says_so():
    """As /score makes it of rows whose volatility is absurd: exp(710) is no float64 any more, and 1e10 times
    exp(700) is none either.
    """
    wide = Scores(*(np.array([0.0, 0.0, 0.0, low]) for low in (-1.0, -0.5, 0.0, 0.1)), np.zeros(4))
    wide.p90[:] = (710.0, 700.0, 700.0, 0.2)
    with np.errstate(all="raise"):
        found = price_entries(wide, np.array([50.0, 1e10, np.nan, np.nan]), "log_return")
    assert [one["antilog_return"] is None for one in found] == [True, False, False, False]
    assert all(one["future_price"] is None for one in found)
    assert ["largest number" in one["missing"] for one in found] == [True, True, False, False]
    assert all("close of the bar" in one["missing"] for one in found[2:])


def test_what_says_nothing_of_a_price_has_none_and_says_why():
    found = SignalsAnswer.model_validate(body("sector_neutral_return", prices=True)).signals
    for signal in found:
        assert (signal.prices.antilog_return, signal.prices.future_price) == (None, None)
        assert "sector_neutral_return is not a symbol's own log return" in signal.prices.missing


def test_nobody_who_does_not_ask_gets_them():
    assert all("prices" not in signal for signal in body("log_return", prices=False)["signals"])
