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
    read_gathered,
    read_stamp,
    read_table,
    require_one_origin,
    write_table,
)
from components.contracts.documents.oof_audit import OofAudit
from components.progress import report, stage, warn
from components.settings import config_hash
from components.stacking.combine import Stacked, stack_experts
from components.stacking.config import Settings
from components.stacking.crossed import STAGE, Crossing, stack_splits
from components.stacking.oof import (
    audit_oof,
    build_oof_table,
    read_cross_validated,
    read_experts,
    require_clean,
)
from components.stacking.served_form import write_model
from components.timeline import Settings as TimelineSettings
from components.timeline import cross_validated_splits, resolve_windows


@dataclass(frozen=True)
class OofInputs:
    """`experts`: the folder that gathers theirs; `labels`: LABELS; `training_set`: TRAINING_SET."""

    labels: str | os.PathLike
    training_set: str | os.PathLike
    experts: str | os.PathLike


@dataclass(frozen=True)
class OofOutputs:
    """Where the OOF table, the ALL_PREDICTIONS of the experts and the audit as JSON go."""

    oof: str | os.PathLike
    predictions: str | os.PathLike
    audit: str | os.PathLike


@dataclass(frozen=True)
class StackInputs:
    """What `run_build_oof` wrote, and the TRAINING_SET whose bars are the calendar."""

    oof: str | os.PathLike
    predictions: str | os.PathLike
    training_set: str | os.PathLike


@dataclass(frozen=True)
class StackOutputs:
    """Where ALL_PREDICTIONS with every combiner, the served form and the comparison as JSON go."""

    all_predictions: str | os.PathLike
    model: str | os.PathLike
    comparison: str | os.PathLike


def run_build_oof(inputs: OofInputs, outputs: OofOutputs, *, settings: str, code: str) -> OofAudit:
    """Gather the experts' predictions into one table and audit it; the audit is written in any case.

    Raises
    ------
    StackingError
        If too few experts are left, or the table failed its audit.
    ContractError
        If the experts do not belong together.
    """
    with stage("out-of-fold table"):
        parsed = Settings.model_validate_json(settings)
        found, failed = read_experts(list(read_gathered(inputs.experts).values()), parsed)
        for name, reason in failed.items():
            warn("out-of-fold table", f"{name} is left out: {reason}")
        rows = read_table(inputs.training_set, TRAINING_SET)
        table = build_oof_table(found, read_table(inputs.labels, LABELS), rows)
        audited = audit_oof(table, found, failed, rows["timestamp"].unique().sort())
        audited.write(outputs.audit)
        require_clean(audited)
        stamps = {
            "labels": read_stamp(inputs.labels).content_sha256,
            "training_set": read_stamp(inputs.training_set).content_sha256,
        }
        about = {"code_version": code, "config_hash": config_hash(parsed), "inputs": stamps}
        write_table(table, outputs.oof, OOF, **about)
        predictions = pl.concat(found.values(), how="diagonal").sort(ALL_PREDICTIONS.key)
        write_table(predictions, outputs.predictions, ALL_PREDICTIONS, **about)
        report("out-of-fold table", f"{len(table):,} rows, {len(found)} experts")
    return audited


def run_stack_splits(
    inputs: OofInputs, predictions: str | os.PathLike, *, settings: str, timeline: str, seed: int, code: str
) -> pl.DataFrame:
    """Combine what the experts predicted in the splits of the cross-validation, into the CROSS_VALIDATED
    table `predictions`.

    Raises
    ------
    ContractError, TimelineError
        If the experts do not belong together, or the timeline has other splits.
    """
    with stage(STAGE):
        parsed, times = Settings.model_validate_json(settings), TimelineSettings.model_validate_json(timeline)
        labels, rows = read_table(inputs.labels, LABELS), read_table(inputs.training_set, TRAINING_SET)
        found, stamp = read_cross_validated(list(read_gathered(inputs.experts).values()))
        calendar, longest = rows["timestamp"].unique().sort(), int(labels["horizon"].max())
        splits = cross_validated_splits(resolve_windows(calendar, times), times, longest_horizon=longest)
        crossing = Crossing(splits, calendar, times.purge_bars, times.embargo(longest))
        table = stack_splits(found, labels, rows, crossing, parsed, seed=seed)
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
    inputs: StackInputs, outputs: StackOutputs, *, settings: str, timeline: str, seed: int, code: str
) -> Stacked:
    """Compare combiners on the validation window and apply the chosen one through the test window.

    Raises
    ------
    ContractError, TimelineError
        If the tables were made from different labels, or the windows do not fit them.
    """
    with stage("stack"):
        parsed, times = Settings.model_validate_json(settings), TimelineSettings.model_validate_json(timeline)
        require_one_origin([inputs.oof, inputs.predictions], "labels")
        calendar = read_table(inputs.training_set, TRAINING_SET)["timestamp"].unique().sort()
        oof = read_table(inputs.oof, OOF)
        result = stack_experts(
            oof,
            read_table(inputs.predictions, ALL_PREDICTIONS),
            parsed,
            resolve_windows(calendar, times),
            calendar,
            embargo_bars=times.embargo(int(oof["horizon"].max())),
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
    return result
