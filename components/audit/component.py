"""KFP door of the leak audit."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def audit_leaks(
    panel: Input[Dataset],
    factors: Input[Dataset],
    labels: Input[Dataset],
    catalog: Input[Artifact],
    builder: str,
    builder_settings: str,
    label_builder: str,
    label_settings: str,
    settings: str,
    code: str,
    seed: int,
    audit: Output[Artifact],
    page: Output[HTML],
    fused: Input[Dataset] = None,
):
    """Rebuild factors and labels on changed and cut-off history; stop the run where one knew the future."""
    from components.audit.builders import load_builder
    from components.audit.config import Settings
    from components.audit.run import run_audit, with_slow_columns, write_audit
    from components.contracts import (
        FACTORS,
        FUSED,
        LABELS,
        PANEL,
        read_catalog,
        read_table,
        require_one_origin,
    )
    from components.progress import report, stage

    with stage("audit"):
        require_one_origin([factors.path, labels.path], "panel")
        result = run_audit(
            with_slow_columns(
                read_table(panel.path, PANEL), read_table(fused.path, FUSED) if fused else None
            ),
            read_table(factors.path, FACTORS),
            read_table(labels.path, LABELS),
            read_catalog(catalog.path),
            load_builder(builder, builder_settings),
            load_builder(label_builder, label_settings),
            settings=Settings.model_validate_json(settings),
            seed=seed,
        )
        write_audit(result, audit.path, page.path)
        audit.metadata.update(passed=result.passed, leaks=len(result.leaks), code=code)
        result.raise_if_leaking(page.path)
        report(
            "audit",
            f"no leak in {result.checked['factors']} factor columns at {len(result.checked['cuts'])} cuts,"
            " nor in the labels",
        )
