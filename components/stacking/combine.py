"""Combiners compared and applied walk-forward.

A combiner that predicts a fold learned only from rows whose label was known before that fold began. Which
combiner is used is decided on the validation rows whose label was known before the test window.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from components.contracts import ALL_PREDICTIONS, check_table
from components.contracts.documents.comparison import Comparison
from components.scoring.stacker import USUAL_NAME
from components.stacking.calibrate import USUAL_QUANTILE, LabelKind, fit_head, predict_block
from components.stacking.combiners import BEST, EQUAL, PERFORMANCE, fit_combiner, rank_ic
from components.stacking.config import Settings
from components.stacking.inputs import combiner_inputs, informative
from components.stacking.served_form import served_files
from components.timeline import Windows

STACK = "stack"


@dataclass(frozen=True)
class Stacked:
    """Result of `stack_experts`.

    `predictions`: ALL_PREDICTIONS with the experts, every combiner and the chosen one as `stack`.
    `comparison`: validation and choice. `model`: what serving needs, files by name; `stacker.json`
    names the experts that must be served, in the order in which the combiner sees them.
    """

    predictions: pl.DataFrame
    comparison: Comparison
    model: dict[str, str | bytes]


@dataclass(frozen=True)
class Walk:
    """The blocks of bars that are predicted one after the other, as positions [start, end) in the calendar.

    `embargo_bars` are left out before each block, beyond the rule that a label must be known.
    """

    blocks: list[tuple[int, int]]
    calendar: pl.Series
    embargo_bars: int

    def known_before(self, table: pl.DataFrame, start: int) -> pl.DataFrame:
        """The rows whose label was known before the bar at `start`, less the embargo."""
        return table.filter(pl.col("label_end") < self.calendar[max(start - self.embargo_bars, 0)])


def stack_experts(
    oof: pl.DataFrame,
    predictions: pl.DataFrame,
    settings: Settings,
    windows: Windows,
    calendar: pl.Series,
    *,
    embargo_bars: int,
    seed: int,
) -> Stacked:
    """Compare the combiners on the validation window, choose one, and apply all of them through the test
    window.

    Parameters
    ----------
    oof : OOF frame
    predictions : ALL_PREDICTIONS frame of the same experts
    windows, calendar : the four windows as bar positions, and the sorted distinct timestamps they count in
    embargo_bars : bars left out before a predicted fold, beyond the rule that a label must be known
    """
    experts = [name.removeprefix("score_") for name in oof.columns if name.startswith("score_")]
    table = combiner_inputs(oof, experts)
    walk = Walk(_blocks(oof, windows, calendar), calendar, embargo_bars)
    useful = informative(experts, oof.filter(pl.col("timestamp") < calendar[windows.test[0]]))
    kind = LabelKind.of(oof)
    scored = _walked(table, walk, useful, settings, seed, kind)
    judged = walk.known_before(oof, windows.test[0])
    validation = {name: rank_ic(frame, judged) for name, frame in scored.items()}
    chosen, reason = choose(validation, settings)
    known = table.filter(pl.col("label").is_not_null())
    final = fit_combiner(chosen, known, useful, settings, seed)
    head = fit_head(chosen, final, known, useful, settings, seed, kind)
    comparison = Comparison(
        chosen=chosen,
        reason=reason,
        validation_rank_ic=validation,
        validation_start=str(calendar[walk.blocks[0][0]]),
        validation_end=str(calendar[windows.validation[1] - 1]),
        experts=useful,
        weights=final.weights,
    )
    return Stacked(
        _all_predictions(_with_usual(predictions, walk), oof, scored, chosen),
        comparison,
        served_files(chosen, final, useful, head),
    )


def choose(validation: dict[str, float], settings: Settings) -> tuple[str, str]:
    """The combiner to use and why, from validation RankICs: the best fitted combiner if it beats equal
    weights by `min_gain`, else performance weights if they do, else equal weights."""
    base = _or_low(validation[EQUAL])
    fitted = {name: _or_low(validation[name]) for name in settings.combiners}
    best = max(fitted, key=fitted.get, default=None)
    if best is not None and fitted[best] > base + settings.min_gain:
        return best, f"validation RankIC {fitted[best]:.4f} against {base:.4f} with equal weights"
    if _or_low(validation[PERFORMANCE]) > base + settings.min_gain:
        return (
            PERFORMANCE,
            (
                f"no fitted combiner beats equal weights on validation (RankIC {base:.4f}); performance"
                f" weights do ({validation[PERFORMANCE]:.4f})"
            ),
        )
    return EQUAL, f"nothing beats equal weights on validation (RankIC {base:.4f})"


def _walked(
    table: pl.DataFrame,
    walk: Walk,
    experts: list[str],
    settings: Settings,
    seed: int,
    kind: LabelKind,
) -> dict[str, pl.DataFrame]:
    """Each combiner's predictions of all blocks, each block by what was known before it."""
    methods = [EQUAL, PERFORMANCE, BEST, *settings.combiners]
    columns: dict[str, list[pl.DataFrame]] = {name: [] for name in methods}
    for start, end in walk.blocks:
        inside = pl.col("timestamp").is_between(walk.calendar[start], walk.calendar[end - 1])
        block = table.filter(inside)
        known = walk.known_before(table, start).filter(pl.col("label").is_not_null())
        for name in methods:
            combiner = fit_combiner(name, known, experts, settings, seed)
            head = fit_head(name, combiner, known, experts, settings, seed, kind)
            columns[name].append(predict_block(combiner, block, known, head))
    return {name: pl.concat(parts) for name, parts in columns.items()}


