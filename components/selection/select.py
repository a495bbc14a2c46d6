"""Chooses the inputs of every fold on that fold's training bars alone, and gathers the evidence
for people.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import CatalogEntry, ChosenInputs, content_sha256
from components.progress import advance
from components.selection.choose import FoldChoice, choose_for_fold
from components.selection.config import Settings
from components.selection.eras import Evidence, evidence_of
from components.selection.errors import SelectionError
from components.selection.evidence import EVIDENCE
from components.selection.grid import Pair, era_length, era_length_of_splits, lies_in, pairs_of
from components.selection.overview import Overview, overview_of
from components.selection.purpose import Purpose
from components.selection.rolling import daily_rank_ic, rolling
from components.selection.rows import always_seen
from components.selection.walk import Walk, walk_through
from components.timeline import Fold
from components.timeline import Settings as TimelineSettings

STAGE = "selection"
# Half-lives tried for the weights of the rolling IC, besides equal weights.
HALF_LIVES_BARS = (63, 126, 252)


@dataclass(frozen=True)
class Selection:
    """What came out: inputs by fold, EVIDENCE rows of all folds, and the overview."""

    chosen: ChosenInputs
    evidence: pl.DataFrame
    overview: Overview


def select_inputs(
    training_set: pl.DataFrame,
    labels: pl.DataFrame,
    catalog: Sequence[CatalogEntry],
    purpose: Purpose,
    *,
    settings: Settings,
    timeline: TimelineSettings,
    training_set_sha256: str | None = None,
) -> Selection:
    """Choose inputs for every fold of the walk-forward, and for every split of a cross-validation.

    Each fold is decided on its `train` bars, with labels known before its early-stopping bars begin; those
    stay out, because bands and stopping are judged on them.

    Parameters
    ----------
    training_set : TRAINING_SET frame; its distinct timestamps are the calendar
    labels : LABELS frame
    training_set_sha256 : content hash of the training set where the caller knows it

    Raises
    ------
    ContractError, TimelineError
        If tables and timeline do not fit together, or a training label became known too late.
    SelectionError
        If symbols, bars or inputs are too few to choose from, or selection is off.
    """
    if settings.mode == "off":
        raise SelectionError("selection.mode is off, so there is nothing to choose. Set it to quick or full.")
    from components.selection.kernels import use_threads

    use_threads(settings.threads)
    walk = walk_through(training_set, labels, catalog, purpose, settings, timeline)
    pairs = pairs_of(walk.folds, era_length(walk.folds, settings, purpose.horizon, walk.gap_bars))
    further = _pairs_of_splits(walk)
    steps = _Steps(len(pairs) + len(further), len(walk.folds) + len(walk.splits))
    steps.tell(0, "rank correlations of every bar")
    daily = daily_rank_ic(walk.rows)
    looked_at = _look_at_eras(walk, [*pairs, *further], daily, steps)
    found, of_splits = looked_at[: len(pairs)], looked_at[len(pairs) :]
    choices = _choose_in_folds(walk, walk.folds, daily, found, steps)
    in_splits = _choose_in_folds(walk, walk.splits, daily, of_splits, steps, done=len(walk.folds))
    steps.tell(steps.all - 1, "forward comparison and adversarial validation")
    evidence = pl.concat(choice.evidence for choice in choices).sort("fold", "factor")
    chosen = {fold.name: choice.inputs for fold, choice in zip(walk.folds, choices, strict=True)}
    # People look at the walk-forward: splits are no part of evidence and overview.
    every = chosen | {one.name: choice.inputs for one, choice in zip(walk.splits, in_splits, strict=True)}
    overview = overview_of(walk, chosen, evidence, daily, found, always_seen(training_set))
    steps.tell(steps.all, "done")
    sha256 = training_set_sha256 or content_sha256(training_set)
    return Selection(ChosenInputs(sha256, every), evidence.select(*EVIDENCE.columns), overview)


@dataclass(frozen=True)
class _Steps:
    """Progress on the terminal: each pair of eras is a step, then each fold, then what is shown to people."""

    pairs: int
    folds: int

    @property
    def all(self) -> int:
        return self.pairs + self.folds + 2

    def tell(self, done: int, what: str) -> None:
        advance(STAGE, done, self.all, what)


def _pairs_of_splits(walk: Walk) -> list[Pair]:
    """Pairs of eras for the splits of a cross-validation, on a grid of their own."""
    if not walk.splits:
        return []
    era = era_length_of_splits(walk.splits, walk.settings, walk.purpose.horizon, walk.gap_bars)
    return pairs_of(walk.splits, era)


def _look_at_eras(walk: Walk, pairs: Sequence[Pair], daily_ic: np.ndarray, steps: _Steps) -> list[Evidence]:
    """The evidence of each pair of eras."""
    calendar, found = walk.rows.calendar, []
    for number, pair in enumerate(pairs):
        era = f"{calendar[pair.first]:%Y-%m}..{calendar[pair.end - 1]:%Y-%m}"

        def said(what: str, era: str = era, number: int = number) -> None:
            steps.tell(number + 1, f"era {era}: {what}")

        found.append(evidence_of(walk, daily_ic, pair, advance=said))
    return found


def _choose_in_folds(
    walk: Walk,
    folds: Sequence[Fold],
    daily: np.ndarray,
    found: Sequence[Evidence],
    steps: _Steps,
    done: int = 0,
) -> list[FoldChoice]:
    """The choice of each fold from the eras in its training bars, after `done` other ones.

    `daily` is the RankIC of each bar and input, shape (T, F).
    """
    rows, settings, choices = walk.rows, walk.settings, []
    for number, fold in enumerate(folds, start=done):
        steps.tell(steps.pairs + 1 + number, fold.name)
        inside = [evidence for evidence in found if lies_in(evidence.pair, fold)]
        measured = rolling(daily[fold.train], HALF_LIVES_BARS, horizon=walk.purpose.horizon)
        choice = choose_for_fold(rows, fold.name, fold.train, inside, measured, settings)
        if not choice.inputs:
            raise SelectionError(
                f"{fold.name}: none of the {len(rows.names)} inputs varies and holds values in its training"
                f" bars ({rows.calendar[int(fold.train[0])]:%Y-%m-%d} to"
                f" {rows.calendar[int(fold.train[-1])]:%Y-%m-%d})."
                " Check the features' warm-up, lengthen timeline.train, or lower"
                " selection.filter.least_coverage."
            )
        choices.append(choice)
    return choices
