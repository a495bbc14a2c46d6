"""How large bets are, and how long what is sent is on its way."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.sizing.after_costs import kelly_share_after_costs, move_that_pays
from components.sizing.known import SizingError
from components.tick_replay.config import Latency, Settings, Sizing
from components.tick_replay.decisions import Task, decisions_of, sized
from components.tick_replay.delays import JITTER_SPAN_NS, Quantiles, draw, names, steadiness

HOUR_NS = 3_600_000_000_000
MEASURED = {
    0: Quantiles(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1e6, 3e6])),
    12: Quantiles(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1e6, 41e6])),
}
FREE = Task("trade_class", 4, 0.0)
RULES = ("whole", "kelly", "steps")
share = st.floats(0, 1)
basis = st.floats(0, 50)


def rows(scores: list[float], uncertainty: list[float], **more: list[float]) -> pl.DataFrame:
    """On books without a spread, where messages are steady."""
    given_rows = {"spread": [0.0] * len(scores), "steadiness": [1.0] * len(scores), **more}
    return pl.DataFrame({"score": scores, "uncertainty": uncertainty, **given_rows})


def chances(up: list[float], down: list[float], **more: list[float]) -> pl.DataFrame:
    scores = [p - q for p, q in zip(up, down, strict=True)]
    none = [1 - p - q for p, q in zip(up, down, strict=True)]
    given_rows = {"volatility_20": [2e-4] * len(up), **more}
    return rows(scores, [0.5] * len(up), p_up=up, p_none=none, p_down=down, **given_rows)


def test_the_whole_capital_by_the_sign():
    found = sized(rows([0.2, -0.1, 0.0, None, 0.05], [1.0] * 5), Sizing(rule="whole", least_score=0.05), FREE)
    assert found.tolist() == [1.0, -1.0, 0.0, 0.0, 0.0]


def test_kelly_of_a_return_is_its_mean_over_its_variance():
    # Half of 0.0001 / 0.02^2 is 0.125; the last would be 12.5 times the capital.
    found = sized(rows([1e-4, -1e-4, 1e-2], [0.02, 0.02, 0.02]), Sizing(rule="kelly"), FREE)
    assert found == pytest.approx([0.125, -0.125, 1.0])


def test_kelly_of_a_return_is_of_what_costs_leave():
    # 3 bps less a spread of 1 and fees of 1: half of 0.0001 / 0.02^2; 2 bps are no more than they cost.
    frame = rows([3e-4, -3e-4, 2e-4], [0.02] * 3, spread=[1e-4] * 3)
    found = sized(frame, Sizing(rule="kelly"), Task("log_return", 4, 1e-4))
    assert found == pytest.approx([0.125, -0.125, 0.0])


def test_a_move_is_what_a_gaussian_return_beyond_the_costs_is_on_average():
    # 0.3989 / 0.5 without a threshold, 0.2420 / 0.1587 beyond one deviation.
    found = move_that_pays(np.array([1.0, 2.0, 0.0]), np.array([0.0, 2.0, 1.0]))
    assert found[:2] == pytest.approx([0.79788, 2 * 1.52514], rel=1e-4)
    assert np.isnan(found[2])


def test_kelly_of_chances_counts_costs_in_every_ending():
    # A move of 0.5 at a cost of 0.1: 0.4 with 0.6, -0.1 with 0.2, -0.6 with 0.2. What is expected is 0.1, and
    # 0.024 f^2 - 0.2 f + 0.1 = 0 has its smaller root at 0.5343.
    given_chances = (np.array([value]) for value in (0.6, 0.2, 0.2, 0.5, 0.1))
    assert kelly_share_after_costs(*given_chances) == pytest.approx([0.534251], rel=1e-4)
    # Without costs (0.6 - 0.2) / (0.5 x 0.8).
    free = (np.array([value]) for value in (0.6, 0.2, 0.2, 0.5, 0.0))
    assert kelly_share_after_costs(*free) == pytest.approx([1.0])


@hypothesis_settings(deadline=None)
@given(
    st.tuples(share, share, share).filter(lambda one: sum(one) > 0.01),
    st.floats(0.01, 0.5),
    st.floats(0, 0.5),
)
def test_kelly_is_what_a_slow_search_finds(weights, move, cost):
    wins, nothing, loses = (weight / sum(weights) for weight in weights)
    found = kelly_share_after_costs(*(np.array([one]) for one in (wins, nothing, loses, move, cost)))[0]
    stakes = np.linspace(0, (1 - 1e-9) / (move + cost), 4_001)

    def growth(stake):
        gains = (wins, move - cost), (nothing, -cost), (loses, -move - cost)
        return sum(chance * np.log1p(stake * gain) for chance, gain in gains if chance)

    assert growth(min(found, stakes[-1])) >= growth(stakes).max() - 1e-9
    expected = (wins - loses) * move - cost
    assert (found > 0) == (expected > 0) or abs(expected) < 1e-12


def test_what_does_not_pay_for_its_costs_is_not_asked_for():
    # A deviation of 4 bps over four samples; beyond 2 bps it is 4.56 bps on average. 0.6 - 0.1 of that are
    # 2.28 bps: above a spread of 2, below 2 and fees of 0.5.
    frame = chances([0.6, 0.1], [0.1, 0.6], spread=[2e-4] * 2)
    for rule in RULES:
        assert np.sign(sized(frame, Sizing(rule=rule), FREE)).tolist() == [1.0, -1.0]
        assert sized(frame, Sizing(rule=rule), Task("trade_class", 4, 0.5e-4)).tolist() == [0.0, 0.0]


def test_classes_that_begin_at_nothing_are_worth_less_than_those_that_begin_at_the_costs():
    # 0.75 - 0.25 of 3.19 bps, and of 4.56.
    frame = chances([0.75], [0.25], spread=[2e-4])
    assert sized(frame, Sizing(rule="whole"), Task("direction", 4, 0.0)).tolist() == [0.0]
    assert sized(frame, Sizing(rule="whole"), FREE).tolist() == [1.0]


@pytest.mark.parametrize("rule", RULES)
def test_where_no_trade_is_likelier_than_the_side_nothing_is_asked_for(rule):
    sizing = Sizing(rule=rule, size_steps=[(0.1, 1.0)])
    found = sized(chances([0.49, 0.0, 0.5], [0.0, 0.49, 0.0]), sizing, FREE)
    assert found.tolist() == [0.0, 0.0, 1.0]


def test_steps_by_the_chance_that_the_bet_wins():
    frame = chances([0.55, 0.1, 0.7, 0.3], [0.1, 0.62, 0.1, 0.3])
    assert sized(frame, Sizing(rule="steps"), FREE).tolist() == [0.5, -1.0, 1.0, 0.0]
    # A return of one deviation more than its costs wins with 0.84, one of a tenth with 0.54.
    frame = rows([3e-4, 1.2e-4], [2e-4] * 2, spread=[1e-4] * 2)
    assert sized(frame, Sizing(rule="steps"), FREE).tolist() == [1.0, 0.5]


@hypothesis_settings(deadline=None)
@given(share, share, basis, basis, basis, st.floats(0, 1), st.sampled_from(RULES))
def test_bets_are_never_larger_where_costs_are_and_pay_where_they_are_made(
    one, other, deviation, cost, more, trust, rule
):
    up, down = one * other, one * (1 - other)
    dear, cheap = (
        sized(
            chances([up], [down], volatility_20=[deviation * 1e-4], spread=[bps * 1e-4], steadiness=[trust]),
            Sizing(rule=rule, size_steps=[(0.0, 1.0)]),
            Task("direction", 1, 0.0),
        )[0]
        for bps in (cost + more, cost)
    )
    assert abs(dear) <= abs(cheap) + 1e-12 <= 1 + 1e-9
    if cheap:
        side = np.sign(cheap)
        assert side * (up - down) * trust * 0.79788456 * deviation > cost * (1 - 1e-6)


def test_chances_without_volatility_or_a_spread_say_nothing_of_money():
    with pytest.raises(SizingError, match="volatility_20"):
        sized(chances([0.6], [0.1]).drop("volatility_20"), Sizing(), FREE)
    frame = chances([0.9] * 3, [0.0] * 3, volatility_20=[None, 0.0, 1e-4], spread=[0.0, 0.0, np.nan])
    assert sized(frame, Sizing(), FREE).tolist() == [0.0, 0.0, 0.0]


def test_fees_are_the_dearer_ones_of_both_sides():
    assert Task.of("a", 1, Settings(maker_fee_bps=-1.0, taker_fee_bps=3.0)).fees == pytest.approx(6e-4)
    assert Task.of("a", 1, Settings(maker_fee_bps=4.0, taker_fee_bps=3.0)).fees == pytest.approx(8e-4)
    # What is paid for trading does not make a bet of nothing.
    frame = rows([0.0, 1e-5], [0.01, 0.01])
    found = sized(frame, Sizing(), Task("log_return", 4, -2e-4))
    assert found == pytest.approx([0.0, 0.05])


def test_an_unusually_uncertain_bet_is_smaller_and_never_larger():
    frame = rows([0.1, 0.1, 0.1], [0.2, 0.05, 0.1], usual_uncertainty=[0.1, 0.1, None])
    assert sized(frame, Sizing(rule="whole"), FREE).tolist() == [0.5, 1.0, 1.0]
    # Half of what it expects does not pay for its costs.
    assert sized(frame.with_columns(spread=0.06), Sizing(rule="whole"), FREE).tolist() == [0.0, 1.0, 1.0]


def test_nothing_is_asked_for_on_a_stale_book():
    frame = rows([0.1, 0.1, -0.1], [0.1] * 3, stale=[False, True, False]).with_columns(
        timestamp=pl.Series([3, 1, 2]).cast(pl.Datetime("us", "UTC")), expert=pl.lit("a"), holds_ns=7
    )
    found = decisions_of(frame, ["a", "b"], Sizing(rule="whole"), FREE)
    assert found.at.tolist() == [1_000, 2_000, 3_000]
    assert found.wanted.tolist() == [[0.0, -1.0, 1.0], [0.0, 0.0, 0.0]]
    assert found.holds_ns.tolist() == [7, 7, 7]


def test_jitter_makes_sizes_smaller_by_what_was_known_then():
    times = np.array([0, 1, 2, JITTER_SPAN_NS, JITTER_SPAN_NS + 1, 4 * JITTER_SPAN_NS])
    delays = np.array([0, 10, 20, 0, 100, 7])
    at = np.array([5, JITTER_SPAN_NS - 1, JITTER_SPAN_NS, 2 * JITTER_SPAN_NS, 9 * JITTER_SPAN_NS])
    # The 95th percentile is 19, then 95, the median 10, then 50; one message has no jitter.
    assert steadiness(times, delays, at, 1.0, 100.0) == pytest.approx([1.0, 1.0, 0.91, 0.55, 1.0])
    assert steadiness(times, delays, at, 3.0, 100.0)[3] == 0.0
    assert steadiness(times, delays, at, 0.0, 100.0).tolist() == [1.0] * 5
    assert steadiness(times[:0], delays[:0], at, 1.0, 100.0).tolist() == [1.0] * 5
    later = np.where(times >= JITTER_SPAN_NS, 10_000, delays)
    assert (
        steadiness(times, later, at[:3], 1.0, 100.0) == steadiness(times, delays, at[:3], 1.0, 100.0)
    ).all()


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