def _blocks(oof: pl.DataFrame, windows: Windows, calendar: pl.Series) -> list[tuple[int, int]]:
    """Blocks to predict: the folds of the table, except that a first validation fold is cut in halves, the
    earlier only learned from.
    """
    starts = calendar.search_sorted(
        oof.group_by("fold").agg(pl.col("timestamp").min()).sort("timestamp")["timestamp"]
    ).to_list()
    edges = sorted({*starts, windows.test[1]})
    blocks = list(pairwise(edges))
    validation = [block for block in blocks if block[0] < windows.test[0]]
    if len(validation) == 1:
        start, end = validation[0]
        return [((start + end) // 2, end), *blocks[1:]]
    return blocks[1:]


def _with_usual(predictions: pl.DataFrame, walk: Walk) -> pl.DataFrame:
    """The experts' predictions with `usual_uncertainty`: of each expert's own uncertainties before the block;
    null in the first bars, and where it gave none.
    """
    starts = [walk.calendar[start] for start, _ in walk.blocks]
    given = predictions.filter(pl.col("uncertainty") > 0)
    usual = [
        given.filter(pl.col("timestamp") < start)
        .group_by("expert")
        .agg(pl.col("uncertainty").quantile(USUAL_QUANTILE, "linear").alias(USUAL_NAME))
        .with_columns(pl.lit(start, dtype=predictions.schema["timestamp"]).alias("timestamp"))
        for start in starts
    ]
    return predictions.sort("timestamp").join_asof(
        pl.concat(usual).sort("timestamp"), on="timestamp", by="expert", check_sortedness=False
    )


def _all_predictions(
    predictions: pl.DataFrame, oof: pl.DataFrame, scored: dict[str, pl.DataFrame], chosen: str
) -> pl.DataFrame:
    """ALL_PREDICTIONS of the experts, of every combiner, and of the chosen one as `stack`."""
    names = {public_name(name): frame for name, frame in scored.items()} | {STACK: scored[chosen]}
    combined = [_as_predictions(frame, oof, name) for name, frame in names.items()]
    everything = pl.concat([predictions.select(combined[0].columns), *combined])
    return check_table(everything.sort(ALL_PREDICTIONS.key), ALL_PREDICTIONS)


def _as_predictions(frame: pl.DataFrame, oof: pl.DataFrame, name: str) -> pl.DataFrame:
    about = oof.select("timestamp", "symbol", "period", "horizon", "target", "fold")
    return (
        about.join(frame, on=("timestamp", "symbol"), how="inner")
        .with_columns(expert=pl.lit(name))
        .select(
            *ALL_PREDICTIONS.columns, *(name for name in ALL_PREDICTIONS.optional if name in frame.columns)
        )
    )


def _or_low(value: float) -> float:
    return value if np.isfinite(value) else -1.0


def public_name(method: str) -> str:
    """What a combiner is called among the predictions."""
    return method if method in (EQUAL, BEST, PERFORMANCE) else f"z_{method}"
