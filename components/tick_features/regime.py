"""The regime of a symbol, from its trend and volatility against their own past: known at the moment, never
revised.
"""

import numpy as np

from components.contracts import REGIMES
from components.order_book.compiled import compiled
from components.tick_features.past import median, quantile

HIGH_VOLATILITY_QUANTILE = 0.8
# A state is taken on when it has held for so many samples.
PERSIST_SAMPLES = 20
BEAR, NEUTRAL, BULL, HIGH = (REGIMES.index(name) for name in ("bear", "neutral", "bull", "high_volatility"))
UNKNOWN = -1
# Fields of the regime's state: the state that holds, the last sample's own, and for how many it was so.
HELD, LATEST, SAMPLES = range(3)


@compiled
def own_state(trend, risk, past_trend, trends, past_risk, risks):
    """The sample's own state by thresholds of the past, which is sorted: so many trends, so many risks. High
    volatility comes first.
    """
    if np.isnan(trend) or np.isnan(risk):
        return UNKNOWN
    if risk > quantile(past_risk, risks, HIGH_VOLATILITY_QUANTILE):
        return HIGH
    usual = median(past_trend, trends)
    if trend > 0 and trend > usual:
        return BULL
    if trend < 0 and trend < usual:
        return BEAR
    return NEUTRAL


@compiled
def next_regime(regime, found):
    """Let the sample's own state in; the regime that holds now, NaN before one was known."""
    regime[SAMPLES] = regime[SAMPLES] + 1 if found == regime[LATEST] else 1
    regime[LATEST] = found
    if found != UNKNOWN and (regime[SAMPLES] >= PERSIST_SAMPLES or regime[HELD] == UNKNOWN):
        regime[HELD] = found
    return np.nan if regime[HELD] == UNKNOWN else float(regime[HELD])
