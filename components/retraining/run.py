"""What the doors of retraining do: gather what was served, decide on it, and write down how it ended."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts import SERVED, write_table
from components.contracts.documents.champion import ChampionRecord, Registration
from components.contracts.documents.retraining import Decision
from components.lasting.folder import below, fetched
from components.progress import expect, report, stage
from components.retraining.collect import answers_wanted, collect_served
from components.retraining.config import Settings
from components.retraining.record import record_decision, record_outcome
from components.retraining.review_folder import opened_review


@dataclass(frozen=True)
class Checked:
    """The artifacts of one check: the drift report's folder, what was served, the market, and champion.json's
    folder.
    """

    drift: Path
    current: Path
    panel: Path
    champion: Path


@dataclass(frozen=True)
class Retrained:
    """The decision that retrained, and what the registry says of the model."""

    decision: Path
    registration: Path


def run_collect_served(
    champion: Path, current: Path, *, window_bars: int, folder: str, code: str
) -> pl.DataFrame:
    """Write the champion's answers on bars that it has not learned from as a SERVED table to `current`.

    `folder` is where the service keeps what lasts, a path or an address.
    """
    with stage("served"):
        about = ChampionRecord.find(champion / "champion.json")
        with fetched(below(folder, "served"), answers_wanted(about)) as served:
            rows = collect_served(served, about, window_bars=window_bars)
        write_table(
            rows,
            current,
            SERVED,
            code_version=code,
            config_hash=f"window_bars={window_bars}",
            inputs={"champion": about.bundle_sha256 if about else ""},
        )
        found = f"{len(rows):,} answers on {rows['timestamp'].n_unique():,} bars"
        report("served", found if len(rows) else "nothing served yet that the champion has not learned from")
    return rows


def run_decide(
    inputs: Checked, decision: Path, *, settings: str, source: str, folder: str, trains: bool = True
) -> Decision:
    """Decide on a check, in the audit trail below `folder`, a path or an address, and as a document in
    `decision`; `trains`: whether a retraining follows where that is decided.
    """
    with stage("decide"):
        with opened_review(folder) as review:
            made = record_decision(
                review,
                drift=inputs.drift,
                current=inputs.current,
                panel=inputs.panel,
                champion=ChampionRecord.find(inputs.champion / "champion.json"),
                settings=Settings.model_validate_json(settings),
                source=source,
                trains=trains,
            )
        made.write(decision)
        if made.retrains:
            expect("decide", "conclude")
        report("decide", f"{made.action}: {made.reason}")
    return made


def run_conclude(inputs: Retrained, *, folder: str) -> Decision:
    """Close the decision in the audit trail below `folder`, a path or an address."""
    with stage("conclude"):
        made = Decision.read(inputs.decision)
        registered = Registration.read(inputs.registration)
        with opened_review(folder) as review:
            closed = record_outcome(review, made.resumes or made.id, registered)
        report("conclude", f"{closed.outcome.status}: {closed.outcome.reason}")
    return closed
