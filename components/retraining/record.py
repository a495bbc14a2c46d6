"""Writes a check into the review folder: the decision and its drift report, later the outcome, and each time
the review page.
"""

from pathlib import Path

import polars as pl

from components.contracts import ContractError, read_stamp
from components.contracts.documents.champion import ChampionRecord, Registration
from components.contracts.documents.drift import DriftReport
from components.contracts.documents.retraining import Decision, Incumbent, LookedAt
from components.retraining.config import Settings
from components.retraining.decide import Check, decide, outcome
from components.retraining.page import write_review_page
from components.retraining.reports import (
    DRIFT,
    PAGE,
    clear_pictures,
    publish_report,
    tell_decision,
    write_champions,
)
from components.retraining.trail import Place, Trail, append_decision, close_decision, read_trail


def record_decision(
    review: Path,
    *,
    drift: Path,
    current: Path,
    panel: Path,
    champion: ChampionRecord | None,
    settings: Settings,
    source: str,
    trains: bool = True,
) -> Decision:
    """Decide on one check and keep the decision; an earlier retraining without outcome is resumed, not
    decided again.

    Parameters
    ----------
    review : folder of the audit trail
    drift : folder of the drift stage, with `drift.json` and its pages
    current, panel : the stamped tables that the check looked at: what was served, and the market
    champion : None where there is none
    source : content hash of the market data; empty where it can't be seen
    trains : whether a retraining follows where that is decided
    """
    found = DriftReport.read(drift / "drift.json")
    bars = pl.scan_parquet(panel).select(pl.col("timestamp").unique().sort()).collect()["timestamp"]
    check = Check(
        drift=found,
        champion=_incumbent(champion),
        data=LookedAt(
            rows=found.current.rows,
            bars=found.current.bars,
            first=found.current.first,
            last=found.current.last,
            source=found.current.source,
            current_sha256=read_stamp(current).content_sha256,
            panel_sha256=read_stamp(panel).content_sha256,
            source_sha256=source,
            newest_bar=bars[-1],
        ),
        bars=bars,
        trains=trains,
    )

    def make(trail: Trail, place: Place) -> Decision:
        made = decide(check, trail, settings, place)
        return made.model_copy(update={"drift_report": publish_report(drift, review, made.id)})

    made = append_decision(review, make)
    tell_decision(review / DRIFT / made.id / PAGE, made)
    write_champions(champion.history if champion else [], review)
    clear_pictures(review, settings.keep_pictures)
    write_review_page(review)
    return made


def record_outcome(review: Path, identifier: str, registration: Registration) -> Decision:
    """Close a decision with what the registry says of the retrained model, and return it."""
    decision = next((one for one in read_trail(review).decisions if one.id == identifier), None)
    if decision is None:
        raise ContractError(
            f"{review} holds no decision {identifier}. Was the review folder replaced during the retraining?"
        )
    closed = close_decision(review, identifier, outcome(decision, registration))
    tell_decision(review / DRIFT / identifier / PAGE, closed)
    write_champions(registration.history, review)
    write_review_page(review)
    return closed


def _incumbent(champion: ChampionRecord | None) -> Incumbent:
    if champion is None:
        return Incumbent(version=None, bundle_sha256=None)
    return Incumbent(version=champion.version, bundle_sha256=champion.bundle_sha256)
