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
    horizon: int,
    target: str,
    code: str,
    reference: Output[Artifact],
):
    """Sketch what the served model learned from and said, for drift to be measured against."""
    from pathlib import Path

    from components.drift.run import LearnedFrom, run_make_reference

    tables = (training_set, labels, predictions, catalog)
    inputs = LearnedFrom(*(Path(table.path) for table in tables), target, horizon)
    run_make_reference(inputs, Path(reference.path), settings=settings, timeline=timeline, code=code)


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
    from pathlib import Path

    from components.drift.run import Served, run_detect_drift

    known = Path(labels.path) if labels is not None else None
    inputs = Served(Path(current.path), Path(champion.path), known)
    run_detect_drift(inputs, Path(drift.path), settings=settings, code=code)
