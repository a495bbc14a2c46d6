"""KFP door of the experts: one task an expert."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_expert(
    training_set: Input[Dataset],
    labels: Input[Dataset],
    catalog: Input[Artifact],
    leaf: str,
    timeline: str,
    period: str,
    horizon: int,
    target: str,
    seed: int,
    work_folder: str,
    code: str,
    expert: Output[Artifact],
    warm_from: str = "",
    selection: Input[Artifact] = None,
    learnable: Input[Dataset] = None,
):
    """Train one expert fold by fold into a folder: status.json and, unless it failed, predictions.parquet and
    model/.
    """
    from pathlib import Path

    from components.experts.leaves import Leaf
    from components.experts.training.publish import only_training, publish_expert, train_on_tables
    from components.progress import report, stage
    from components.timeline import Settings as TimelineSettings

    parsed = Leaf.model_validate_json(leaf)
    with stage(f"train {parsed.expert}"), only_training(Path(work_folder)):
        trained, status, origins = train_on_tables(
            training_set.path,
            labels.path,
            catalog.path,
            leaf=parsed,
            timeline=TimelineSettings.model_validate_json(timeline),
            period=period,
            horizon=horizon,
            target=target,
            seed=seed,
            work_folder=Path(work_folder),
            warm_from=Path(warm_from) if warm_from else None,
            code=code,
            chosen=selection.path if selection else None,
            learnable=learnable.path if learnable else None,
        )
        publish_expert(
            Path(expert.path), trained, status, parsed, origins, code=code, work_folder=Path(work_folder)
        )
        report(
            f"train {parsed.expert}",
            f"{status['rows']:,} predictions, {len(status['folds'])} fits" if trained else "left out",
        )
