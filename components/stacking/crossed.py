"""The stack under cross-validation: what combiners make of the experts' predictions on each backtest path.

A combiner that is judged on a group of bars may know none of its labels, not even by way of an expert. So of
each other group it learns from the predictions of a split that tests both: experts there learned from
neither. Where one group is tested at a time there are no such predictions: nothing is fitted, and equal
weights stand alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import CROSS_VALIDATED, ContractError
from components.progress import advance, warn
from components.stacking.calibrate import fit_head, predict_block
from components.stacking.choice import PurgedFold, choose, compare, cross_validated, purged_folds
from components.stacking.combine import STACK, public_name
from components.stacking.combiners import BEST, EQUAL, PERFORMANCE, fit_combiner
from components.stacking.config import Settings
from components.stacking.guests import fit_widths, in_unit, relations, taking_part
from components.stacking.inputs import combiner_inputs, informative
from components.stacking.oof import build_oof_table
from components.timeline import CrossValidation

STAGE = "stack of the cross-validation"


@dataclass(frozen=True)
class Crossing:
    """The splits, the sorted distinct timestamps that they count in, and the bars of purge and embargo."""

    splits: CrossValidation
    calendar: pl.Series
    purge_bars: int
    embargo_bars: int

    def apart_from(self, group: int) -> pl.Expr:
        """Rows whose label spans no bar of the group's labels, less the embargo after it."""
        start, end = self.splits.groups[group]
        begins, later = self.calendar[start], end + self.purge_bars + self.embargo_bars
        before = (pl.col("timestamp") < begins) & (pl.col("label_end") < begins)
        if later >= len(self.calendar):
            return before
        return before | (pl.col("timestamp") >= self.calendar[later])

    def split_of_both(self, group: int, other: int) -> int | None:
        """The first split that tests both groups; None where none does."""
        found = np.flatnonzero((self.splits.path_of[:, [group, other]] >= 0).all(axis=1))
        return int(found[0]) if len(found) else None


def stack_splits(
    experts: Mapping[str, pl.DataFrame],
    labels: pl.DataFrame,
    training_set: pl.DataFrame,
    crossing: Crossing,
    settings: Settings,
    *,
    seed: int,
    guests: Sequence[str] = (),
) -> pl.DataFrame:
    """CROSS_VALIDATED predictions of the experts, of every combiner, and of the one that is chosen for each
    group, by the rule of the run's stack, on what is learned from there. A combiner that can't be fitted for
    one of the groups is left out.

    Parameters
    ----------
    experts : CROSS_VALIDATED frames by name, each of one task; the first one's is stacked
    labels, training_set : LABELS and TRAINING_SET frames
    guests : experts that learned another task: they take part in a group's stack where they order symbols by
        the label on what is known there, and have no rows of their own in the result

    Raises
    ------
    ContractError
        If an expert was trained in other splits.
    """
    for name, frame in experts.items():
        _require_these_splits(name, frame, crossing.splits)
    tables, useful = _tables(experts, labels, training_set, crossing, guests)
    first = next(iter(experts.values()))
    task = first.select("period", "horizon", "target").row(0, named=True)
    combined, failed = [], set()
    for group in range(len(crossing.splits.groups)):
        advance(STAGE, group, len(crossing.splits.groups), f"group {group + 1}")
        known = known_of(group, tables, crossing)
        members = taking_part(useful, list(experts), relations(guests, known, task["horizon"]))
        widths = fit_widths([name for name in members if name in guests], known)
        known = in_unit(known, widths)
        folds = purged_folds(known, crossing.calendar, crossing.embargo_bars) if len(known) else []
        given = [in_unit(table, widths) for table in tables]
        tried = _tried(group, known, folds, given, members, crossing, settings, seed)
        failed |= {public_name(name) for name in settings.combiners if len(known) and name not in tried}
        if len(known):
            daily = {name: one.daily for name, one in tried.items()}
            chosen, _ = choose(compare(daily, task["horizon"], seed), settings.level, task["horizon"])
            combined.append(tried[chosen].predicted.with_columns(expert=pl.lit(STACK)))
        combined += (one.predicted for one in tried.values())
    about = (pl.lit(value, CROSS_VALIDATED.columns[name]).alias(name) for name, value in task.items())
    stacked = pl.concat(combined).filter(~pl.col("expert").is_in(failed))
    stacked = stacked.with_columns(about).select(*CROSS_VALIDATED.columns)
    own = [frame for name, frame in experts.items() if name not in guests]
    return pl.concat([*own, stacked]).sort(CROSS_VALIDATED.key)


