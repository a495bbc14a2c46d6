"""Writes a check into the review folder: the decision and its drift report, later the outcome, and each time
the review page.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import ContractError, read_stamp
from components.retraining.config import Settings
from components.retraining.decide import decide, outcome
from components.retraining.page import write_review_page
from components.retraining.reports import (
    DRIFT,
    PAGE,
    clear_pictures,
    publish_report,
    tell_decision,
    write_champions,
)
from components.retraining.trail import Trail, append_decision, close_decision, read_trail


def record_decision(
    review: Path,
    *,
    drift: Path,
    current: Path,
    panel: Path,
    champion: Mapping[str, Any],
    settings: Settings,
    source: str,
) -> dict[str, Any]:
    """Decide on one check and keep the decision; an earlier retraining without outcome is resumed, not
    decided again.

    Parameters
    ----------
    review : folder of the audit trail
    drift : folder of the drift stage, with `drift.json` and its pages
    current, panel : the stamped tables that the check looked at: what was served, and the market
    champion : champion.json of the registry stage
    source : content hash of the market data; empty where it can't be seen
    """
    found = _drift_report(drift)
    bars = pl.scan_parquet(panel).select(pl.col("timestamp").unique().sort()).collect()["timestamp"]
    data = {
        **{key: found["current"].get(key) for key in ("rows", "bars", "first", "last", "source")},
        "current_sha256": read_stamp(current).content_sha256,
        "panel_sha256": read_stamp(panel).content_sha256,
        "source_sha256": source,
        "newest_bar": bars[-1].isoformat(),
    }

    def make(trail: Trail, identifier: str) -> dict[str, Any]:
        return {
            **decide(found, champion, trail, settings, bars, data),
            "drift_report": publish_report(drift, review, identifier),
        }

    made = append_decision(review, make)
    tell_decision(review / DRIFT / made["id"] / PAGE, made)
    write_champions(champion.get("history", []), review)
    clear_pictures(review, settings.keep_pictures)
    write_review_page(review)
    return made


def record_outcome(review: Path, identifier: str, registration: Mapping[str, Any]) -> dict[str, Any]:
    """Close a decision with what the registry says of the retrained model, and return it."""
    decision = next((one for one in read_trail(review).decisions if one["id"] == identifier), None)
    if decision is None:
        raise ContractError(
            f"{review} holds no decision {identifier}. Was the review folder replaced during the retraining?"
        )
    closed = close_decision(review, identifier, outcome(decision, registration))
    tell_decision(review / DRIFT / identifier / PAGE, closed)
    write_champions(registration["history"], review)
    write_review_page(review)
    return closed


def _drift_report(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "drift.json").read_text(encoding="utf-8"))
        missing = {"verdict", "reason", "rules", "current"} - found.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise ContractError(
            f"{folder / 'drift.json'} can't be read ({error}). Run the drift stage again."
        ) from error
    if missing:
        raise ContractError(
            f"{folder / 'drift.json'} lacks {sorted(missing)[0]!r}. Run the drift stage again."
        )
    return found
