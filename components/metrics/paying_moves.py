"""What forecasts of moves that pay are worth: how many such moves there were, how precisely they are found
(accuracy says nothing where nearly all moments pay nothing), and in which order moves are put.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.metrics.classes import average_precision

LUCKY_TURNS = 400


@dataclass(frozen=True)
class PayingMoves:
    """`moves` paid and share no moment with each other, of so many judged `rows`. `base_rate` is the share of
    rows that pay, the mean of up and down; `precision` the average precision (area under the precision-recall
    curve), likewise, which a guess without skill has at the base rate. `rank_correlation` is Spearman's, of
    score and log return. NaN where a figure can't be computed.
    """

    rows: int
    moves: int
    base_rate: float
    precision: float
    rank_correlation: float

    @property
    def lift(self) -> float:
        """Precision over base rate."""
        return self.precision / self.base_rate if self.base_rate > 0 else float("nan")


def paying_moves(rows: pl.DataFrame) -> PayingMoves:
    """The figures of one expert.

    rows : `timestamp`, `symbol`, `score`, `trade_class` (-1 down pays, 0 none, 1 up pays), `label_end`,
        `log_return`; optionally `p_up`, `p_down`, in whose place score and minus score stand otherwise
    """
    known = _judged(rows)
    if known.is_empty():
        return PayingMoves(0, 0, *[float("nan")] * 3)
    judged = [_precision(known, side, column) for side, column in ((1, "p_up"), (-1, "p_down"))]
    rate, precision = np.mean(judged, axis=0)
    paying = known.filter(pl.col("trade_class") != 0).sort("symbol", "timestamp")
    moves = sum(moves_apart(part) for part in paying.partition_by("symbol"))
    correlation = known.select(pl.corr("score", "log_return", method="spearman")).item()
    return PayingMoves(
        len(known), moves, rate, precision, float("nan") if correlation is None else correlation
    )


def _judged(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("trade_class").is_not_null() & pl.col("score").is_not_nan())


def _side(known: pl.DataFrame, side: int, column: str) -> tuple[np.ndarray, np.ndarray]:
    """How likely a side was said to pay, and whether it did, shape (rows,)."""
    told = column in known.columns and known[column].null_count() == 0
    chance = known[column] if told else side * known["score"]
    return chance.to_numpy(), (known["trade_class"] == side).to_numpy()


def _precision(known: pl.DataFrame, side: int, column: str) -> tuple[float, float]:
    """Base rate and average precision of one side."""
    chance, happened = _side(known, side, column)
    return float(happened.mean()), average_precision(chance, happened)


def lucky_lift(rows: pl.DataFrame, *, level: float, seed: int) -> float:
    """The `PayingMoves.lift` that forecasts without skill exceed with a chance of 1 - `level`.

    Of these very forecasts, turned against what came of them: each symbol's in a circle, all by the same
    share of its rows. So chances and outcomes stay as persistent as they are, which makes luck large where
    few moves pay. `rows` as in `paying_moves`; NaN where a side never pays.
    """
    known = _judged(rows).sort("symbol", "timestamp")
    sides = [_side(known, side, column) for side, column in ((1, "p_up"), (-1, "p_down"))]
    if known.is_empty() or not all(happened.any() for _, happened in sides):
        return float("nan")
    rate = np.mean([happened.mean() for _, happened in sides])
    precise = [_precise(chance) for chance, _ in sides]
    lengths = known["symbol"].rle().struct.field("len").to_numpy().astype(np.int64)
    ends = np.cumsum(lengths)
    lifts = []
    for share in np.random.default_rng(seed).uniform(size=LUCKY_TURNS):
        turned = [
            np.roll(np.arange(end - length, end), int(share * length))
            for length, end in zip(lengths, ends, strict=True)
        ]
        place = np.concatenate(turned)
        found = [one(happened[place]) for one, (_, happened) in zip(precise, sides, strict=True)]
        lifts.append(np.mean(found) / rate)
    return float(np.quantile(lifts, level))


def _precise(chance: np.ndarray) -> Callable[[np.ndarray], float]:
    """`average_precision` of one order against several outcomes."""
    order = np.argsort(-chance, kind="stable")
    last = np.append(np.flatnonzero(np.diff(chance[order])), len(order) - 1)

    def of(happened: np.ndarray) -> float:
        hits = np.cumsum(happened[order])[last]
        return float((hits / (last + 1) * np.diff(hits, prepend=0)).sum() / hits[-1])

    return of


def moves_apart(rows: pl.DataFrame) -> int:
    """How many rows of a symbol are left where each begins after the one before ended; sorted by time."""
    starts, ends = (rows[name].to_physical().to_numpy() for name in ("timestamp", "label_end"))
    count = place = 0
    while place < len(starts):
        count += 1
        place = max(place + 1, int(np.searchsorted(starts, ends[place])))
    return count
