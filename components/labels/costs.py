"""What a round trip costs, as known at the signal, and whether a move pays for it."""

import numpy as np

from components.labels.config import Costs
from components.metrics.liquidity import roll_half_spread, traded_value

# A side can't cost more than this share of the traded value; estimates beyond it say only that the symbol
# can't be traded.
LARGEST_SIDE = 0.5


def round_trip_cost(
    returns: np.ndarray, volatility: np.ndarray, value: np.ndarray, costs: Costs
) -> np.ndarray:
    """The log return that a position must earn to pay for opening and closing it; shape (bars, symbols).

    Parameters
    ----------
    returns, volatility : one-bar log returns up to each bar, and their size a bar
    value : traded value of each bar in the panel's currency

    Returns
    -------
    log((1 + c) / (1 - c)), the same for long and short, where one side costs c = fees + slippage [+ half the
    spread] [+ volatility * impact_volatilities * sqrt(order_value / mean traded value)] (square-root law,
    Almgren et al. 2005). NaN where a part that is switched on is unknown at the signal.
    """
    side = np.full(returns.shape, (costs.fee_bps + costs.slippage_bps) / 10_000)
    if costs.half_spread == "roll":
        side = side + roll_half_spread(returns, costs.spread_bars)
    if costs.order_value is not None:
        side = side + costs.impact_volatilities * volatility * np.sqrt(
            costs.order_value / traded_value(value, costs.volume_bars)
        )
    side = np.minimum(side, LARGEST_SIDE)
    return np.log1p(side) - np.log1p(-side)


def trade_class(log_return: np.ndarray, cost: np.ndarray, margin: float) -> np.ndarray:
    """1 where a long position earns more than its cost plus `margin`, -1 where a short one does, else 0; NaN
    where one is unknown.
    """
    worth = np.where(np.abs(log_return) > cost + margin, np.sign(log_return), 0.0)
    return np.where(np.isfinite(log_return) & np.isfinite(cost), worth, np.nan)
