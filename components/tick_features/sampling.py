"""One sample: values as they stand at the moment, sums over the last samples, features, and their scale."""

import math

import numpy as np

from components.contracts.tick_schemas import BUY, SELL
from components.order_book.compiled import compiled
from components.order_book.measures import depth_slope, imbalance, microprice, queue_imbalance
from components.order_book.state import halted
from components.tick_features import declare as operation
from components.tick_features import measured as m
from components.tick_features.messages import LOTS, PRICE, close_message
from components.tick_features.past import centred_rank, insert, median, robust_score, spread_about
from components.tick_features.regime import UNKNOWN, next_regime, own_state
from components.tick_features.state import (
    DELAY,
    FULL,
    INGEST,
    MID,
    NO_DELAY,
    PAST_EVERY,
    PAST_LEAST,
    RUN,
    SAMPLE,
    SAMPLED,
    SIGN,
)

NANOSECONDS_A_MILLISECOND = 1e6
SLOPE_LEVELS = 10
NONE, ROBUST, RANK = range(3)


@compiled
def take_sample(state, moment, row):
    """Write the sample of a moment (ns) into `row`, in the catalog's order; NaN where a value is not known.

    Before the first whole book nothing is known, and no sample counts.
    """
    at, counts, values, features, plan = state.at, state.counts, state.values, state.features, state.plan
    close_message(state.book, at, counts, state.touch, state.depth)
    if not at[FULL]:
        row[:] = np.nan
        counts[:] = 0
        return
    _stand_of_book(state.book, at, state.touch, values)
    _stand(at, counts, values, state.depth, moment)
    _count_sample(plan.counted, plan.lengths, at, counts, state.recent, state.sums)
    window = state.microprices
    window[at[SAMPLE] % len(window)] = values[m.LOG_MICROPRICE]
    _make_features(plan, at, values, state.sums, window, state.paid, features)
    column = _write(plan.methods, at, features, state.taken, state.ordered, state.centre, state.spread, row)
    row[column] = _regime(plan.told_by, at, features, state.taken, state.ordered, state.regime)
    if at[SAMPLE] % at[PAST_EVERY] == 0:
        _remember(plan, features, state.past, state.ordered, state.taken, state.centre, state.spread)
    at[SAMPLE] += 1
    counts[:] = 0


@compiled
def _stand_of_book(book, at, touch, values):
    """What the book says; NaN while a side is empty, or the sides cross."""
    values[m.SPREAD : m.TOUCH_DEPTH] = np.nan
    values[m.HALTED_NOW] = halted(book)
    bid, ask = touch[0, PRICE], touch[1, PRICE]
    if touch[0, LOTS] == 0 or touch[1, LOTS] == 0 or bid >= ask:
        return
    middle, weighted = at[MID] / 2, microprice(book)
    values[m.SPREAD] = operation.BPS * (ask - bid) / middle
    values[m.MICROPRICE_GAP] = operation.BPS * (weighted - middle) / middle
    values[m.LOG_MICROPRICE] = math.log(weighted)
    values[m.IMBALANCE_1] = imbalance(book, 1)
    values[m.IMBALANCE_5] = imbalance(book, 5)
    values[m.IMBALANCE_10] = imbalance(book, 10)
    values[m.QUEUE_IMBALANCE_5] = queue_imbalance(book, 5)
    values[m.QUEUE_IMBALANCE_10] = queue_imbalance(book, 10)
    bids, asks = depth_slope(book, BUY, SLOPE_LEVELS), depth_slope(book, SELL, SLOPE_LEVELS)
    values[m.DEPTH_SLOPE] = (bids + asks) / 2
    values[m.SLOPE_IMBALANCE] = (bids - asks) / (bids + asks)


@compiled
def _stand(at, counts, values, depth, moment):
    """The other values at the moment, and the counts that only a sample has."""
    counts[m.MID_CHANGE] = at[MID] - at[SAMPLED]
    counts[m.MID_SQUARES] = counts[m.MID_CHANGE] ** 2
    counts[m.TOUCH_LOTS] = depth[0]
    at[SAMPLED] = at[MID]
    values[m.TOUCH_DEPTH] = depth[0]
    values[m.TRADE_SIGN] = at[SIGN]
    values[m.TRADE_RUN] = at[SIGN] * math.log1p(at[RUN])
    values[m.DELAY_MS] = np.nan if at[DELAY] == NO_DELAY else at[DELAY] / NANOSECONDS_A_MILLISECOND
    values[m.SILENCE_MS] = (moment - at[INGEST]) / NANOSECONDS_A_MILLISECOND
    values[m.TRADED] = counts[m.TRADES] > 0
    values[m.TOUCH_MOVED] = counts[m.MID_CHANGE] != 0 and at[SAMPLE] > 0
    values[m.RESYNCED] = counts[m.SNAPSHOTS] > 0
    values[m.SILENT] = counts[m.MESSAGES] == 0


