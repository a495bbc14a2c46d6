"""Entries of the audit trail for tests, whole but for what a test is about."""

from datetime import UTC, datetime
from typing import Any

from components.contracts.documents.champion import ChampionRecord, Registration, Reign
from components.contracts.documents.retraining import Decision, Incumbent, LookedAt, Outcome
from components.retraining.trail import Place

NEWEST_BAR = datetime(2024, 1, 1, tzinfo=UTC)
SOMEWHERE = Place("20240310T000000000000Z", datetime(2024, 3, 10, tzinfo=UTC))


def looked_at(newest_bar: datetime = NEWEST_BAR) -> LookedAt:
    return LookedAt(
        rows=100,
        bars=10,
        first=None,
        last=None,
        source="served",
        current_sha256="d" * 64,
        panel_sha256="e" * 64,
        source_sha256="",
        newest_bar=newest_bar,
    )


def reign(version: int = 1, why: str = "first", **about: Any) -> Reign:
    usual = {"previous": version - 1 or None, "when": NEWEST_BAR, "who": "pipeline"}
    return Reign(version=version, why=why, **usual | about)


def champion(**about: Any) -> ChampionRecord:
    """The first version, in service since it was registered, but for `about`."""
    usual = {
        "version": 1,
        "run_id": "run",
        "bundle_sha256": "b" * 64,
        "inputs": {},
        "horizon": 5,
        "known_until": NEWEST_BAR,
        "train_window": "2020-01-01..2023-12-31",
        "history": [reign()],
        "newest": None,
    }
    return ChampionRecord(**usual | about)


def registered(
    version: int | None, after: int | None, status: str = "registered", **about: Any
) -> Registration:
    """What the registry says of a model that the gates judged, where version 3 was champion before."""
    usual = {
        "name": "demo",
        "aliases": [],
        "run_id": "run",
        "bundle_sha256": "b" * 64,
        "trials": 1,
        "champion_before": 3,
        "reason": "gates say",
        "history": [],
        "tracking_uri": "",
    }
    return Registration(status=status, version=version, champion_after=after, **usual | about)


def decided(place: Place = SOMEWHERE, **about: Any) -> Decision:
    """A retraining that a rule began and that has no outcome, but for `about`."""
    usual = {
        "action": "retrain",
        "by": "rule",
        "who": None,
        "reason": "why",
        "rules": ("psi",),
        "data": looked_at(),
        "champion": Incumbent(version=1, bundle_sha256="c" * 64),
        "drift_report": None,
        "outcome": None,
    }
    return Decision(id=place.id, when=place.when, **usual | about)


def ended(status: str = "promoted", **about: Any) -> Outcome:
    """A retraining whose model became champion, but for `about`."""
    usual = {
        "when": SOMEWHERE.when,
        "version": 2,
        "champion_before": 1,
        "champion_after": 2,
        "reason": "better",
    }
    return Outcome(status=status, **usual | about)
