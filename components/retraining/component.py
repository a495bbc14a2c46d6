"""KFP doors of retraining: what was served, the decision on it, and how a retraining ended."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def collect_served(
    champion: Input[Artifact], window_bars: int, folder: str, code: str, current: Output[Dataset]
):
    """Gather what the champion answered on bars that it has not learned from."""
    from pathlib import Path

    from components.contracts import SERVED, write_table
    from components.contracts.documents.champion import read_champion
    from components.progress import report, stage
    from components.retraining.collect import collect_served as collect

    with stage("served"):
        about = read_champion(Path(champion.path) / "champion.json").model_dump(mode="json")
        rows = collect(Path(folder) / "served", about, window_bars=window_bars)
        write_table(
            rows,
            current.path,
            SERVED,
            code_version=code,
            config_hash=f"window_bars={window_bars}",
            inputs={"champion": about.get("bundle_sha256", "")},
        )
        report(
            "served",
            (
                f"{len(rows):,} answers on {rows['timestamp'].n_unique():,} bars"
                if len(rows)
                else "nothing served yet that the champion has not learned from"
            ),
        )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def decide(
    drift: Input[Artifact],
    current: Input[Dataset],
    panel: Input[Dataset],
    champion: Input[Artifact],
    settings: str,
    source: str,
    folder: str,
    decision: Output[Artifact],
) -> bool:
    """Decide whether to retrain, write the decision into the audit trail and publish the drift report.

    The answer is the only returned value: a condition on one of several named ones is never true in
    `kfp.local`.
    """
    import json
    from pathlib import Path

    from components.contracts import atomic_write_text
    from components.contracts.documents.champion import read_champion
    from components.progress import report, stage
    from components.retraining.config import Settings
    from components.retraining.decide import RETRAINS
    from components.retraining.record import record_decision

    with stage("decide"):
        made = record_decision(
            Path(folder) / "review",
            drift=Path(drift.path),
            current=Path(current.path),
            panel=Path(panel.path),
            champion=read_champion(Path(champion.path) / "champion.json").model_dump(mode="json"),
            settings=Settings.model_validate_json(settings),
            source=source,
        )
        atomic_write_text(decision.path, json.dumps(made, indent=1))
        report("decide", f"{made['action']}: {made['reason']}")
    return made["action"] in RETRAINS


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def conclude(decision: Input[Artifact], registration: Input[Artifact], folder: str):
    """Write the outcome of a retraining into the audit trail and renew the review page."""
    import json
    from pathlib import Path

    from components.contracts.documents.champion import Registration
    from components.progress import report, stage
    from components.retraining.record import record_outcome

    with stage("conclude"):
        made = json.loads(Path(decision.path).read_text(encoding="utf-8"))
        registered = Registration.read(registration.path).model_dump(mode="json")
        closed = record_outcome(Path(folder) / "review", made.get("resumes") or made["id"], registered)
        report("conclude", f"{closed['outcome']['status']}: {closed['outcome']['reason']}")
