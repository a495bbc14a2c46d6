"""Forecasts of log returns as people think of prices: the return in plain terms, and the price to come.

Both are rising functions of the log return, so that p10, p50 and p90 stay the quantiles that they were. Of
the score, an expected log return, they are what lies in the middle of what may come, not its mean: that is
larger by about half the variance.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# The one target that says where a symbol's own price goes: others are of a class, of volatility, or beyond
# what sector or market do.
PRICED_TARGET = "log_return"
FORECASTS = ("score", "p10", "p50", "p90")


@dataclass(frozen=True)
class PriceForms:
    """[B] by FORECASTS: `antilog_return` as a share of the price, `future_price` in its currency."""

    antilog_return: Mapping[str, np.ndarray]
    future_price: Mapping[str, np.ndarray]


def price_forms(forecasts: Mapping[str, np.ndarray], price: np.ndarray) -> PriceForms:
    """`exp(log return) - 1` and `price * exp(log return)`; infinite where no number is large enough.

    Parameters
    ----------
    forecasts : log returns [B] by FORECASTS
    price : of now, [B]; NaN where it is unknown, and so is what follows from it
    """
    given = {name: forecasts[name] for name in FORECASTS}
    with np.errstate(over="ignore"):
        return PriceForms(
            antilog_return={name: np.expm1(values) for name, values in given.items()},
            future_price={name: price * np.exp(values) for name, values in given.items()},
        )


def why_unpriced(target: str) -> str | None:
    """Why forecasts of a target have no price form; None where they have."""
    if target == PRICED_TARGET:
        return None
    return f"{target} is not a symbol's own log return, so that it says nothing of its price"
