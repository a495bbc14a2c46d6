"""What experts want at the moments of a symbol's session: shares of the capital, sized by what they expect
after costs, how sure they are, and how steady the way of an order is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import VOLATILITY_COLUMN, ContractError
from components.sizing.after_costs import kelly_share_after_costs, move_that_pays
from components.sizing.bets import kelly_share, step_sizes, win_chances
from components.sizing.known import Known, SizingError
from components.tick_replay.arrays import Decisions
from components.tick_replay.config import Settings, Sizing
from components.timeline.periods import TICK_LENGTHS

CHANCES = ("p_up", "p_none", "p_down")
USUAL = "usual_uncertainty"
# The classes of this label begin where a round trip pays its costs; those of others at 0.
PAYING_CLASSES = "trade_class"
_LENGTHS_NS = {
    period: int(length.total_seconds() * 1_000) * 1_000_000 for period, length in TICK_LENGTHS.items()
}


@dataclass(frozen=True)
class Task:
    """What predictions are about, and what acting on them costs: the `target` over a `horizon` of samples,
    and the `fees` of a round trip as a share of its value.
    """

    target: str
    horizon: int
    fees: float

    @classmethod
    def of(cls, target: str, horizon: int, settings: Settings) -> "Task":
        """At the dearer of the two fees: what rests may have to cross."""
        return cls(target, horizon, 2e-4 * max(settings.maker_fee_bps, settings.taker_fee_bps))


@dataclass(frozen=True)
class Bets:
    """The better side of each row: `side` is 1 to buy, -1 to sell. `wins`, `nothing` and `loses` are chances
    that the return is a `move` that way, none, or one the other way, None where a return is predicted;
    `expected` the return, before costs.
    """

    side: np.ndarray
    expected: np.ndarray
    move: np.ndarray | None = None
    wins: np.ndarray | None = None
    nothing: np.ndarray | None = None
    loses: np.ndarray | None = None


def sized(rows: pl.DataFrame, sizing: Sizing, task: Task) -> np.ndarray:
    """The share of the capital that each row asks for, in [-1, 1], above 0 to buy: 0 where what is expected,
    made smaller by doubt and jitter, does not pay for the spread and the fees of a round trip, and where *no
    trade* is likelier than the side.

    Parameters
    ----------
    rows : `score`, `uncertainty`, `spread` (of the book then, as a share of its mid; NaN where nothing can be
        traded), `steadiness` in [0, 1]; optionally CHANCES, `usual_uncertainty`, `volatility_20` of a sample

    Raises
    ------
    SizingError
        If there are chances and no volatility says what a move is worth.
    """
    score, uncertainty = _column(rows, "score"), _column(rows, "uncertainty")
    cost = np.maximum(_column(rows, "spread") + task.fees, 0.0)
    trust = _sureness(rows, uncertainty) * _column(rows, "steadiness")
    bets = _bets(rows, score, trust, cost, task)
    asks = (np.abs(score) > sizing.least_score) & (bets.expected > cost)
    if bets.wins is not None:
        asks &= _column(rows, "p_none") <= np.where(bets.side > 0, *_both(rows))
    share = np.minimum(_share(bets, uncertainty, cost, sizing), 1.0)
    return np.where(asks, bets.side * np.nan_to_num(share, nan=0.0) * trust, 0.0)


def _bets(rows: pl.DataFrame, score: np.ndarray, trust: np.ndarray, cost: np.ndarray, task: Task) -> Bets:
    if any(name not in rows.columns or rows[name].null_count() == len(rows) for name in CHANCES):
        return Bets(np.sign(score), np.abs(score) * trust)
    if VOLATILITY_COLUMN not in rows.columns:
        raise SizingError(
            f"tick_replay.sizing needs {VOLATILITY_COLUMN}, the volatility of each sample, to tell what a"
            " move is worth. Keep it among the features."
        )
    up, down = _both(rows)
    deviation = _column(rows, VOLATILITY_COLUMN) * np.sqrt(task.horizon)
    # Classes that begin where costs are paid are of larger moves; the costs are taken off all the same.
    move = move_that_pays(deviation, cost if task.target == PAYING_CLASSES else np.zeros_like(cost))
    tilt = np.abs(up - down) * trust
    wins, loses = (up + down + tilt) / 2, (up + down - tilt) / 2
    return Bets(np.sign(up - down), tilt * move, move, wins, 1 - up - down, loses)


def _share(bets: Bets, uncertainty: np.ndarray, cost: np.ndarray, sizing: Sizing) -> np.ndarray:
    """What the rule makes of bets that pay, 0 or more."""
    if sizing.rule == "whole":
        return np.ones_like(cost)
    left = bets.expected - cost
    if sizing.rule == "kelly":
        if bets.wins is None:
            return sizing.kelly_fraction * kelly_share(left, np.where(uncertainty > 0, uncertainty, np.inf))
        chances = (bets.wins, bets.nothing, bets.loses)
        return sizing.kelly_fraction * kelly_share_after_costs(*chances, bets.move, cost)
    wins = bets.wins
    if wins is None:
        wins = win_chances(left[:, None], uncertainty[:, None], Known(), balanced=False)[0][:, 0]
    return step_sizes(wins, sizing.size_steps)


def _both(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The chances of up and down."""
    return _column(rows, "p_up"), _column(rows, "p_down")


