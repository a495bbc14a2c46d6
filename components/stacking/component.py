"""KFP doors of the stacking stage."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_oof(
    labels: Input[Dataset],
    training_set: Input[Dataset],
    settings: str,
    code: str,
    experts: Input[Artifact],
    oof: Output[Dataset],
    predictions: Output[Dataset],
    audit: Output[Artifact],
):
    """Gather the experts' predictions into one audited table."""
    import polars as pl

    from components.contracts import (
        ALL_PREDICTIONS,
        LABELS,
        OOF,
        TRAINING_SET,
        atomic_write_text,
        read_gathered,
        read_stamp,
        read_table,
        write_table,
    )
    from components.progress import report, stage, warn
    from components.settings import config_hash
    from components.stacking.config import Settings
    from components.stacking.oof import audit_oof, build_oof_table, read_experts, require_clean

    with stage("out-of-fold table"):
        parsed = Settings.model_validate_json(settings)
        found, failed = read_experts(list(read_gathered(experts.path).values()), parsed)
        for name, reason in failed.items():
            warn("out-of-fold table", f"{name} is left out: {reason}")
        rows = read_table(training_set.path, TRAINING_SET)
        table = build_oof_table(found, read_table(labels.path, LABELS), rows)
        audited = audit_oof(table, found, failed, rows["timestamp"].unique().sort(), parsed)
        atomic_write_text(audit.path, audited.to_json())
        require_clean(audited)
        stamps = {
            "labels": read_stamp(labels.path).content_sha256,
            "training_set": read_stamp(training_set.path).content_sha256,
        }
        about = {"code_version": code, "config_hash": config_hash(parsed), "inputs": stamps}
        write_table(table, oof.path, OOF, **about)
        write_table(
            pl.concat(found.values()).sort(ALL_PREDICTIONS.key), predictions.path, ALL_PREDICTIONS, **about
        )
        report("out-of-fold table", f"{len(table):,} rows, {len(found)} experts")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def stack(
    oof: Input[Dataset],
    predictions: Input[Dataset],
    training_set: Input[Dataset],
    settings: str,
    timeline: str,
    seed: int,
    code: str,
    all_predictions: Output[Dataset],
    model: Output[Artifact],
    comparison: Output[Artifact],
):
    """Compare combiners on the validation window and apply the chosen one through the test window."""
    from pathlib import Path

    from components.contracts import (
        ALL_PREDICTIONS,
        OOF,
        TRAINING_SET,
        read_stamp,
        read_table,
        require_one_origin,
        write_table,
    )
    from components.progress import report, stage
    from components.settings import config_hash
    from components.stacking.combine import stack_experts, write_model
    from components.stacking.config import Settings
    from components.timeline import Settings as TimelineSettings
    from components.timeline import resolve_windows

    with stage("stack"):
        parsed, times = Settings.model_validate_json(settings), TimelineSettings.model_validate_json(timeline)
        require_one_origin([oof.path, predictions.path], "labels")
        calendar = read_table(training_set.path, TRAINING_SET)["timestamp"].unique().sort()
        windows = resolve_windows(calendar, times)
        result = stack_experts(
            read_table(oof.path, OOF),
            read_table(predictions.path, ALL_PREDICTIONS),
            parsed,
            windows,
            calendar,
            embargo_bars=times.embargo_bars,
            seed=seed,
        )
        inputs = {**read_stamp(oof.path).inputs, "oof": read_stamp(oof.path).content_sha256}
        write_table(
            result.predictions,
            all_predictions.path,
            ALL_PREDICTIONS,
            code_version=code,
            config_hash=config_hash(parsed),
            inputs=inputs,
        )
        write_model(result.model, Path(model.path))
        result.comparison.write(comparison.path)
        report("stack", f"{result.comparison.chosen}: {result.comparison.reason}")
