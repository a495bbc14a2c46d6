"""What the doors of stacking call: the out-of-fold table with its audit, the stack over it, and the stack of
a cross-validation.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts import (
    ALL_PREDICTIONS,
    CROSS_VALIDATED,
    LABELS,
    OOF,
    TRAINING_SET,
    map_table,
    read_gathered,
    read_stamp,
    require_one_origin,
    write_table,
)
from components.contracts.documents.oof_audit import OofAudit
from components.memory.need import MIB, Need
from components.progress import report, stage, warn
from components.settings import config_hash
from components.stacking.combine import Stacked
from components.stacking.config import Settings
from components.stacking.crossed import STAGE, Crossing, stack_splits
from components.stacking.guests import own_tasks
from components.stacking.oof import (
    CONTEXT_COLUMNS,
    audit_oof,
    build_oof_table,
    members_of,
    read_cross_validated,
    read_experts,
    require_clean,
    stacked_tasks,
    tells,
    with_further,
)
from components.stacking.served_form import write_model
from components.stacking.tasks import Course, stack_tasks
from components.timeline import Settings as TimelineSettings
from components.timeline import cross_validated_splits, resolve_windows

# Simulated, 34,794 and 145,518 rows: 207 and 301 MiB.
GATHERING = Need("out-of-fold table", base=190 * MIB, row=600, cell=0)
# Told by the predictions of all experts; those of two, 161,478 and 968,868 rows: 370 and 631 MiB.
STACKING = Need("stack", base=320 * MIB, row=325, cell=0)


@dataclass(frozen=True)
class OofInputs:
    """`experts`: the folder that gathers theirs; `labels`: LABELS; `training_set`: TRAINING_SET; and the task
    by which the run is judged.
    """

    labels: str | os.PathLike
    training_set: str | os.PathLike
    experts: str | os.PathLike
    target: str
    horizon: int

    @property
    def judged(self) -> tuple[str, int]:
        """Target and horizon."""
        return self.target, self.horizon


@dataclass(frozen=True)
class OofOutputs:
    """Where the OOF table, the ALL_PREDICTIONS of the experts and the audit as JSON go."""

    oof: str | os.PathLike
    predictions: str | os.PathLike
    audit: str | os.PathLike


@dataclass(frozen=True)
class StackInputs:
    """What `run_build_oof` wrote, the TRAINING_SET whose bars are the calendar, and the judged task."""

    oof: str | os.PathLike
    predictions: str | os.PathLike
    training_set: str | os.PathLike
    target: str
    horizon: int


@dataclass(frozen=True)
class StackOutputs:
    """Where ALL_PREDICTIONS with every combiner, the served form and the comparison as JSON go."""

    all_predictions: str | os.PathLike
    model: str | os.PathLike
    comparison: str | os.PathLike


def run_build_oof(inputs: OofInputs, outputs: OofOutputs, *, settings: str, code: str) -> OofAudit:
    """Gather the experts' predictions into one table, with rows of each task that one of them predicts, and
    audit it; the audit is written in any case.

    Raises
    ------
    StackingError
        If too few experts are left, none predicts the judged task, or the table failed its audit.
    ContractError
        If the experts do not belong together.
    """
    with stage("out-of-fold table"):
        GATHERING.require(inputs.training_set)
        parsed = Settings.model_validate_json(settings)
        folders = list(read_gathered(inputs.experts).values())
        found, failed = read_experts(folders, parsed)
        for name, reason in failed.items():
            warn("out-of-fold table", f"{name} is left out: {reason}")
        rows = map_table(inputs.training_set, TRAINING_SET, columns=CONTEXT_COLUMNS)
        tables = _by_task(folders, found, inputs.judged, map_table(inputs.labels, LABELS), rows)
        calendar = rows["timestamp"].unique().sort()
        audits = [audit_oof(part, members, failed, calendar) for members, part in tables.values()]
        audited = with_further(audits[0], dict(zip(tables, audits, strict=True)))
        audited.write(outputs.audit)
        require_clean(audited)
        stamps = {
            "labels": read_stamp(inputs.labels).content_sha256,
            "training_set": read_stamp(inputs.training_set).content_sha256,
        }
        about = {"code_version": code, "config_hash": config_hash(parsed), "inputs": stamps}
        parts = [part for _, part in tables.values()]
        table = pl.concat(parts, how="diagonal").sort(OOF.key) if len(parts) > 1 else parts[0]
        write_table(table, outputs.oof, OOF, **about)
        predictions = pl.concat(found.values(), how="diagonal").sort(ALL_PREDICTIONS.key)
        write_table(predictions, outputs.predictions, ALL_PREDICTIONS, **about)
        report("out-of-fold table", f"{len(table):,} rows, {len(found)} experts")
    return audited


def _by_task(
    folders: list[Path],
    experts: dict[str, pl.DataFrame],
    judged: tuple[str, int],
    labels: pl.DataFrame,
    rows: pl.DataFrame,
) -> dict[tuple[str, int], tuple[dict[str, pl.DataFrame], pl.DataFrame]]:
    """For each task, the judged one first: what its experts predict, and their out-of-fold table. Experts of
    other tasks stand in that of the judged one alone.
    """
    learned, tables = own_tasks(folders), {}
    for task in stacked_tasks(experts, judged):
        members = members_of(task, experts, learned if task == judged else None)
        tables[task] = (members, build_oof_table(members, labels, rows))
    return tables


def run_stack_splits(
    inputs: OofInputs,
    predictions: str | os.PathLike,
    *,
    settings: str,
    timeline: str,
    seed: int,
    code: str,
) -> pl.DataFrame:
    """Combine what the experts predicted in the splits of the cross-validation, into the CROSS_VALIDATED
    table `predictions`: of the judged task alone.

    Raises
    ------
    ContractError, TimelineError
        If the experts do not belong together, or the timeline has other splits.
    """
    with stage(STAGE):
        parsed, times = Settings.model_validate_json(settings), TimelineSettings.model_validate_json(timeline)
        labels = map_table(inputs.labels, LABELS)
        rows = map_table(inputs.training_set, TRAINING_SET, columns=CONTEXT_COLUMNS)
        folders = list(read_gathered(inputs.experts).values())
        found, stamp = read_cross_validated(folders)
        stacked_tasks(found, inputs.judged)
        members = members_of(inputs.judged, found, own_tasks(folders))
        guests = [name for name in members if not tells(found[name], inputs.judged)]
        calendar, longest = rows["timestamp"].unique().sort(), int(labels["horizon"].max())
        splits = cross_validated_splits(resolve_windows(calendar, times), times, longest_horizon=longest)
        crossing = Crossing(splits, calendar, times.purge_bars, times.embargo(longest))
        table = stack_splits(members, labels, rows, crossing, parsed, seed=seed, guests=guests)
        write_table(
            table,
            predictions,
            CROSS_VALIDATED,
            code_version=code,
            config_hash=config_hash(parsed),
            inputs=stamp.inputs,
        )
        report(STAGE, f"{table['expert'].n_unique()} models on {splits.paths} paths")
    return table


def run_stack(
    inputs: StackInputs,
    outputs: StackOutputs,
    *,
    settings: str,
    timeline: str,
    seed: int,
    code: str,
) -> Stacked:
    """Compare combiners on the validation window and apply the chosen one through the test window: for the
    judged task and for each further one.

    Raises
    ------
    ContractError, TimelineError
        If the tables were made from different labels, or the windows do not fit them.
    """
    with stage("stack"):
        STACKING.require(inputs.predictions)
        parsed, times = Settings.model_validate_json(settings), TimelineSettings.model_validate_json(timeline)
        require_one_origin([inputs.oof, inputs.predictions], "labels")
        calendar = map_table(inputs.training_set, TRAINING_SET, columns=())["timestamp"].unique().sort()
        result = stack_tasks(
            map_table(inputs.oof, OOF),
            map_table(inputs.predictions, ALL_PREDICTIONS),
            (inputs.target, inputs.horizon),
            parsed,
            Course(resolve_windows(calendar, times), calendar, times),
            seed=seed,
        )
        stamp = read_stamp(inputs.oof)
        write_table(
            result.predictions,
            outputs.all_predictions,
            ALL_PREDICTIONS,
            code_version=code,
            config_hash=config_hash(parsed),
            inputs={**stamp.inputs, "oof": stamp.content_sha256},
        )
        write_model(result.model, Path(outputs.model))
        result.comparison.write(outputs.comparison)
        report("stack", f"{result.comparison.chosen}: {result.comparison.reason}")
        for one in result.comparison.further:
            report("stack", f"{one.target} over {one.horizon} bars: {one.chosen}")
    return result
