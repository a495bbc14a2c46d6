"""KFP door of residual mining."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def mine(
    training_set: Input[Dataset],
    labels: Input[Dataset],
    catalog: Input[Artifact],
    predictions: Input[Dataset],
    settings: str,
    timeline: str,
    horizon: int,
    target: str,
    seed: int,
    code: str,
    formulas: Output[Artifact],
    page: Output[HTML],
):
    """Formulas that predict what the experts leave unexplained, judged out of sample."""
    from components.contracts import atomic_write_text
    from components.mining.config import Settings
    from components.mining.page import page_html
    from components.mining.result import write_formulas
    from components.mining.run import mine_formulas
    from components.mining.tables import read_run
    from components.progress import report, stage, warn
    from components.timeline import Settings as TimelineSettings

    with stage("mining"):
        parsed = Settings.model_validate_json(settings)
        run = read_run(training_set.path, labels.path, catalog.path, predictions.path)
        times = TimelineSettings.model_validate_json(timeline)
        mined = mine_formulas(
            run.training_set,
            run.labels,
            run.catalog,
            run.predictions,
            parsed,
            times,
            horizon=horizon,
            target=target,
            seed=seed,
        )
        write_formulas(mined, formulas.path)
        atomic_write_text(
            page.path, page_html(mined, target=target, horizon=horizon, significance=parsed.significance)
        )
        formulas.metadata.update(accepted=len(mined.accepted), tried=mined.tries, code=code)
        if mined.sample.note:
            warn("mining", mined.sample.note)
        report(
            "mining",
            f"{len(mined.accepted)} of {mined.tries} formulas accepted, {mined.evaluated:,} searched",
        )
