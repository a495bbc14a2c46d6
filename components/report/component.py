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
    data_docs: Input[HTML],
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
    from components.report import result
    from components.report.run import run_write_report

    market = (truth.path, panel.path, quarantine.path, health.path, data_docs.path)
    data = result.DataArtifacts(*market)
    learned = result.LearnedArtifacts(factors.path, catalog.path, labels.path, audit.path)
    models = result.ModelArtifacts(experts.path, oof_audit.path, comparison.path, predictions.path)
    judged = result.JudgedArtifacts(evaluation.path, returns.path, verdict.path, registration.path)
    artifacts = result.Artifacts(data, learned, models, judged, pages.path)
    run_write_report(artifacts, page.path, config=config, folder=folder)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report_ticks(
    raw: Input[Artifact],
    ticks: Input[Artifact],
    predictions: Input[Dataset],
    labels: Input[Dataset],
    fills: Input[Dataset],
    curve: Input[Dataset],
    found: Input[Artifact],
    verdict: Input[Artifact],
    registration: Input[Artifact],
    pages: Input[Artifact],
    name: str,
    settings: str,
    folder: str,
    page: Output[HTML],
):
    """Write the report of a run on ticks; `settings` is that of the gates."""
    from components.report.ticks import Inputs, run

    learned, replayed = (predictions.path, labels.path), (fills.path, curve.path, found.path)
    judged = (verdict.path, registration.path)
    inputs = Inputs(raw.path, ticks.path, *learned, *replayed, *judged, pages.path)
    run(inputs, page.path, name=name, settings=settings, folder=folder)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def keep_evidence(
    folder: str,
    pages: Input[Artifact],
):
    """Copy the stages' own pages, and mined formulas, into the run folder."""
    from components.report.run import run_keep_evidence

    run_keep_evidence(pages.path, folder=folder)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def close_run(folder: str, goals: list, status: PipelineTaskFinalStatus):
    """Leave a page behind if the run failed, which is where it did not finish the stages `goals`; runs in any
    case.
    """
    from components.report.run import run_close_run

    run_close_run(folder, goals=goals, state=status.state, message=status.error_message)
