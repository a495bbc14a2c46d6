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
    expert_1: Input[Artifact],
    expert_2: Input[Artifact],
    page: Output[HTML],
    expert_3: Input[Artifact] = None,
    expert_4: Input[Artifact] = None,
    expert_5: Input[Artifact] = None,
    expert_6: Input[Artifact] = None,
    expert_7: Input[Artifact] = None,
    expert_8: Input[Artifact] = None,
    audit_page: Input[HTML] = None,
    fusion_page: Input[HTML] = None,
    selection_tree_base_page: Input[HTML] = None,
    selection_tree_rich_page: Input[HTML] = None,
    selection_linear_base_page: Input[HTML] = None,
    selection_linear_rich_page: Input[HTML] = None,
):
    """Write the run's report and summary."""
    import json
    import shutil
    from pathlib import Path

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
        slots = (expert_1, expert_2, expert_3, expert_4, expert_5, expert_6, expert_7, expert_8)
        paths = {name: Path(artifact.path) for name, artifact in inputs.items()}
        evidence = {
            "audit": audit_page,
            "fusion": fusion_page,
            "selection_tree_base": selection_tree_base_page,
            "selection_tree_rich": selection_tree_rich_page,
            "selection_linear_base": selection_linear_base_page,
            "selection_linear_rich": selection_linear_rich_page,
        }
        pages = {name: Path(artifact.path) for name, artifact in evidence.items() if artifact is not None}
        summary = build_report(
            paths,
            [Path(slot.path) for slot in slots if slot is not None],
            json.loads(config),
            Path(folder),
            pages,
        )
        shutil.copyfile(Path(folder) / REPORT, page.path)
        report("report", f"model {'approved' if summary['approved'] else 'rejected'}: {summary['reason']}")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def keep_evidence(
    folder: str,
    audit_page: Input[HTML] = None,
    fusion_page: Input[HTML] = None,
    selection_tree_base_page: Input[HTML] = None,
    selection_tree_rich_page: Input[HTML] = None,
    selection_linear_base_page: Input[HTML] = None,
    selection_linear_rich_page: Input[HTML] = None,
    mining_page: Input[HTML] = None,
    formulas: Input[Artifact] = None,
):
    """Copy the stages' own pages, and mined formulas, into the run folder."""
    from pathlib import Path

    from components.progress import stage
    from components.report.build import EVIDENCE, keep_pages

    with stage("evidence"):
        pages = {
            "audit": audit_page,
            "fusion": fusion_page,
            "selection_tree_base": selection_tree_base_page,
            "selection_tree_rich": selection_tree_rich_page,
            "selection_linear_base": selection_linear_base_page,
            "selection_linear_rich": selection_linear_rich_page,
            "mining": mining_page,
        }
        files = {
            f"{name}.html": Path(artifact.path) for name, artifact in pages.items() if artifact is not None
        }
        if formulas is not None:
            files["formulas.yaml"] = Path(formulas.path)
        keep_pages(files, Path(folder) / EVIDENCE)


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
