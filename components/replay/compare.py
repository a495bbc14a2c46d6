"""Holds the newest bars, scored as the service scores them, against the backtest's way over the same market,
and what the service answered against both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import AlphaloopError
from components.contracts.documents.replay import Held, ReplayedBar, ReplayReport
from components.replay.config import Settings
from components.scoring import Model, score_table

KEY = ("timestamp", "symbol")
# The endpoint whose features the service read from the store itself; a client may send any to the others.
OWN_ENDPOINT = "signals"


class ReplayError(AlphaloopError):
    """The live path and the backtest do not say the same of the newest bars."""


@dataclass(frozen=True)
class Sides:
    """What is held against each other: LIVE_ROWS, the FACTORS that the backtest would score, and SERVED
    answers of the same model.
    """

    live: pl.DataFrame
    factors: pl.DataFrame
    answered: pl.DataFrame


def compare(model: Model, version: int, sides: Sides, settings: Settings) -> ReplayReport:
    """What was lost and what differs on the newest `settings.bars` bars.

    Raises
    ------
    ScoringError
        If the tables lack what the model takes.
    """
    bars = sides.factors["timestamp"].unique().sort().tail(settings.bars)
    expected = score_table(model, sides.factors.sort(KEY), bars=bars.to_list()).select(*KEY, "score")
    spread = expected.group_by("timestamp").agg(pl.col("score").std().alias("spread"))
    expected = expected.join(spread, on="timestamp", maintain_order="left")
    live = _both(expected, score_live(model, sides.live), settings.tolerance)
    given = sides.answered.filter(
        pl.col("timestamp").is_in(bars.implode()) & (pl.col("endpoint") == OWN_ENDPOINT)
    )
    # Clients ask for the symbols that they want: what is lost here are rows that were answered and that the
    # present data no longer has.
    answered = _both(given.select(*KEY, "score"), expected, settings.tolerance)
    held = {"live": _held(live), "answered": _held(answered)}
    reason = _reason(held, settings)
    return ReplayReport(
        same=not reason,
        reason=reason or f"{len(live):,} rows of {len(bars)} bars have the same scores",
        version=version,
        bundle_sha256=model.sha256,
        tolerance=settings.tolerance,
        **held,
        bars=tuple(
            ReplayedBar(bar=moment, held=_held(rows))
            for (moment,), rows in live.partition_by("timestamp", as_dict=True, maintain_order=True).items()
        ),
    )


def score_live(model: Model, rows: pl.DataFrame) -> pl.DataFrame:
    """Scores of LIVE_ROWS, each bar by itself from packed values and windows, as the service does:
    `timestamp`, `symbol`, `score`.
    """
    parts = []
    for bar in rows.partition_by("timestamp", maintain_order=True):
        inputs, context = (_matrix(bar, names) for names in (model.columns, model.context))
        scores = model.score_bar(inputs, context, _windows(bar["window"], model))
        parts.append(bar.select(KEY).with_columns(pl.Series("score", scores.score)))
    return (
        pl.concat(parts) if parts else pl.DataFrame(schema={**rows.select(KEY).schema, "score": pl.Float64})
    )


def _matrix(rows: pl.DataFrame, names: Sequence[str]) -> np.ndarray:
    filled = [rows[name].fill_null(float("nan")).to_numpy() for name in names]
    return np.stack(filled, axis=1).astype(np.float32)


def _windows(packed: pl.Series, model: Model) -> np.ndarray | None:
    """Windows [B, L, F] of the model's length; None where it does not look back."""
    if not model.lookback_bars:
        return None
    whole = np.frombuffer(b"".join(packed), dtype="<f4").reshape(len(packed), -1, len(model.columns))
    if whole.shape[1] < model.lookback_bars:
        raise ReplayError(
            f"The model looks back {model.lookback_bars} bars, the online store holds {whole.shape[1]}. Set"
            f" feature_store.lookback_bars to {model.lookback_bars} or more."
        )
    return whole[:, -model.lookback_bars :].astype(np.float32)


def _both(wanted: pl.DataFrame, found: pl.DataFrame, tolerance: float) -> pl.DataFrame:
    """The rows of `wanted` with the `difference` from those of `found` as a share of the bar's spread, null
    where `found` has no such row or no score of it; `differs` where it is beyond the tolerance.
    """
    joined = wanted.join(found, on=KEY, how="left", suffix="_found", maintain_order="left")
    unknown = pl.col("score_found").is_null() | ~pl.col("score_found").is_finite()
    far = (pl.col("score") - pl.col("score_found")).abs()
    # A bar whose symbols all have one score has no spread: there, every difference counts.
    share = pl.when(far == 0).then(0.0).otherwise(far / pl.col("spread"))
    return joined.with_columns(pl.when(unknown).then(None).otherwise(share).alias("difference")).with_columns(
        (pl.col("difference") > tolerance).fill_null(value=False).alias("differs")
    )


def _held(rows: pl.DataFrame) -> Held:
    return Held(
        rows=len(rows),
        lost=rows["difference"].null_count(),
        differing=int(rows["differs"].sum()),
        largest=rows["difference"].max(),
    )


def _reason(held: dict[str, Held], settings: Settings) -> str:
    """Why the replay fails; empty where it does not."""
    said = []
    live, answered = held["live"], held["answered"]
    if live.rows == 0:
        said.append("no bar could be replayed")
    if live.lost > settings.lost_share * live.rows:
        said.append(
            f"{live.lost:,} of {live.rows:,} rows reach no live answer: they became known after the next bar,"
            " or have no score there"
        )
    if live.differing:
        said.append(
            f"{live.differing:,} of {live.rows:,} rows have another score on the live path, by up to"
            f" {live.largest:.3g} of the spread within their bar"
        )
    if answered.lost > settings.lost_share * answered.rows:
        said.append(
            f"{answered.lost:,} of {answered.rows:,} answers that were given are on rows that the data no"
            " longer has"
        )
    if answered.differing:
        said.append(
            f"{answered.differing:,} of {answered.rows:,} answers that were given had another score, by up"
            f" to {answered.largest:.3g} of the spread within their bar: the data of these bars has changed"
            " since"
        )
    return "; ".join(said)
