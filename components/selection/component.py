"""KFP door of factor selection."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def select_factors(
    training_set: Input[Dataset],
    labels: Input[Dataset],
    catalog: Input[Artifact],
    settings: str,
    timeline: str,
    family: str,
    horizon: int,
    target: str,
    seed: int,
    code: str,
    selection: Output[Artifact],
    evidence: Output[Dataset],
    page: Output[HTML],
    modality: str = "base",
    gate_weights: str = "",
):
    """Choose the inputs of every fold on its training bars, for one family of experts."""
    from components.progress import report, stage
    from components.selection.config import Settings
    from components.selection.publish import select_on_tables
    from components.timeline import Settings as TimelineSettings

    with stage("selection"):
        said = select_on_tables(
            training_set.path,
            labels.path,
            catalog.path,
            settings=Settings.model_validate_json(settings),
            timeline=TimelineSettings.model_validate_json(timeline),
            family=family,
            horizon=horizon,
            target=target,
            seed=seed,
            modality=modality,
            gate_weights=gate_weights,
            code=code,
            selection=selection.path,
            evidence=evidence.path,
            page=page.path,
        )
        report("selection", said)
