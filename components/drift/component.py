"""KFP doors of the drift stage."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_reference(
    training_set: Input[Dataset],
    labels: Input[Dataset],
    predictions: Input[Dataset],
    catalog: Input[Artifact],
    settings: str,
    timeline: str,
    code: str,
    reference: Output[Artifact],
):
    """Sketch what the served model learned from and said, for drift to be measured against."""
    from pathlib import Path

    from components.contracts import (
        ALL_PREDICTIONS,
        LABELS,
        TRAINING_SET,
        read_catalog,
        read_stamp,
        read_table,
    )
    from components.drift.config import Settings
    from components.drift.reference import make_reference as make
    from components.drift.tables import require_made_from
    from components.progress import report, stage
    from components.settings import config_hash
    from components.timeline import Settings as TimelineSettings

    with stage("drift reference"):
        parsed = Settings.model_validate_json(settings)
        require_made_from(
            read_stamp(predictions.path),
            {"training_set": read_stamp(training_set.path), "labels": read_stamp(labels.path)},
        )
        about = make(
            read_table(training_set.path, TRAINING_SET),
            read_table(labels.path, LABELS),
            read_table(predictions.path, ALL_PREDICTIONS),
            read_catalog(catalog.path),
            parsed,
            TimelineSettings.model_validate_json(timeline),
            Path(reference.path),
            stamp={"code_version": code, "config_hash": config_hash(parsed)},
        )
        report(
            "drift reference",
            f"{about['rows']:,} rows of {about['bars']:,} bars, {len(about['columns'])} columns",
        )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def detect_drift(
    current: Input[Dataset],
    champion: Input[Artifact],
    settings: str,
    code: str,
    drift: Output[Artifact],
    labels: Input[Dataset] = None,
):
    """Hold what was served against the champion's reference; writes drift.json, index.html and
    evidently.html.
    """
    import json
    from pathlib import Path

    import polars as pl

    from components.contracts import LABELS, read_stamp, read_table
    from components.drift.config import Settings
    from components.drift.detect import detect
    from components.drift.early import too_early, write_early
    from components.drift.report import write_reports
    from components.drift.tables import read_current
    from components.progress import report, stage
    from components.settings import config_hash

    with stage("drift"):
        parsed = Settings.model_validate_json(settings)
        folder = Path(champion.path)
        about = json.loads((folder / "champion.json").read_text(encoding="utf-8"))
        stamp = read_stamp(current.path)
        early = too_early(
            about,
            folder / "reference",
            pl.scan_parquet(current.path).select(pl.len()).collect().item(),
            source=stamp.table,
            sha256=stamp.content_sha256,
        )
        if early:
            write_early(Path(drift.path), early)
            report("drift", f"{early['verdict']}: {early['reason']}")
            return
        rows = read_current(Path(current.path))
        known = read_table(labels.path, LABELS) if labels is not None else None
        result = detect(
            folder / "reference",
            rows,
            known,
            parsed,
            source=stamp.table,
            sha256=stamp.content_sha256,
            champion={"version": about.get("version"), "bundle_sha256": about.get("bundle_sha256")},
        )
        result["stamp"] = {"code_version": code, "config_hash": config_hash(parsed)}
        write_reports(Path(drift.path), result, folder / "reference", rows, parsed)
        report("drift", f"{result['verdict']}: {result['reason']}")
