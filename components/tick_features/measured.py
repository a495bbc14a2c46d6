"""What a sample is made of: counts of what happened since the sample before, and values as they stand.

Counts are whole numbers, so that sums of them over windows are exact, whatever went before.
"""

# Counts. MID_CHANGE in half ticks, and its square; ORDER_FLOW and TURNOVER of the touch in lots; TOUCH_LOTS
# is what rests at the touch, once a sample; NOTIONAL in ticks times lots.
COUNTS = (
    "mid_change",
    "mid_squares",
    "order_flow",
    "turnover",
    "touch_changes",
    "touch_lots",
    "new_lots",
    "cancelled_lots",
    "bought_lots",
    "sold_lots",
    "traded_lots",
    "notional",
    "trades",
    "messages",
    "snapshots",
)
(
    MID_CHANGE,
    MID_SQUARES,
    ORDER_FLOW,
    TURNOVER,
    TOUCH_CHANGES,
    TOUCH_LOTS,
    NEW_LOTS,
    CANCELLED_LOTS,
    BOUGHT_LOTS,
    SOLD_LOTS,
    TRADED_LOTS,
    NOTIONAL,
    TRADES,
    MESSAGES,
    SNAPSHOTS,
) = range(len(COUNTS))

# Values. Those of the book are unknown (NaN) while a side is empty or the sides cross.
VALUES = (
    "spread",
    "microprice_gap",
    "imbalance_1",
    "imbalance_5",
    "imbalance_10",
    "queue_imbalance_5",
    "queue_imbalance_10",
    "depth_slope",
    "slope_imbalance",
    "touch_depth",
    "log_microprice",
    "trade_sign",
    "trade_run",
    "delay_ms",
    "silence_ms",
    "traded",
    "touch_moved",
    "resynced",
    "silent",
    "halted",
)
(
    SPREAD,
    MICROPRICE_GAP,
    IMBALANCE_1,
    IMBALANCE_5,
    IMBALANCE_10,
    QUEUE_IMBALANCE_5,
    QUEUE_IMBALANCE_10,
    DEPTH_SLOPE,
    SLOPE_IMBALANCE,
    TOUCH_DEPTH,
    LOG_MICROPRICE,
    TRADE_SIGN,
    TRADE_RUN,
    DELAY_MS,
    SILENCE_MS,
    TRADED,
    TOUCH_MOVED,
    RESYNCED,
    SILENT,
    HALTED_NOW,
) = range(len(VALUES))
