"""From a drift report, the audit trail and the reviewers' words to a decision: retrain or not, why, by which
rule or person.

The order of the questions: is a retraining unfinished, did a reviewer force one, is there a hold, was a
waiting one approved, is there enough data, did an enabled rule fire, has the market gone on far enough since
the last retraining, is approval required.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl

from components.retraining.config import Settings
from components.retraining.trail import Trail

RETRAINS = ("retrain", "resume")


def decide(
    drift: Mapping[str, Any],
    champion: Mapping[str, Any],
    trail: Trail,
    settings: Settings,
    bars: pl.Series,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """The decision on one check.

    Parameters
    ----------
    drift : the drift report (drift.json)
    champion : `version` (None where there is no champion) and `bundle_sha256`
    trail : everything said and decided before
    bars : sorted distinct timestamps of the market's bars; cool-down is counted in them
    data : what the check looked at; `newest_bar` (ISO) is the newest bar of the market

    Returns
    -------
    JSON-able: `action` (retrain, resume, none, held, cooling_down, waiting_for_approval, not_enough_data),
    `by` (rule or reviewer), `who` (of a reviewer), `rules` (names that fired), `reason`, `data`, `champion`,
    and `resumes` (the identifier of the decision that is resumed).
    """
    fired = (
        [rule for rule in drift["rules"] if rule["fired"] and rule["rule"] in settings.rules]
        if drift["verdict"] == "drift"
        else []
    )
    about = {
        "rules": [rule["rule"] for rule in fired],
        "data": dict(data),
        "champion": {key: champion.get(key) for key in ("version", "bundle_sha256")},
    }

    def decision(
        action: str, reason: str, *, word: Mapping[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        person = {"by": "reviewer", "who": word["who"]} if word else {"by": "rule", "who": None}
        return {"action": action, **person, "reason": reason, **about, **more}

    what_fired = "; ".join(f"{rule['rule']}: {rule['reason']}" for rule in fired)
    unfinished, hold = trail.open_decision(), _hold(trail)
    if unfinished:
        if hold:
            return decision(
                "held",
                f"the retraining of decision {unfinished['id']} is unfinished, and {_says(hold)}",
                word=hold,
            )
        return decision(
            "resume",
            f"the retraining of decision {unfinished['id']} has no outcome yet: {unfinished['reason']}",
            resumes=unfinished["id"],
        )
    force = _unanswered(trail, "force")
    if force:
        return decision("retrain", f"{_says(force)}; the drift report says: {drift['reason']}", word=force)
    if hold:
        otherwise = (
            f"without it these rules would count: {what_fired}"
            if fired
            else f"the drift report says: {drift['reason']}"
        )
        return decision("held", f"{_says(hold)}; {otherwise}", word=hold)
    approved, waiting = _unanswered(trail, "approve"), _waiting(trail)
    if approved and waiting and approved["id"] > waiting["id"]:
        return {
            **decision(
                "retrain",
                f"{_says(approved)}; decision {waiting['id']} waited for it: {waiting['reason']}",
                word=approved,
            ),
            "rules": waiting["rules"],
        }
    if drift["verdict"] == "not_enough_data":
        return decision("not_enough_data", drift["reason"])
    if not fired:
        return decision("none", _why_none(drift, settings))
    gone, since = _bars_since_last(trail, bars)
    if gone is not None and gone < settings.cool_down_bars:
        return decision(
            "cooling_down",
            f"{gone} of {settings.cool_down_bars} bars have passed since {since}, the newest bar of the last"
            f" retraining; {what_fired}",
        )
    if settings.approval == "required":
        return decision("waiting_for_approval", what_fired)
    return decision("retrain", what_fired)


def outcome(decision: Mapping[str, Any], registration: Mapping[str, Any]) -> dict[str, Any]:
    """How a retraining ended, from what the registry says:

    `promoted`, `kept_champion` or `rejected` by the gates.

    A retraining that was killed after the promotion meets its own model as champion when it is resumed;
    compared is therefore with the champion at the time of the decision.
    """
    before, after, version = (
        decision["champion"]["version"],
        registration["champion_after"],
        registration["version"],
    )
    promoted = version is not None and version == after and version != before
    status = (
        "promoted" if promoted else "rejected" if registration["status"] == "rejected" else "kept_champion"
    )
    reason = (
        next(
            (entry["why"] for entry in reversed(registration["history"]) if entry["version"] == version),
            registration["reason"],
        )
        if promoted
        else registration["reason"]
    )
    return {
        "status": status,
        "version": version,
        "champion_before": before,
        "champion_after": after,
        "reason": reason,
    }


def _hold(trail: Trail) -> dict[str, Any] | None:
    """The hold in force: a later force or approve lifts it."""
    return trail.words[-1] if trail.words and trail.words[-1]["word"] == "hold" else None


def _unanswered(trail: Trail, word: str) -> dict[str, Any] | None:
    """The newest `word` that no retraining was begun or resumed after; a hold takes back what was said before
    it.
    """
    for one in reversed(trail.words):
        if one["word"] == word:
            return (
                None
                if any(made["action"] in RETRAINS and made["id"] > one["id"] for made in trail.decisions)
                else one
            )
        if one["word"] == "hold":
            return None
    return None


def _waiting(trail: Trail) -> dict[str, Any] | None:
    """The newest decision that waits for approval; it waits no longer once a later check found nothing or a
    retraining followed.
    """
    for one in reversed(trail.decisions):
        if one["action"] == "waiting_for_approval":
            return one
        if one["action"] in ("none", "retrain"):
            return None
    return None


def _why_none(drift: Mapping[str, Any], settings: Settings) -> str:
    silent = [rule["rule"] for rule in drift["rules"] if rule["fired"] and rule["rule"] not in settings.rules]
    return (
        f"{drift['reason']}; fired but not in retraining.rules: {', '.join(silent)}"
        if silent
        else drift["reason"]
    )


def _bars_since_last(trail: Trail, bars: pl.Series) -> tuple[int | None, str]:
    """Bars newer than the newest one that the last retraining saw, and that bar; None where there was no
    retraining.
    """
    last = next(
        (one["data"]["newest_bar"] for one in reversed(trail.decisions) if one["action"] in RETRAINS), None
    )
    return (None, "") if last is None else (int((bars > datetime.fromisoformat(last)).sum()), last)


def _says(word: Mapping[str, Any]) -> str:
    return f"{word['who']} said {word['word']}: {word['reason']}"
