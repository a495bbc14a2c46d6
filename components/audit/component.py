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
    from components.audit.run import Builders, Inputs, Outputs, run

    result = run(
        Inputs(panel.path, factors.path, labels.path, catalog.path, fused.path if fused else None),
        Outputs(audit.path, page.path),
        Builders(builder, builder_settings, label_builder, label_settings),
        settings=settings,
        seed=seed,
    )
    audit.metadata.update(passed=result.passed, leaks=len(result.leaks), code=code)
