"""What a trader knows while messages overtake each other or are long on their way. Times in milliseconds."""

from components.contracts.tick_schemas import BUY, SELL, TRADE
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


def test_an_event_at_the_moment_of_a_decision_is_known_to_it():
    market = events(
        (0, quote(100, 500, 101, 500)), (100, quote(200, 500, 202, 500)), (5_000, quote(200, 500, 202, 500))
    )
    found = replayed(market, decisions({100: 0.1}), "taker")
    # A tenth of 1,000 dollars at 2.01 each.
    assert next(fill[3:] for fill in fills(found, "taker")) == (100.0, 404, 49)


def test_a_trader_waits_for_the_answer_to_a_cancel_before_the_next_order():
    market = events(
        (0, quote(100, 5, 101, 500)),
        (120, [(TRADE, SELL, 100, 200)]),
        *((at, quote(100, 5, 101, 500)) for at in (300, 330, 5_000)),
    )
    made = decisions({100: 0.1}, holds_ms=30)
    late = delays(made, cancel_ms=100)
    found = replayed(market, made, "passive_then_cross", late=late, patience_ms=10)
    # Sent at 110, the cancel comes at 210, after the fill. Then the exit rests, and is cancelled at 320.
    assert [fill[:4] for fill in fills(found, "passive_then_cross")] == [
        (True, True, BUY, 120.0),
        (False, False, SELL, 330.0),
    ]
