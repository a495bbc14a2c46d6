"""What is kept in memory of one symbol to make its features: the book, counts, windows and the past.

All of it are arrays that compiled loops take and change; its size does not grow with the day.
"""

from datetime import timedelta
from typing import NamedTuple

import numpy as np

from components.order_book.state import Book, new_book
from components.tick_features.catalog import wanted_features
from components.tick_features.config import Settings
from components.tick_features.declare import Feature
from components.tick_features.library import RISK, TREND
from components.tick_features.measured import COUNTS, VALUES
from components.tick_features.regime import UNKNOWN
from components.timeline.periods import TICK_LENGTHS

# Fields of `at`: where the day is. NEXT is the moment of the next sample, NEVER where none is due; FULL says
# that a whole book was seen, DEPTHS that depth is told by price. MID, in half ticks, is the newest that was
# known, SAMPLED that of the last sample. STEP is in nanoseconds, 0 where the sampling is by event; EVERY is
# in messages, 0 where it is by the clock.
INGEST, MESSAGE, OPEN, NEXT, STEP, EVERY, SINCE, FULL, DEPTHS, FAULT = range(10)
MID, SAMPLED, SAMPLE, SIGN, RUN, DELAY, PAST_EVERY, PAST_LEAST = range(10, 18)
NEVER = np.iinfo(np.int64).max
MICROSECOND_NS = 1_000
# The delay of a message for which none is known.
NO_DELAY = np.iinfo(np.int64).min
METHODS = ("none", "robust", "rank")


class Plan(NamedTuple):
    """Which features are made, as numbers: one entry a feature, and one a sum that features read."""

    operations: np.ndarray  # (features,) int64, see declare.py
    first: np.ndarray  # (features,) int64: a value, or a sum
    second: np.ndarray  # (features,) int64: a sum, where there are two
    windows: np.ndarray  # (features,) int64
    scales: np.ndarray  # (features,) float64
    methods: np.ndarray  # (features,) int64
    counted: np.ndarray  # (sums,) int64: of which count
    lengths: np.ndarray  # (sums,) int64: over how many samples
    told_by: np.ndarray  # (2,) int64: the features that the regime is told from


class State(NamedTuple):
    """One symbol in memory."""

    plan: Plan
    book: Book
    at: np.ndarray  # (fields,) int64
    touch: np.ndarray  # (2, 2) int64: price and lots of the sides when the last message was over
    depth: np.ndarray  # (1,) int64: lots at both touches, the last that were known
    counts: np.ndarray  # (counts,) int64: since the last sample
    recent: np.ndarray  # (counts, longest window + 1) int64: of the last samples
    sums: np.ndarray  # (sums,) int64
    microprices: np.ndarray  # (longest window + 1,) float64: its logarithms
    values: np.ndarray  # (values,) float64: as they stand
    features: np.ndarray  # (features,) float64: of the last sample
    paid: np.ndarray  # (features,) float64: the last price that a window paid
    past: np.ndarray  # (features, values) float64, see past.py
    ordered: np.ndarray  # (features, values) float64
    taken: np.ndarray  # (features,) int64
    centre: np.ndarray  # (features,) float64
    spread: np.ndarray  # (features,) float64
    regime: np.ndarray  # (3,) int64, see regime.py


def step_ns(settings: Settings) -> int:
    """Nanoseconds from one moment of the clock to the next; 0 where the sampling is by event."""
    if settings.sampling == "event":
        return 0
    return TICK_LENGTHS[settings.sample] // timedelta(microseconds=1) * MICROSECOND_NS


def new_state(settings: Settings, first_moment: int) -> State:
    """A symbol of which nothing is known yet; `first_moment` is that of the first sample of the clock, in
    nanoseconds since 1970.
    """
    features = wanted_features(settings)
    plan, length = _plan(features), max(feature.window for feature in features) + 1
    by_clock, past = settings.sampling == "clock", settings.normalisation
    at = np.zeros(PAST_LEAST + 1, np.int64)
    at[INGEST] = at[MESSAGE] = np.iinfo(np.int64).min
    at[NEXT] = first_moment if by_clock else NEVER
    at[STEP] = step_ns(settings)
    at[EVERY] = 0 if by_clock else settings.every_messages
    at[DELAY], at[PAST_EVERY], at[PAST_LEAST] = (
        NO_DELAY,
        past.every_samples,
        min(past.least_values, past.values),
    )
    shape = (len(features), past.values)
    return State(
        plan=plan,
        book=new_book(),
        at=at,
        touch=np.zeros((2, 2), np.int64),
        depth=np.zeros(1, np.int64),
        counts=np.zeros(len(COUNTS), np.int64),
        recent=np.zeros((len(COUNTS), length), np.int64),
        sums=np.zeros(len(plan.counted), np.int64),
        microprices=np.full(length, np.nan),
        values=np.full(len(VALUES), np.nan),
        features=np.full(len(features), np.nan),
        paid=np.full(len(features), np.nan),
        past=np.zeros(shape),
        ordered=np.zeros(shape),
        taken=np.zeros(len(features), np.int64),
        centre=np.full(len(features), np.nan),
        spread=np.full(len(features), np.nan),
        regime=np.array([UNKNOWN, UNKNOWN, 0], np.int64),
    )


def _plan(features: tuple[Feature, ...]) -> Plan:
    """The features as numbers; sums that several of them read are kept once."""
    sums = list(dict.fromkeys((count, one.window) for one in features for count in one.counts))
    names = [feature.name for feature in features]

    def read(feature: Feature, number: int) -> int:
        if not feature.counts:
            return VALUES.index(feature.of[0])
        return sums.index((feature.of[min(number, len(feature.of) - 1)], feature.window))

    whole = {
        "operations": [feature.code for feature in features],
        "first": [read(feature, 0) for feature in features],
        "second": [read(feature, 1) for feature in features],
        "windows": [feature.window for feature in features],
        "methods": [METHODS.index(feature.normalisation) for feature in features],
        "counted": [COUNTS.index(count) for count, _ in sums],
        "lengths": [window for _, window in sums],
        "told_by": [names.index(TREND), names.index(RISK)],
    }
    arrays = {name: np.array(numbers, np.int64) for name, numbers in whole.items()}
    return Plan(scales=np.array([feature.scale for feature in features]), **arrays)