def _require_these_splits(name: str, frame: pl.DataFrame, splits: CrossValidation) -> None:
    """Refuse an expert whose splits, groups and paths are not those of the timeline."""
    tested = np.argwhere(splits.path_of >= 0)
    wanted = [(int(split), int(group), int(splits.path_of[split, group])) for split, group in tested]
    found = sorted(frame.select("split", "group", "path").unique().rows())
    if found != wanted:
        raise ContractError(
            f"Expert {name} was cross-validated in {len(found)} pairs of split and group, the timeline has"
            f" {len(wanted)} (timeline.groups, timeline.test_groups), or in others: train it again."
        )


def _tables(
    experts: Mapping[str, pl.DataFrame],
    labels: pl.DataFrame,
    training_set: pl.DataFrame,
    crossing: Crossing,
    guests: Sequence[str],
) -> tuple[list[pl.DataFrame], list[str]]:
    """What combiners see of each split's predictions, with `split` and `group`; and the experts that order
    the symbols of a bar in any split.
    """
    tables, useful = [], set()
    for number, fold in enumerate(crossing.splits.folds):
        own = {
            name: frame.filter(pl.col("split") == number).with_columns(fold=pl.lit(fold.name))
            for name, frame in experts.items()
        }
        oof = build_oof_table(own, labels, training_set)
        useful |= set(informative(list(experts), oof))
        groups = crossing.splits.group_of(crossing.calendar.search_sorted(oof["timestamp"]).to_numpy())
        table = combiner_inputs(oof, list(experts), guests)
        tables.append(
            table.with_columns(pl.Series("group", groups, pl.Int32), split=pl.lit(number, pl.Int32))
        )
    return tables, [name for name in experts if name in useful]


@dataclass(frozen=True)
class Tried:
    """A combiner's predictions of a group, and its RankIC at each bar that chooses between combiners."""

    predicted: pl.DataFrame
    daily: pl.DataFrame


def _tried(
    group: int,
    known: pl.DataFrame,
    folds: list[PurgedFold],
    tables: list[pl.DataFrame],
    experts: list[str],
    crossing: Crossing,
    settings: Settings,
    seed: int,
) -> dict[str, Tried]:
    """What each combiner predicts of a group, in every split that tests it; without those that can't be
    fitted.
    """
    testing = np.flatnonzero(crossing.splits.path_of[:, group] >= 0)
    block = pl.concat(tables[split].filter(pl.col("group") == group) for split in testing)
    paths = crossing.splits.path_of[block["split"].to_numpy(), group]
    place = [block["group"], block["split"], pl.Series("path", paths, pl.Int32)]
    found = {}
    for name in (EQUAL, BEST, PERFORMANCE, *settings.combiners) if len(known) else (EQUAL,):
        try:
            combiner = fit_combiner(name, known, experts, settings, seed)
            head = fit_head(name, combiner, known, experts, settings, seed)
            table = predict_block(combiner, block, known, head)
            daily = cross_validated(name, folds, experts, settings, seed)
        except Exception as error:
            if name not in settings.combiners:
                raise
            warn(STAGE, f"combiner {name} is left out, it could not be fitted: {error!r}")
            continue
        table = table.select("timestamp", "symbol", "score", "uncertainty")
        found[name] = Tried(table.with_columns(*place, expert=pl.lit(public_name(name))), daily)
    return found


def known_of(group: int, tables: list[pl.DataFrame], crossing: Crossing) -> pl.DataFrame:
    """Labelled rows that a combiner judged on the group may learn from, sorted; none where one group is
    tested at a time.
    """
    parts = [tables[0].clear()]
    for other in range(len(crossing.splits.groups)):
        split = crossing.split_of_both(group, other) if other != group else None
        if split is not None:
            parts.append(tables[split].filter(pl.col("group") == other))
    labelled = pl.col("label").is_not_null()
    return pl.concat(parts).filter(labelled & crossing.apart_from(group)).sort("timestamp", "symbol")
