"""Combiners compared and applied walk-forward.

A combiner that predicts a fold learned only from rows whose label was known before that fold began. Which
combiner is used is decided on the validation rows whose label was known before the test window: `choice.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise, starmap

import polars as pl

from components.contracts import ALL_PREDICTIONS, OutputError, check_table, mapped_parts, mapped_rows
from components.contracts.documents.comparison import Candidate, Comparison
from components.metrics import class_figures
from components.progress import warn
from components.scoring.stacker import USUAL_NAME, Head
from components.stacking.calibrate import USUAL_QUANTILE, LabelKind, fit_head, predict_block
from components.stacking.choice import PurgedFold, choose, compare, cross_validated, purged_folds
from components.stacking.combiners import BEST, EQUAL, PERFORMANCE, Combiner, fit_combiner
from components.stacking.config import Settings
from components.stacking.guests import fit_widths, in_unit, relations, taking_part
from components.stacking.inputs import by_sector, combiner_inputs, informative
from components.stacking.served_form import served_files
from components.timeline import Windows

STACK = "stack"
# Of the experts' predictions, of which bars are put together with those of all combiners.
ROWS_AT_ONCE = 100_000


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
        return mapped_rows(table, pl.col("label_end") < self.calendar[max(start - self.embargo_bars, 0)])


@dataclass(frozen=True)
class Material:
    """What every combiner gets: the blocks to predict, each with the rows known before it; the purged folds
    that choose; all rows with a known label, which the served one learns from; and what the labels are.
    """

    blocks: list[tuple[pl.DataFrame, pl.DataFrame]]
    folds: list[PurgedFold]
    known: pl.DataFrame
    kind: LabelKind


@dataclass(frozen=True)
class Tried:
    """A combiner's predictions of all blocks, its RankIC at each bar of the purged folds, and the combiner
    and head to serve.
    """

    predictions: pl.DataFrame
    daily: pl.DataFrame
    final: Combiner
    head: Head


def stack_experts(
    oof: pl.DataFrame,
    predictions: pl.DataFrame,
    settings: Settings,
    windows: Windows,
    calendar: pl.Series,
    *,
    embargo_bars: int,
    seed: int,
    guests: Sequence[str] = (),
) -> Stacked:
    """Compare the combiners on the validation window, choose one, and apply all of them through the test
    window.

    Parameters
    ----------
    oof : OOF frame of one task
    predictions : ALL_PREDICTIONS frame of the same task
    windows, calendar : the four windows as bar positions, and the sorted distinct timestamps they count in
    embargo_bars : bars left out before a predicted fold, beyond the rule that a label must be known
    guests : experts that learned another task; they take part where they order symbols by this one's label,
        on rows known before the test window
    """
    experts = [name.removeprefix("score_") for name in oof.columns if name.startswith("score_")]
    table = combiner_inputs(oof, experts, guests)
    walk = Walk(_blocks(oof, windows, calendar), calendar, embargo_bars)
    useful = informative(experts, oof.filter(pl.col("timestamp") < calendar[windows.test[0]]))
    kind = LabelKind.of(oof)
    known = mapped_rows(table, pl.col("label").is_not_null())
    judged = walk.known_before(known, windows.test[0])
    related = relations(guests, judged, kind.horizon)
    useful = taking_part(useful, experts, related)
    present = [name for name in useful if name in related]
    material = _in_one_unit(
        Material(_to_predict(table, known, walk), purged_folds(judged, calendar, embargo_bars), known, kind),
        present,
    )
    tried, left_out = _all_tried(material, useful, settings, seed)
    candidates = compare({name: one.daily for name, one in tried.items()}, kind.horizon, seed)
    chosen, reason = choose(candidates, settings.level, kind.horizon)
    used = tried[chosen]
    scored = {name: one.predictions for name, one in tried.items()}
    comparison = Comparison(
        chosen=chosen,
        reason=reason,
        level=settings.level,
        candidates=[_with_figures(one, scored[one.name], judged) for one in candidates],
        left_out=left_out,
        validation_start=str(judged["timestamp"].min()),
        validation_end=str(judged["timestamp"].max()),
        experts=useful,
        weights=used.final.weights,
        guests=related,
    )
    return Stacked(
        _all_predictions(_with_usual(predictions, walk), oof, scored, chosen),
        comparison,
        served_files(
            chosen, used.final, useful, used.head, fit_widths(present, known), by_sector=by_sector(oof)
        ),
    )


def _in_one_unit(material: Material, guests: list[str]) -> Material:
    """The material with the guests' uncertainties in the label's unit, by what is known for each block. The
    folds stay as they are: what chooses between combiners asks for no width.
    """
    if not guests:
        return material

    blocks = []
    for block, known in material.blocks:
        widths = fit_widths(guests, known)
        blocks.append((in_unit(block, widths), in_unit(known, widths)))
    widths = fit_widths(guests, material.known)
    return replace(material, blocks=blocks, known=in_unit(material.known, widths))


def _all_tried(
    material: Material, experts: list[str], settings: Settings, seed: int
) -> tuple[dict[str, Tried], dict[str, str]]:
    """Each combiner by name, and why one could not be fitted: the run goes on without it."""
    tried, left_out = {}, {}
    for name in (EQUAL, PERFORMANCE, BEST):
        tried[name] = _tried(name, material, experts, settings, seed)
    for name in settings.combiners:
        try:
            tried[name] = _tried(name, material, experts, settings, seed)
        except (OutputError, MemoryError):  # another choice would hide that the disk is full
            raise
        except Exception as error:
            left_out[name] = f"{type(error).__name__}: {error}"
            warn("stack", f"combiner {name} is left out, it could not be fitted: {left_out[name]}")
    return tried, left_out


def _tried(name: str, material: Material, experts: list[str], settings: Settings, seed: int) -> Tried:
    def predicted(block: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        combiner = fit_combiner(name, known, experts, settings, seed)
        head = fit_head(name, combiner, known, experts, settings, seed, material.kind)
        return predict_block(combiner, block, known, head)

    parts = mapped_parts(starmap(predicted, material.blocks))
    final = fit_combiner(name, material.known, experts, settings, seed)
    return Tried(
        parts,
        cross_validated(name, material.folds, experts, settings, seed),
        final,
        fit_head(name, final, material.known, experts, settings, seed, material.kind),
    )


def _to_predict(
    table: pl.DataFrame, known: pl.DataFrame, walk: Walk
) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Each block's rows, and the labelled rows known before it."""
    return [
        (
            mapped_rows(table, pl.col("timestamp").is_between(walk.calendar[start], walk.calendar[end - 1])),
            walk.known_before(known, start),
        )
        for start, end in walk.blocks
    ]


