"""KFP doors of the tick features stage."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_tick_features(
    ticks: Input[Artifact],
    settings: str,
    work_folder: str,
    code: str,
    features: Output[Dataset],
    catalog: Output[Artifact],
):
    """Sample the features of every symbol's order book by clock or by event."""
    from components.tick_features.run import Inputs, Outputs, run

    outputs = Outputs(features.path, catalog.path, work_folder)
    run(Inputs(ticks.path), outputs, settings=settings, code=code)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def audit_tick_features(
    ticks: Input[Artifact],
    features: Input[Dataset],
    settings: str,
    code: str,
    document: Output[Artifact],
    page: Output[HTML],
):
    """Make features again from ticks that were changed or cut off; stop the run where one knew the future."""
    from components.tick_features.audit_run import AuditInputs, AuditOutputs, run_audit

    found = run_audit(
        AuditInputs(ticks.path, features.path), AuditOutputs(document.path, page.path), settings=settings
    )
    document.metadata.update(passed=found.passed, leaks=len(found.leaks), code=code)