@compiled
def _count_sample(counted, lengths, at, counts, recent, sums):
    """Let the counts into the sums. The first sample's are of a time without a book: they are none."""
    number, length = at[SAMPLE], recent.shape[1]
    if number == 0:
        counts[:] = 0
    for i in range(len(counted)):
        sums[i] += counts[counted[i]]
        if number >= lengths[i]:
            sums[i] -= recent[counted[i], (number - lengths[i]) % length]
    now = number % length
    for i in range(len(counts)):
        recent[i, now] = counts[i]


@compiled
def _make_features(plan, at, values, sums, microprices, paid, features):
    """The features; NaN where a window reaches back before the first whole book."""
    number, middle, length = at[SAMPLE], at[MID], len(microprices)
    for i in range(len(features)):
        code, window, first = plan.operations[i], plan.windows[i], plan.first[i]
        if code == operation.VALUE:
            value = values[first]
        elif code == operation.LOG:
            value = math.log1p(values[first])
        elif number < window:
            value = np.nan
        elif code == operation.CHANGE:
            value = microprices[number % length] - microprices[(number - window) % length]
        else:
            a, b = sums[first], sums[plan.second[i]]
            if code == operation.GAP and b != 0:
                paid[i] = a / b
            value = _of_sums(code, window, a, b, middle, paid[i])
        features[i] = plan.scales[i] * value


@compiled
def _of_sums(code, window, a, b, middle, paid):
    """An operation on sums over the window; `middle` in half ticks, `paid` in ticks."""
    if code == operation.LOG_TOTAL:
        return math.log1p(a)
    if code == operation.PER:
        return a / b if b != 0 else 0.0
    if code == operation.BALANCE:
        return (a - b) / (a + b) if a + b != 0 else 0.0
    if code == operation.LOG_RATIO:
        return math.log((1 + max(a, 0)) / (1 + max(b, 0)))
    if code == operation.RETURN:
        return math.log(middle / (middle - a))
    if code == operation.ROOT:
        return math.sqrt(a) / middle
    if code == operation.DEVIATION:
        # A mid that never moved may have done so by less than half a tick.
        squares = max(window * b - a * a, window - 1)
        return math.sqrt(squares / (window * (window - 1))) / middle
    return math.log(middle / (2 * paid))


@compiled
def _write(methods, at, features, taken, ordered, centre, spread, row):
    """The features and those that are scaled; the next column."""
    column, least, size = len(features), at[PAST_LEAST], ordered.shape[1]
    for i in range(len(features)):
        value = features[i]
        row[i] = value
        if methods[i] == NONE:
            continue
        if taken[i] < least or np.isnan(value):
            row[column] = np.nan
        elif methods[i] == ROBUST:
            row[column] = robust_score(value, centre[i], spread[i])
        else:
            row[column] = centred_rank(ordered[i], min(taken[i], size), value)
        column += 1
    return column


@compiled
def _regime(told_by, at, features, taken, ordered, regime):
    """The regime that holds."""
    trend, risk, size = told_by[0], told_by[1], ordered.shape[1]
    trends, risks = min(taken[trend], size), min(taken[risk], size)
    found = UNKNOWN
    if min(trends, risks) >= at[PAST_LEAST]:
        found = own_state(features[trend], features[risk], ordered[trend], trends, ordered[risk], risks)
    return next_regime(regime, found)


@compiled
def _remember(plan, features, past, ordered, taken, centre, spread):
    """Let the sample into the past of its features."""
    told_by, methods = plan.told_by, plan.methods
    for i in range(len(features)):
        kept = methods[i] != NONE or i in (told_by[0], told_by[1])
        if not kept or np.isnan(features[i]):
            continue
        insert(past[i], ordered[i], taken[i], features[i])
        taken[i] += 1
        if methods[i] == ROBUST:
            held = min(taken[i], ordered.shape[1])
            centre[i] = median(ordered[i], held)
            spread[i] = spread_about(ordered[i], held, centre[i])
