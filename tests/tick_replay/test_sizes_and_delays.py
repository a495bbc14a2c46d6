"""How large bets are, and how long what is sent is on its way."""

import numpy as np
import polars as pl
import pytest

from components.tick_replay.config import Latency, Sizing
from components.tick_replay.decisions import sized
from components.tick_replay.delays import Quantiles, draw, names, steadiness

HOUR_NS = 3_600_000_000_000
MEASURED = {
    0: Quantiles(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1e6, 3e6])),
    12: Quantiles(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1e6, 41e6])),
}


def rows(scores: list[float], uncertainty: list[float], **more: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"score": scores, "uncertainty": uncertainty, **more})


def test_the_whole_capital_by_the_sign():
    found = sized(rows([0.2, -0.1, 0.0, None, 0.05], [1.0] * 5), Sizing(rule="whole", least_score=0.05), 4)
    assert found.tolist() == [1.0, -1.0, 0.0, 0.0, 0.0]


def test_kelly_of_a_return_is_its_mean_over_its_variance():
    # Half of 0.0001 / 0.02^2 is 0.125; the last would be 12.5 times the capital.
    found = sized(rows([1e-4, -1e-4, 1e-2], [0.02, 0.02, 0.02]), Sizing(rule="kelly"), 4)
    assert found == pytest.approx([0.125, -0.125, 1.0])


def test_kelly_of_chances_counts_what_a_move_is_worth():
    # (0.3 - 0.1) / (move x 0.4) at a move of 0.5 over four samples: 1, of which half.
    frame = rows([0.2], [0.6], p_up=[0.3], p_down=[0.1], volatility_20=[0.25])
    assert sized(frame, Sizing(rule="kelly"), 4) == pytest.approx([0.5])


def test_steps_by_the_chance_that_the_bet_wins():
    up, down = [0.55, 0.1, 0.7, 0.3], [0.1, 0.62, 0.1, 0.3]
    scores = [p - q for p, q in zip(up, down, strict=True)]
    frame = rows(scores, [0.5] * 4, p_up=up, p_down=down)
    assert sized(frame, Sizing(rule="steps"), 4).tolist() == [0.5, -1.0, 1.0, 0.0]


def test_an_unusually_uncertain_bet_is_smaller_and_never_larger():
    frame = rows([0.1, 0.1, 0.1], [0.2, 0.05, 0.1], usual_uncertainty=[0.1, 0.1, None])
    assert sized(frame, Sizing(rule="whole"), 4).tolist() == [0.5, 1.0, 1.0]


def test_jitter_makes_sizes_smaller():
    found = steadiness(MEASURED, 1.0, 100e6)
    assert found == pytest.approx({0: 1 - 0.018, 12: 1 - 0.36})
    assert steadiness(MEASURED, 10.0, 100e6)[12] == 0.0
    assert steadiness(MEASURED, 0.0, 100e6) == {0: 1.0, 12: 1.0}


def test_fixed_delays_are_what_they_say():
    at = np.array([5, 6]) * HOUR_NS
    latency = Latency(fixed_ms=(50, 0, 10), measured=False, feed_share=0.2)
    assert names(latency) == ["none", "0ms", "10ms", "50ms"]
    found = draw(at, latency, {}, [1])
    assert found.feed[:, 0].tolist() == [0, 0, 2_000_000, 10_000_000]
    assert found.order[:, 0].tolist() == [0, 0, 8_000_000, 40_000_000]
    assert (found.known == at + found.feed).all()


def test_measured_delays_follow_the_hour_each_by_itself():
    at = np.sort(np.concatenate([np.arange(4_000) * 1_000, 12 * HOUR_NS + np.arange(4_000) * 1_000]))
    found = draw(at, Latency(fixed_ms=(), least_ms=2.0), MEASURED, [1])
    feed, order, cancel = (part[1] - 2_000_000 for part in (found.feed, found.order, found.cancel))
    for drawn in (feed, order, cancel):
        assert drawn.min() >= 0
        assert np.quantile(drawn[:4_000], 0.95) == pytest.approx(2.8e6, rel=0.05)
        assert np.quantile(drawn[4_000:], 0.95) == pytest.approx(37e6, rel=0.05)
    assert abs(np.corrcoef(feed, order)[0, 1]) < 0.5 > abs(np.corrcoef(order[4_000:], cancel[4_000:])[0, 1])
    assert (np.diff(found.known[1]) >= 0).all()
    assert (found.which[1] != np.arange(8_000)).any()
    again = draw(at, Latency(fixed_ms=(), least_ms=2.0), MEASURED, [1])
    assert (again.order == found.order).all()
