"""KFP doors of the fusion stage."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fuse(
    panel: Input[Dataset],
    settings: str,
    source: str,
    code: str,
    fused: Output[Dataset],
    page: Output[HTML],
    report: Output[Artifact],
):
    """Join the slow tables to the panel as known at each bar; a sample is joined again row by row before
    anything is written.
    """
    import json
    import os
    from pathlib import Path

    from components.contracts import FUSED, PANEL, atomic_write_text, read_stamp, read_table, write_table
    from components.fusion.config import Settings
    from components.fusion.fuse import fuse_panel
    from components.fusion.page import fusion_page
    from components.fusion.source_hash import source_sha256
    from components.progress import report as say
    from components.progress import stage, warn
    from components.settings import config_hash

    with stage("fusion"):
        parsed = Settings.model_validate_json(settings)
        folder = Path(os.environ.get("ALPHALOOP_DATA", "data"))
        found = fuse_panel(read_table(panel.path, PANEL), parsed, folder)
        inputs = {
            "panel": read_stamp(panel.path).content_sha256,
            "slow_tables": source_sha256(parsed, folder),
        }
        write_table(
            found.fused, fused.path, FUSED, code_version=code, config_hash=config_hash(parsed), inputs=inputs
        )
        atomic_write_text(report.path, json.dumps(found.report, indent=1, allow_nan=False))
        atomic_write_text(page.path, fusion_page(found.report))
        for note in found.notes:
            warn("fusion", note)
        say(
            "fusion",
            f"{len(found.fused):,} rows, {found.fused.width - 2} slow columns of {len(parsed.tables)} tables,"
            f" {found.report['checks']['values_compared']:,} values checked by hand",
        )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def make_learnable(
    training_set: Input[Dataset],
    catalog: Input[Artifact],
    settings: str,
    modality: str,
    code: str,
    learnable: Output[Dataset],
    report: Output[Artifact],
):
    """The rows that experts of a modality may learn from."""
    import json

    from components.contracts import (
        LEARNABLE,
        TRAINING_SET,
        atomic_write_text,
        read_catalog,
        read_stamp,
        read_table,
        write_table,
    )
    from components.fusion.config import Settings
    from components.fusion.datasets import learnable_rows
    from components.progress import report as say
    from components.progress import stage
    from components.settings import config_hash

    with stage(f"rows for {modality} experts"):
        parsed = Settings.model_validate_json(settings)
        found = learnable_rows(
            read_table(training_set.path, TRAINING_SET),
            read_catalog(catalog.path),
            getattr(parsed.datasets, modality),
            modality,
        )
        inputs = {"training_set": read_stamp(training_set.path).content_sha256}
        write_table(
            found.learnable,
            learnable.path,
            LEARNABLE,
            code_version=code,
            config_hash=config_hash(parsed),
            inputs=inputs,
        )
        atomic_write_text(report.path, json.dumps(found.report, indent=1, allow_nan=False))
        say(
            f"rows for {modality} experts",
            f"{found.report['kept']:,} of {found.report['rows']:,} rows, {len(found.report['columns'])}"
            " inputs",
        )
