"""Builds the labels of ticks: what a round trip earns from each sample, over each horizon, after fees and
the walk of the book.

An order that a sample causes arrives `latency` later: there the position is entered, and left `horizon` after
that. Both moments are of the collector's clock: the book is as all that was known by then makes it. With A
and B what the order would pay and receive on average (ticks), m the mid, f the fee of a side:

    log_return = log(m2 / m1)
    long = log(B2 (1 - f)) - log(A1 (1 + f)),  short = log(B1 (1 - f)) - log(A2 (1 + f))

`trade_class` is 1 where `long` is above the margin, -1 where `short` is, else 0. `cost` is what the round
trip in the direction of the mid loses against the mid: log_return - long where the mid rose or stood, else
-log_return - short. `vwap_return` is log(VWAP / m1) over the trades between the two moments.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from components.contracts.documents.instruments import Instrument
from components.contracts.errors import ContractError
from components.contracts.schemas import LABELS, TIME
from components.contracts.tick_schemas import TRADE
from components.order_book.state import new_book
from components.tick_labels.config import Settings
from components.tick_labels.moments import KNOWN, OUTSIDE, Events, Moments, look, no_moments

NS_A_MS, NS_A_US = 1_000_000, 1_000
# Samples that are labelled at a time, and events that are compared at a time.
BLOCK_SAMPLES, LOOKED_AT = 1 << 17, 1 << 20
VALUES = ("log_return", "vwap_return", "cost", "trade_class")


def label_session(
    events: Events, samples: pl.Series, instrument: Instrument, latency_ns: int, settings: Settings
) -> Iterator[tuple[pl.DataFrame, np.ndarray]]:
    """Labels of one symbol's samples in one session, a block of samples after another.

    Parameters
    ----------
    events : those of the symbol and session
    samples : their moments (microseconds, UTC), ascending
    instrument : what ticks and lots are worth
    latency_ns : from a sample to the arrival of its order

    Yields
    ------
    The columns of LABELS but for `symbol` and `sector_neutral_return`, one row a sample and horizon in this
    order, null where there is no label; and why there is none (REASONS of moments.py), [samples, horizons].
    """
    start = samples.to_physical().to_numpy() * NS_A_US
    horizons = np.array([0, *settings.horizons], dtype=np.int64) * settings.sample_ms * NS_A_MS
    times = start + latency_ns + horizons[:, None]
    whole = no_moments(*times.shape)
    lot_value = instrument.tick_size * instrument.lot_size
    look(events, new_book(), times, settings.order_value / lot_value, _trade_rows(events), whole)
    whole.why[:, start < events.ingest_ts[0]] = OUTSIDE
    for first in range(0, len(samples), BLOCK_SAMPLES):
        block = slice(first, first + BLOCK_SAMPLES)
        found = Moments(*(column[:, block] for column in whole))
        why = np.where(found.why[0] != KNOWN, found.why[0], found.why[1:]).T
        numbers = _numbers(found, events.price[0], settings)
        columns = {name: _null(numbers[name], why == KNOWN) for name in VALUES}
        yield _long(samples[block], times[1:, block].T, columns, settings), why


def require_order(events: Events, what: str) -> None:
    """ContractError where the times of events go back; `what` names the session."""
    # In parts: a difference of all would be another column.
    for first in range(0, len(events.ingest_ts), LOOKED_AT):
        back = np.flatnonzero(np.diff(events.ingest_ts[first : first + LOOKED_AT + 1]) < 0)
        if back.size:
            raise ContractError(
                f"Ticks of {what}: ingest_ts goes back at sequence {first + int(back[0]) + 1}. Validate the"
                " ticks first; labels look at events in the order in which the collector had them."
            )


def _trade_rows(events: Events) -> bool:
    """Whether trades have rows of their own; else they are the executions of orders."""
    return bool((events.kind == TRADE).any())


def _numbers(found: Moments, first_price: int, settings: Settings) -> Mapping[str, np.ndarray]:
    """The label columns, each [samples, horizons]."""
    fee, margin = settings.fee_bps / 10_000, settings.margin_bps / 10_000
    mid, bought, sold = (np.log(prices.T) for prices in (found.mid, found.bought, found.sold))
    moved = mid[:, 1:] - mid[:, :1]
    fees = np.log1p(-fee) - np.log1p(fee)
    long = sold[:, 1:] - bought[:, :1] + fees
    short = sold[:, :1] - bought[:, 1:] + fees
    value, lots = ((total[1:] - total[0]).T for total in (found.value, found.quantity))
    with np.errstate(invalid="ignore", divide="ignore"):
        vwap = np.where(lots > 0, first_price + value / lots, np.nan)
        vwap_return = np.log(vwap) - mid[:, :1]
    return {
        "log_return": moved,
        "vwap_return": vwap_return,
        "cost": np.where(moved >= 0, moved - long, -moved - short),
        "trade_class": np.where(long > margin, 1.0, np.where(short > margin, -1.0, 0.0)),
    }


def _null(values: np.ndarray, known: np.ndarray) -> pl.Series:
    return pl.Series(np.where(known, values, np.nan).ravel()).fill_nan(None)


def _long(
    samples: pl.Series, ends: np.ndarray, columns: Mapping[str, pl.Series], settings: Settings
) -> pl.DataFrame:
    """One row a sample and horizon; `ends` [samples, horizons] ns."""
    count = len(settings.horizons)
    table = pl.DataFrame(
        {
            "timestamp": samples.gather(np.repeat(np.arange(len(samples)), count)),
            "horizon": pl.Series(np.tile(np.array(settings.horizons, dtype=np.int32), len(samples))),
            # The next microsecond: not before the last event was known.
            "label_end": pl.Series((-(-ends // NS_A_US)).ravel()).cast(TIME),
            **columns,
        }
    )
    known = pl.col("log_return").is_not_null()
    return table.with_columns(
        pl.when(known).then("label_end"),
        pl.col("log_return").sign().cast(pl.Int8).alias("direction"),
        pl.col("trade_class").cast(pl.Int8),
    )


def with_neutral_returns(table: pl.DataFrame) -> pl.DataFrame:
    """The labels of all symbols in the order of LABELS, with `sector_neutral_return`: the log return less its
    mean over the symbols that are labelled at the moment, null where there are fewer than two.
    """
    moment = ("timestamp", "horizon")
    others = pl.col("log_return").count().over(moment) > 1
    neutral = pl.col("log_return") - pl.col("log_return").mean().over(moment)
    columns = [*LABELS.columns, *(name for name in LABELS.optional if name in table.columns)]
    return (
        table.with_columns(pl.when(others).then(neutral).alias("sector_neutral_return"))
        .select(columns)
        .sort(LABELS.key)
    )
