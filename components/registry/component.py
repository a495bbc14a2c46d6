"""KFP doors of the registry."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def read_champion(
    settings: str,
    name: str,
    folder: str,
    champion: Output[Artifact],
    training_set: Input[Dataset] = None,
    feature_registry: Input[Artifact] = None,
):
    """Fetch the champion's out-of-sample predictions and drift reference; with a training set it also scores
    the bars after its own training.
    """
    import json
    from pathlib import Path

    from components.contracts import TRAINING_SET, read_table
    from components.progress import report, stage, warn
    from components.registry.config import Settings
    from components.registry.store import read_champion as read

    with stage("champion"):
        rows = read_table(training_set.path, TRAINING_SET) if training_set is not None else None
        schema = (
            json.loads(Path(feature_registry.path).read_text(encoding="utf-8"))["schema"]
            if feature_registry is not None
            else ""
        )
        about = read(
            Settings.model_validate_json(settings),
            name,
            Path(folder),
            Path(champion.path),
            rows=rows,
            schema=schema,
        )
        newest = about.get("newest") or {}
        if newest.get("not_scored"):
            warn(
                "champion",
                f"version {about['version']} is compared by its stored predictions only:"
                f" {newest['not_scored']}",
            )
        bars = f", scored on {newest['bars']} bars after its training" if newest.get("bars") else ""
        report("champion", f"version {about['version']}{bars}" if about["version"] else "none yet")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    verdict: Input[Artifact],
    evaluation: Input[Artifact],
    predictions: Input[Dataset],
    stacker: Input[Artifact],
    catalog: Input[Artifact],
    feature_registry: Input[Artifact],
    config: str,
    settings: str,
    name: str,
    folder: str,
    code: str,
    reference: Input[Artifact],
    experts: Input[Artifact],
    registration: Output[Artifact],
):
    """Record the judged model; register and promote it if it was approved."""
    import json
    from pathlib import Path

    from components.contracts import atomic_write_text, read_gathered
    from components.progress import report, stage
    from components.registry.config import Settings
    from components.registry.record import record

    with stage("register"):
        outcome = record(
            Settings.model_validate_json(settings),
            name=name,
            folder=Path(folder),
            expert_folders=list(read_gathered(experts.path).values()),
            verdict=json.loads(Path(verdict.path).read_text(encoding="utf-8")),
            evaluation=json.loads(Path(evaluation.path).read_text(encoding="utf-8")),
            predictions=Path(predictions.path),
            stacker=Path(stacker.path),
            catalog=Path(catalog.path),
            feature_registry=Path(feature_registry.path),
            config=json.loads(config),
            code=code,
            reference=Path(reference.path),
        )
        atomic_write_text(registration.path, json.dumps(outcome, indent=1))
        report(
            "register",
            (
                f"{outcome['status']}, version {outcome['version']} {outcome['aliases']}"
                if outcome["version"]
                else outcome["status"]
            ),
        )
