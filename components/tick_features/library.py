"""The features of ticks, by group. Windows are in samples: at 50 ms, 20 are a second."""

from components.contracts import VOLATILITY_COLUMN
from components.tick_features.declare import BPS, Feature

_CONT = "Cont, Kukanov and Stoikov 2014"
_OF_NAMES = {"order_flow": "touch_lots", "turnover": "touch_lots", "touch_changes": "messages"}
VOLATILITY_SAMPLES = 20
# The regime is told from these two, see regime.py.
TREND, RISK = "momentum_600", "realised_volatility_600"


def _per(name: str, group: str, of: str, window: int, source: str, normalisation="none") -> Feature:
    pair = (of, _OF_NAMES[of])
    return Feature(f"{name}_{window}", group, "per", pair, source, window, normalisation=normalisation)


def _flag(name: str, source: str) -> Feature:
    return Feature(name, "events", "value", (name,), source)


FEATURES = (
    # book: what rests. At one level the imbalance and the queue imbalance are the same number.
    *(
        Feature(f"imbalance_{n}", "book", "value", (f"imbalance_{n}",), f"{_CONT}; lots of {n} levels")
        for n in (1, 5, 10)
    ),
    *(
        Feature(
            f"queue_imbalance_{n}",
            "book",
            "value",
            (f"queue_imbalance_{n}",),
            f"Gould and Bonart 2016; mean over {n} levels of the imbalance of each",
        )
        for n in (5, 10)
    ),
    Feature(
        "microprice_gap",
        "book",
        "value",
        ("microprice_gap",),
        "Gatheral and Oomen 2010; mid weighted by the other side's lots, less the mid, bps",
        normalisation="robust",
    ),
    Feature("spread", "book", "value", ("spread",), "Demsetz 1968; bps of the mid", normalisation="rank"),
    Feature(
        "depth_slope",
        "book",
        "log",
        ("depth_slope",),
        "Biais, Hillion and Spatt 1995; lots that come with each tick, 10 levels, mean of both sides",
        normalisation="robust",
    ),
    Feature(
        "slope_imbalance",
        "book",
        "value",
        ("slope_imbalance",),
        "Naes and Skjeltorp 2006; slope of bids less that of asks over their sum",
    ),
    Feature("touch_depth", "book", "log", ("touch_depth",), "lots at the touch", normalisation="robust"),
    # flow: what comes and goes.
    *(
        _per("order_flow_imbalance", "flow", "order_flow", n, f"{_CONT}; per lots at the touch", "robust")
        for n in (1, 5, 20, 100)
    ),
    *(
        _per("touch_churn", "flow", "turnover", n, "lots that came and went per lots at the touch", "rank")
        for n in (20, 100)
    ),
    _per("touch_change_share", "flow", "touch_changes", 100, "messages that changed the touch"),
    *(
        Feature(
            f"cancel_to_new_{n}",
            "flow",
            "log_ratio",
            ("cancelled_lots", "new_lots"),
            "Hasbrouck and Saar 2009; where only depth is told, lots that left and were not traded",
            n,
        )
        for n in (20, 100)
    ),
    # trades: who takes, and at what price.
    Feature("trade_sign", "trades", "value", ("trade_sign",), "Lee and Ready 1991; the aggressor's side"),
    Feature(
        "trade_run",
        "trades",
        "value",
        ("trade_run",),
        "Lillo and Farmer 2004; log of 1 + trades of one sign in a row, signed",
    ),
    *(
        Feature(
            f"trade_balance_{n}",
            "trades",
            "balance",
            ("bought_lots", "sold_lots"),
            "Chordia, Roll and Subrahmanyam 2002",
            n,
        )
        for n in (20, 100)
    ),
    *(
        Feature(
            f"vwap_gap_{n}",
            "trades",
            "gap",
            ("notional", "traded_lots"),
            "Berkowitz, Logue and Noser 1988; bps from the price that was paid",
            n,
            BPS,
            "robust",
        )
        for n in (100, 600)
    ),
    # price: where it went.
    *(
        Feature(
            f"momentum_{n}",
            "price",
            "return",
            ("mid_change",),
            "log return of the mid, bps",
            n,
            BPS,
            "robust",
        )
        for n in (1, 5, 20, 100, 600)
    ),
    *(
        Feature(
            f"micro_momentum_{n}",
            "price",
            "change",
            ("log_microprice",),
            "log return of the microprice, bps",
            n,
            BPS,
            "rank",
        )
        for n in (5, 20)
    ),
    # volatility: for one window, not annualised.
    *(
        Feature(
            f"realised_volatility_{n}",
            "volatility",
            "root",
            ("mid_squares",),
            "Andersen and Bollerslev 1998; bps",
            n,
            BPS,
            "robust",
        )
        for n in (20, 100, 600)
    ),
    Feature(
        VOLATILITY_COLUMN,
        "volatility",
        "deviation",
        ("mid_change", "mid_squares"),
        "standard deviation of the mid's returns over one sample; a mid is known to half a tick",
        VOLATILITY_SAMPLES,
    ),
    # time: how old what is known is.
    Feature("delay", "time", "log", ("delay_ms",), "the newest message's way beyond the least one, ms"),
    Feature("time_since_last_event", "time", "log", ("silence_ms",), "Engle and Russell 1998; ms"),
    Feature(
        "message_rate_20",
        "time",
        "log_total",
        ("messages",),
        "Engle and Russell 1998",
        20,
        normalisation="rank",
    ),
    # events: what happened since the sample before, 1 or 0.
    _flag("traded", "something was traded"),
    _flag("touch_moved", "the mid moved"),
    _flag("resynced", "a whole book was sent"),
    _flag("silent", "no message came"),
    _flag("halted", "no order is taken"),
)
CONTEXT = (VOLATILITY_COLUMN,)
# Always there: what experts need beside their inputs, and what the regime is told from.
ALWAYS = (*CONTEXT, TREND, RISK)
