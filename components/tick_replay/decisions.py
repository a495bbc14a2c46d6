"""What experts want at the moments of a symbol's session: shares of the capital, sized by what they expect,
how sure they are, and how steady the way of an order is.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from components.contracts import VOLATILITY_COLUMN, ContractError
from components.sizing.bets import kelly_shares, step_sizes, win_chances
from components.sizing.known import Known
from components.tick_replay.arrays import Decisions
from components.tick_replay.config import Sizing
from components.timeline.periods import TICK_LENGTHS

CHANCES = ("p_up", "p_down")
USUAL = "usual_uncertainty"
_LENGTHS_NS = {
    period: int(length.total_seconds() * 1_000) * 1_000_000 for period, length in TICK_LENGTHS.items()
}


def sized(rows: pl.DataFrame, sizing: Sizing, horizon: int) -> np.ndarray:
    """The share of the capital that each row asks for, in [-1, 1], above 0 to buy.

    Parameters
    ----------
    rows : `score`, `uncertainty`; optionally CHANCES, `usual_uncertainty`, `volatility_20` of a sample
    horizon : samples

    Raises
    ------
    SizingError
        If Kelly's share of chances is asked for and no volatility says what a move is worth.
    """
    score, uncertainty = _column(rows, "score"), _column(rows, "uncertainty")
    if sizing.rule == "whole":
        share = np.sign(score)
    else:
        known = _known(rows, horizon)
        column = score[:, None], uncertainty[:, None], known
        if sizing.rule == "kelly":
            share = sizing.kelly_fraction * kelly_shares(*column, balanced=False)[:, 0]
        else:
            long, short = (
                step_sizes(wins[:, 0], sizing.size_steps) for wins in win_chances(*column, balanced=False)
            )
            share = np.where(score > 0, long, -short)
    share = np.where(np.abs(score) > sizing.least_score, share, 0.0)
    return np.nan_to_num(np.clip(share * _sureness(rows, uncertainty), -1.0, 1.0), nan=0.0)


def _known(rows: pl.DataFrame, horizon: int) -> Known:
    given = [name for name in CHANCES if name in rows.columns and rows[name].null_count() < len(rows)]
    if len(given) < len(CHANCES):
        return Known(horizon=horizon)
    volatility = _column(rows, VOLATILITY_COLUMN)[:, None] if VOLATILITY_COLUMN in rows.columns else None
    up, down = (_column(rows, name)[:, None] for name in CHANCES)
    return Known(up=up, down=down, volatility=volatility, horizon=horizon)


def _sureness(rows: pl.DataFrame, uncertainty: np.ndarray) -> np.ndarray:
    """1, and less in proportion where a row is more uncertain than nine of ten while the model learned."""
    if USUAL not in rows.columns:
        return np.ones(len(rows))
    usual = _column(rows, USUAL)
    told = np.isfinite(usual) & np.isfinite(uncertainty) & (uncertainty > 0)
    return np.where(told, np.minimum(1.0, usual / np.where(told, uncertainty, 1.0)), 1.0)


def _column(rows: pl.DataFrame, name: str) -> np.ndarray:
    return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def decisions_of(
    rows: pl.DataFrame, experts: Sequence[str], sizing: Sizing, horizon: int, steadiness: Mapping[int, float]
) -> Decisions:
    """The decisions of one symbol's session.

    Parameters
    ----------
    rows : `timestamp`, `expert`, `holds_ns`, and what `sized` takes
    steadiness : what sizes are multiplied by, by hour of the day (UTC)
    """
    moments = rows["timestamp"].unique().sort()
    at = moments.dt.epoch("ns").to_numpy().astype(np.int64)
    hours = moments.dt.hour().to_numpy()
    wanted = np.zeros((len(experts), len(at)))
    holds = np.zeros(len(at), np.int64)
    for n, expert in enumerate(experts):
        own = rows.filter(pl.col("expert") == expert)
        place = moments.search_sorted(own["timestamp"]).to_numpy()
        wanted[n, place] = sized(own, sizing, horizon)
        holds[place] = own["holds_ns"].to_numpy()
    wanted *= np.array([steadiness.get(int(hour), 1.0) for hour in hours])
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