def _sureness(rows: pl.DataFrame, uncertainty: np.ndarray) -> np.ndarray:
    """1, and less in proportion where a row is more uncertain than nine of ten while the model learned."""
    if USUAL not in rows.columns:
        return np.ones(len(rows))
    usual = _column(rows, USUAL)
    told = np.isfinite(usual) & np.isfinite(uncertainty) & (uncertainty > 0)
    return np.where(told, np.minimum(1.0, usual / np.where(told, uncertainty, 1.0)), 1.0)


def _column(rows: pl.DataFrame, name: str) -> np.ndarray:
    return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def decisions_of(rows: pl.DataFrame, experts: Sequence[str], sizing: Sizing, task: Task) -> Decisions:
    """The decisions of one symbol's session.

    Parameters
    ----------
    rows : `timestamp`, `expert`, `holds_ns`, `stale`, and what `sized` takes; where the book is stale nothing
        is asked for
    """
    moments = rows["timestamp"].unique().sort()
    at = moments.dt.epoch("ns").to_numpy().astype(np.int64)
    wanted = np.zeros((len(experts), len(at)))
    holds = np.zeros(len(at), np.int64)
    for n, expert in enumerate(experts):
        own = rows.filter(pl.col("expert") == expert)
        place = moments.search_sorted(own["timestamp"]).to_numpy()
        wanted[n, place] = np.where(own["stale"].to_numpy(), 0.0, sized(own, sizing, task))
        holds[place] = own["holds_ns"].to_numpy()
    return Decisions(at, holds, wanted)


def joined(predictions: pl.DataFrame, features: pl.DataFrame, horizon: int, last_event: int) -> pl.DataFrame:
    """Predictions with how long they hold and what was known at their moment.

    Parameters
    ----------
    predictions : rows of one task
    features : FACTORS; `known_time`, and `volatility_20` where it is there
    last_event : of the session, nanoseconds

    Returns
    -------
    The predictions whose horizon ends by then, with `holds_ns`. Whether they have a label does not matter:
    that a book was halted or thin a horizon later is nothing that a trader knew.

    Raises
    ------
    ContractError
        If a prediction stands at a moment at which there is no sample, or was made of what was known later
        than its moment: it would be traded before anybody could have had it.
    """
    context = [name for name in (VOLATILITY_COLUMN,) if name in features.columns]
    known = features.select("timestamp", "symbol", "known_time", *context)
    key = ["timestamp", "symbol"]
    rows = predictions.join(known, on=key, how="left")
    off = rows.filter(pl.col("known_time").is_null())
    if len(off):
        raise ContractError(
            f"{len(off):,} of {len(rows):,} predictions are about moments that are no samples, first"
            f" {off['symbol'][0]} at {off['timestamp'][0]}. Predict at the moments of the features."
        )
    early = rows.filter(pl.col("known_time") > pl.col("timestamp"))
    if len(early):
        raise ContractError(
            f"{len(early):,} of {len(rows):,} predictions stand before what they are made of was known, first"
            f" {early['symbol'][0]} at {early['timestamp'][0]}, known at {early['known_time'][0]}. Put them"
            " at their known time: nobody could have traded on them before."
        )
    # By the distance of samples: `label_end` also counts how long the label's own order is on its way.
    length = pl.col("period").replace_strict(_LENGTHS_NS, return_dtype=pl.Int64)
    ends = pl.col("timestamp").dt.epoch("ns") + pl.col("holds_ns")
    return rows.with_columns(holds_ns=length * horizon).filter(ends <= last_event)
