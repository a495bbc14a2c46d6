"""Whether labels fall into other classes than in training, by regime."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from components.contracts import REGIME_COLUMN, REGIMES
from components.contracts.documents.drift import LabelMove, LabelShift
from components.contracts.documents.drift_reference import LabelReference, RegimeReference, WindowLabels
from components.drift.config import Settings
from components.drift.windows import nearest_length, window_and_rest, window_lengths
from components.metrics import effective_rows

CLASSES = 3
# What labels can do: lean to one side, or spread out. A side is as likely in calm and wild markets, a spread
# is not, so each has a memory of its own.
Move = Literal["lean", "dispersion"]
MOVES: tuple[Move, ...] = ("lean", "dispersion")
FEWEST_ROWS = 100
FEWEST_BARS = 5


def labels_of(labels: pl.DataFrame | pl.LazyFrame, horizon: int, target: str) -> pl.DataFrame:
    """Columns `timestamp`, `symbol`, `label` of one horizon, known ones only; of a scan no more is read."""
    has_horizons = "horizon" in labels.collect_schema()
    rows = labels.lazy().filter(pl.col("horizon") == horizon) if has_horizons else labels.lazy()
    label = pl.col(target).cast(pl.Float64).alias("label")
    return rows.select("timestamp", "symbol", label).filter(pl.col("label").is_finite()).collect()


def describe_labels(rows: pl.DataFrame, labels: pl.DataFrame, wanted: int) -> LabelReference | None:
    """How the reference's labels fall into terciles of their own, by regime, and how far windows of it lie
    apart in that; None where there are too few labels.

    Parameters
    ----------
    rows : columns `timestamp`, `symbol`, `regime_state`
    labels : of `labels_of`
    wanted : length of the windows that drift will look at, in bars
    """
    joined = rows.select("timestamp", "symbol", REGIME_COLUMN).join(
        labels, on=["timestamp", "symbol"], how="inner", maintain_order="left"
    )
    if len(joined) < FEWEST_ROWS:
        return None
    cuts = np.quantile(joined["label"].to_numpy(), [1 / 3, 2 / 3])
    counts = _class_counts(joined, cuts)
    together = counts.sum(axis=0)
    # How labels depend over time is seen over all bars; the stretches of one regime are too few and short to
    # show it.
    rows_a_bar = together.sum(axis=1)
    pooled = {
        move: {
            str(length): effective_rows(_share_of(move, together) * rows_a_bar[:, None], rows_a_bar, length)
            for length in window_lengths(len(together), wanted)
        }
        for move in MOVES
    }
    return LabelReference(
        cuts=tuple(cuts.tolist()),
        effective_rows=pooled,
        window_bars=min(wanted, len(together)),
        regimes={
            name: _describe_regime(counts[number], wanted)
            for number, name in enumerate(REGIMES)
            if counts[number].sum() >= FEWEST_ROWS
        },
    )


def _describe_regime(own: np.ndarray, wanted: int) -> RegimeReference:
    """From rows by bar and class (T, 3)."""
    filled = own.sum(axis=1) > 0
    return RegimeReference(
        shares=tuple((own.sum(axis=0) / own.sum()).tolist()),
        rows=int(own.sum()),
        bars=int(filled.sum()),
        by_window={
            str(length): _usual_moves(own, filled, length) for length in window_lengths(len(own), wanted)
        },
    )


def _usual_moves(own: np.ndarray, filled: np.ndarray, length: int) -> WindowLabels:
    """How far windows of `length` bars lie from the rest, among those with enough rows and bars."""
    inside, rest = window_and_rest(np.concatenate([own, filled[:, None]], axis=1), length)
    enough = (
        (inside[:, :CLASSES].sum(axis=1) >= FEWEST_ROWS)
        & (inside[:, CLASSES] >= FEWEST_BARS)
        & (rest[:, :CLASSES].sum(axis=1) >= FEWEST_ROWS)
    )

    def most(move: Move) -> float | None:
        within, without = (_share_of(move, side[enough, :CLASSES]) for side in (inside, rest))
        moved = np.abs(within - without)[:, 0]
        return float(moved.max()) if len(moved) else None

    return WindowLabels(windows=int(enough.sum()), **{move: most(move) for move in MOVES})


def label_shift(
    reference: LabelReference | None,
    rows: pl.DataFrame,
    labels: pl.DataFrame | None,
    settings: Settings,
    horizon: int,
) -> LabelShift | None:
    """Share of labels that changed class, in the regime where it is largest and in each; None where nothing
    is known.

    Labels change class by leaning to one side (half the change of high minus low) or by spreading out (the
    change of the middle). A move counts where chance is ruled out and windows of the reference never differed
    so much. The test is a t test with effective rows, corrected for regimes and moves. How far labels spread
    is as slow as volatility, so training shows it in few independent windows: 1.5 degrees of freedom for
    each. Which way they lean is as slow as their overlap.
    """
    if reference is None or labels is None or REGIME_COLUMN not in rows.columns:
        return None
    joined = rows.select("timestamp", "symbol", REGIME_COLUMN).join(
        labels, on=["timestamp", "symbol"], how="inner"
    )
    if joined.is_empty():
        return None
    counts = _class_counts(joined, np.array(reference.cuts))
    bars = joined["timestamp"].n_unique()
    compared = [
        _Compared(counts[number], reference.regimes[name], name, bars)
        for number, name in enumerate(REGIMES)
        if name in reference.regimes and _enough(counts[number])
    ]
    found = [(one, move, _chance(one, move, reference, horizon)) for one in compared for move in MOVES]
    moves = tuple(_judge_move(one, move, p_value, len(found), settings) for one, move, p_value in found)
    if not moves:
        return None
    worst = max(moves, key=lambda row: (row.moved, row.share))
    return LabelShift(
        largest=worst.share,
        regime=worst.regime,
        move=worst.move,
        usual=worst.usual,
        p_adjusted=worst.p_adjusted,
        labels=len(joined),
        by_regime=moves,
    )


@dataclass(frozen=True)
class _Compared:
    """Labels of one regime now, rows by bar and class (T, 3), beside the reference's; `bars` are those of all
    regimes.
    """

    own: np.ndarray
    usual: RegimeReference
    regime: str
    bars: int

    @property
    def filled(self) -> int:
        """Bars of the regime."""
        return int((self.own.sum(axis=1) > 0).sum())

    @property
    def shares(self) -> np.ndarray:
        """Of low, middle and high labels, (3,)."""
        return self.own.sum(axis=0) / self.own.sum()

    def share(self, move: Move) -> tuple[float, float]:
        """The share that a move shifts, now and in the reference."""
        now, was = (
            float(_share_of(move, values)[0]) for values in (self.shares, np.array(self.usual.shares))
        )
        return now, was


def _enough(own: np.ndarray) -> bool:
    return own.sum() >= FEWEST_ROWS and (own.sum(axis=1) > 0).sum() >= FEWEST_BARS


def _chance(one: _Compared, move: Move, reference: LabelReference, horizon: int) -> float:
    """Chance of so large a move if nothing had changed."""
    from scipy.stats import f

    share, was = one.share(move)
    then, now = (_effective(reference.effective_rows[move], count) for count in (one.usual.bars, one.filled))
    now = min(now, float(one.own.sum()))
    statistic = then * now / (then + now) * (share - was) ** 2 / max(was * (1 - was), 1e-3)
    stretch = 2 * horizon + 1 if move == "lean" else reference.window_bars
    return float(f.sf(statistic, 1, max(1.5 * one.usual.bars / stretch, 1.0)))


def _judge_move(one: _Compared, move: Move, p_value: float, tests: int, settings: Settings) -> LabelMove:
    """One move of one regime; `tests` are all that were looked at together."""
    now, was = one.share(move)
    share, adjusted = abs(now - was), min(p_value * tests, 1.0)
    length = nearest_length(list(one.usual.by_window), one.bars)
    usual = getattr(one.usual.by_window[length], move) if length else None
    beyond = share > settings.label_shift and share > (usual or 0.0)
    return LabelMove(
        regime=one.regime,
        move=move,
        share=share,
        usual=usual,
        p=p_value,
        shares=tuple(one.shares.tolist()),
        reference_shares=one.usual.shares,
        rows=int(one.own.sum()),
        bars=one.filled,
        p_adjusted=adjusted,
        moved=beyond and adjusted < settings.ks_p,
    )


def _class_counts(joined: pl.DataFrame, cuts: np.ndarray) -> np.ndarray:
    """Rows by regime, bar and class; shape (4, T, 3). Rows of an unknown regime do not count."""
    bars = joined["timestamp"].rank("dense").to_numpy().astype(np.int64) - 1
    total = int(bars.max(initial=-1)) + 1
    regime = joined[REGIME_COLUMN].cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = np.isfinite(regime) & (regime >= 0) & (regime < len(REGIMES))
    classes = np.searchsorted(cuts, joined["label"].to_numpy(), side="left")
    cell = (np.where(known, regime, 0).astype(np.int64) * total + bars) * CLASSES + classes
    return np.bincount(cell[known], minlength=len(REGIMES) * total * CLASSES).reshape(
        len(REGIMES), total, CLASSES
    )


def _effective(by_length: Mapping[str, float], bars: int) -> float:
    """Effective rows of so many bars, by the worst of the windows that are at least as long: current bars lie
    beyond the reference, so what is slow counts too.
    """
    shortest = nearest_length(list(by_length), bars)
    longer = [rows / int(length) for length, rows in by_length.items() if int(length) >= int(shortest or 0)]
    return max(min(longer, default=0.0) * bars, 1.0)


def _share_of(move: str, classes: np.ndarray) -> np.ndarray:
    """From counts or shares (..., 3) of low, middle, high to the share (..., 1) that a move shifts: 0.5 is no
    lean, a third in the middle no dispersion.
    """
    total = np.maximum(classes.sum(axis=-1, keepdims=True), 1e-12)
    low, middle, high = (classes[..., [number]] / total for number in range(CLASSES))
    return (1 + high - low) / 2 if move == "lean" else middle
