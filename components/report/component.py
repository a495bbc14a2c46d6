"""KFP doors of the report."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output, PipelineTaskFinalStatus

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def write_report(
    truth: Input[Dataset],
    panel: Input[Dataset],
    quarantine: Input[Dataset],
    health: Input[Artifact],
    data_docs: Input[Artifact],
    factors: Input[Dataset],
    catalog: Input[Artifact],
    labels: Input[Dataset],
    audit: Input[Artifact],
    oof_audit: Input[Artifact],
    comparison: Input[Artifact],
    predictions: Input[Dataset],
    evaluation: Input[Artifact],
    returns: Input[Dataset],
    verdict: Input[Artifact],
    registration: Input[Artifact],
    config: str,
    folder: str,
    experts: Input[Artifact],
    pages: Input[Artifact],
    page: Output[HTML],
):
    """Write the run's report and summary."""
    import json
    import shutil
    from pathlib import Path

    from components.contracts import read_gathered
    from components.progress import report, stage
    from components.report.build import REPORT, build_report

    with stage("report"):
        inputs = {
            "truth": truth,
            "panel": panel,
            "quarantine": quarantine,
            "health": health,
            "data_docs": data_docs,
            "factors": factors,
            "catalog": catalog,
            "labels": labels,
            "audit": audit,
            "oof_audit": oof_audit,
            "comparison": comparison,
            "predictions": predictions,
            "evaluation": evaluation,
            "returns": returns,
            "verdict": verdict,
            "registration": registration,
        }
        paths = {name: Path(artifact.path) for name, artifact in inputs.items()}
        summary = build_report(
            paths,
            list(read_gathered(experts.path).values()),
            json.loads(config),
            Path(folder),
            read_gathered(pages.path),
        )
        shutil.copyfile(Path(folder) / REPORT, page.path)
        report("report", f"model {'approved' if summary['approved'] else 'rejected'}: {summary['reason']}")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def keep_evidence(
    folder: str,
    pages: Input[Artifact],
):
    """Copy the stages' own pages, and mined formulas, into the run folder."""
    from pathlib import Path

    from components.contracts import read_gathered
    from components.progress import stage
    from components.report.build import EVIDENCE, keep_pages

    with stage("evidence"):
        keep_pages(read_gathered(pages.path), Path(folder) / EVIDENCE)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def close_run(folder: str, status: PipelineTaskFinalStatus):
    """Leave a page behind if the run failed; runs in any case."""
    import os
    from pathlib import Path

    from components.report.closing import close_run as close

    events = os.environ.get("ALPHALOOP_EVENTS")
    close(
        Path(folder),
        failed=status.state != "SUCCEEDED",
        message=status.error_message or "",
        events=Path(events) if events else None,
    )