def _with_figures(candidate: Candidate, predictions: pl.DataFrame, judged: pl.DataFrame) -> Candidate:
    """The candidate with what its scores are worth where the label was known in time: root mean square error;
    for classes the average precision and the calibration error of a rise.
    """
    both = predictions.join(judged.select("timestamp", "symbol", "label"), on=("timestamp", "symbol"))
    if "p_up" not in both.columns or both.is_empty():
        error = both.select(((pl.col("score") - pl.col("label")) ** 2).mean().sqrt()).item()
        return candidate.model_copy(update={"rmse": error})
    rise = class_figures(both.select(pl.col("p_up").alias("chance"), happened=pl.col("label") > 0)).row(
        0, named=True
    )
    return candidate.model_copy(
        update={"pr_auc": rise["average_precision"], "ece": rise["calibration_error"]}
    )


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

    def between(first: datetime, last: datetime) -> pl.DataFrame:
        inside = pl.col("timestamp").is_between(first, last)
        about = oof.filter(inside)
        combined = [_as_predictions(frame.filter(inside), about, name) for name, frame in names.items()]
        everything = pl.concat([predictions.filter(inside).select(combined[0].columns), *combined])
        return everything.sort(ALL_PREDICTIONS.key)

    # They are many times what went in: some bars at a time are put together.
    bars = predictions["timestamp"].unique().sort()
    some = max(1, len(bars) * ROWS_AT_ONCE // max(1, len(predictions)))
    spans = [bars[first : first + some] for first in range(0, len(bars), some)]
    together = mapped_parts(between(span[0], span[-1]) for span in spans)
    return check_table(together, ALL_PREDICTIONS)


def _as_predictions(frame: pl.DataFrame, oof: pl.DataFrame, name: str) -> pl.DataFrame:
    about = oof.select("timestamp", "symbol", "period", "horizon", "target", "fold")
    return (
        about.join(frame, on=("timestamp", "symbol"), how="inner")
        .with_columns(expert=pl.lit(name))
        .select(
            *ALL_PREDICTIONS.columns, *(name for name in ALL_PREDICTIONS.optional if name in frame.columns)
        )
    )


def public_name(method: str) -> str:
    """What a combiner is called among the predictions."""
    return method if method in (EQUAL, BEST, PERFORMANCE) else f"z_{method}"
