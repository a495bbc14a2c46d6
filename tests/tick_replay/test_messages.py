"""What a trader knows while messages overtake each other or are long on their way. Times in milliseconds."""

from components.contracts.tick_schemas import BUY, SELL
from tests.tick_replay.small_market import decisions, delays, events, fills, quote, replayed

CALM = events((0, quote(100, 500, 101, 500)), (5_000, quote(100, 500, 101, 500)))


def test_a_decision_that_a_newer_one_overtook_is_no_news():
    made = decisions({100: 0.1, 110: -0.1})
    found = replayed(CALM, made, "taker", late=delays(made, feed_ms=[50, 0]))
    assert [fill[:4] for fill in fills(found, "taker")] == [
        (True, False, SELL, 110.0),
        (False, False, BUY, 1_110.0),
    ]


def test_a_trade_is_left_once_the_trader_has_heard_of_its_entry():
    made = decisions({100: 0.1, 3_000: 0.0}, holds_ms=10)
    # The order takes 5, the notice 40 as drawn for the next message, and the order back 5 again.
    found = replayed(CALM, made, "taker", late=delays(made, feed_ms=[0, 40], order_ms=[5, 70]))
    assert [fill[:4] for fill in fills(found, "taker")] == [
        (True, False, BUY, 105.0),
        (False, False, SELL, 150.0),
    ]
