"""From a drift report, the audit trail and the reviewers' words to a decision: retrain or not, why, by which
rule or person.

The order of the questions: is a retraining unfinished, did a reviewer force one, is there a hold, was a
waiting one approved, is there enough data, did an enabled rule fire, has the market gone on far enough since
the last retraining, is approval required.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl

from components.contracts.documents.champion import Registration
from components.contracts.documents.drift import DriftReport, DriftRule
from components.contracts.documents.retraining import Decision, Incumbent, LookedAt, Outcome, Word
from components.retraining.config import Settings
from components.retraining.trail import Place, Trail


@dataclass(frozen=True)
class Check:
    """What is decided on: the drift report, who is champion, the data that was looked at, and the market's
    bars as sorted distinct timestamps, in which cool-down is counted. `trains`: whether a retraining would
    follow.
    """

    drift: DriftReport
    champion: Incumbent
    data: LookedAt
    bars: pl.Series
    trains: bool = True


@dataclass(frozen=True)
class Answer:
    """What to do and why; by a reviewer's word, or by rule where there is none."""

    action: str
    reason: str
    word: Word | None = None
    resumes: str | None = None
    rules: tuple[str, ...] | None = None  # in place of those that fired


def decide(check: Check, trail: Trail, settings: Settings, place: Place) -> Decision:
    """The decision on one check; its report is not published yet.

    Parameters
    ----------
    trail : everything said and decided before
    place : where the decision will stand in it
    """
    fired = _fired(check.drift, settings)
    answer = (
        _unfinished(trail)
        or _forced(trail, check.drift)
        or _held(trail, check.drift, fired)
        or _approved(trail)
        or _by_rule(check, trail, fired, settings)
    )
    if not check.trains and answer.action in ("retrain", "resume"):
        answer = _advised(answer)
    return Decision(
        id=place.id,
        when=place.when,
        action=answer.action,
        by="reviewer" if answer.word else "rule",
        who=answer.word.who if answer.word else None,
        reason=answer.reason,
        rules=tuple(rule.rule for rule in fired) if answer.rules is None else answer.rules,
        data=check.data,
        champion=check.champion,
        resumes=answer.resumes,
        drift_report=None,
        outcome=None,
    )


def _advised(answer: Answer) -> Answer:
    """What a check that trains nothing makes of the decision to retrain: words stay unanswered and nothing is
    begun, so the next retraining decides anew.
    """
    reason = f"{answer.reason}; this check trains nothing, the retraining pipeline would"
    return replace(answer, action="advised", reason=reason, resumes=None)


def outcome(decision: Decision, registration: Registration) -> Outcome:
    """How a retraining ended, from what the registry says:

    `promoted`, `kept_champion` or `rejected` by the gates.

    A retraining that was killed after the promotion meets its own model as champion when it is resumed;
    compared is therefore with the champion at the time of the decision.
    """
    before = decision.champion.version
    after, version = registration.champion_after, registration.version
    promoted = version is not None and version == after and version != before
    status = "rejected" if registration.status == "rejected" else "kept_champion"
    reason = registration.reason
    if promoted:
        status = "promoted"
        told = (reign.why for reign in reversed(registration.history) if reign.version == version)
        reason = next(told, reason)
    return Outcome(
        when=datetime.now(UTC).replace(microsecond=0),
        status=status,
        version=version,
        champion_before=before,
        champion_after=after,
        reason=reason,
    )


def _fired(drift: DriftReport, settings: Settings) -> tuple[DriftRule, ...]:
    """The rules that fired and may trigger a retraining."""
    if drift.verdict != "drift":
        return ()
    return tuple(rule for rule in drift.fired if rule.rule in settings.rules)


def _unfinished(trail: Trail) -> Answer | None:
    """An unfinished retraining is resumed, unless there is a hold."""
    unfinished, hold = trail.open_decision(), _hold(trail)
    if unfinished is None:
        return None
    which = f"the retraining of decision {unfinished.id}"
    if hold:
        return Answer("held", f"{which} is unfinished, and {_says(hold)}", hold)
    return Answer("resume", f"{which} has no outcome yet: {unfinished.reason}", resumes=unfinished.id)


def _forced(trail: Trail, drift: DriftReport) -> Answer | None:
    force = _unanswered(trail, "force")
    if force is None:
        return None
    return Answer("retrain", f"{_says(force)}; the drift report says: {drift.reason}", force)


def _held(trail: Trail, drift: DriftReport, fired: Sequence[DriftRule]) -> Answer | None:
    hold = _hold(trail)
    if hold is None:
        return None
    otherwise = (
        f"without it these rules would count: {_all(fired)}"
        if fired
        else f"the drift report says: {drift.reason}"
    )
    return Answer("held", f"{_says(hold)}; {otherwise}", hold)


def _approved(trail: Trail) -> Answer | None:
    """What waited goes ahead with the rules that it waited for."""
    approved, waiting = _unanswered(trail, "approve"), _waiting(trail)
    if not (approved and waiting and approved.id > waiting.id):
        return None
    reason = f"{_says(approved)}; decision {waiting.id} waited for it: {waiting.reason}"
    return Answer("retrain", reason, approved, rules=waiting.rules)


def _by_rule(check: Check, trail: Trail, fired: Sequence[DriftRule], settings: Settings) -> Answer:
    """What the report leads to where no person has said anything."""
    if check.drift.verdict == "not_enough_data":
        return Answer("not_enough_data", check.drift.reason)
    if not fired:
        return Answer("none", _why_none(check.drift, settings))
    since = _newest_bar_of_last(trail)
    gone = int((check.bars > since).sum()) if since else settings.cool_down_bars
    if gone < settings.cool_down_bars:
        return Answer(
            "cooling_down",
            f"{gone} of {settings.cool_down_bars} bars have passed since {since.isoformat()}, the newest bar"
            f" of the last retraining; {_all(fired)}",
        )
    return Answer("waiting_for_approval" if settings.approval == "required" else "retrain", _all(fired))


def _hold(trail: Trail) -> Word | None:
    """The hold in force: a later force or approve lifts it."""
    return trail.words[-1] if trail.words and trail.words[-1].word == "hold" else None


def _unanswered(trail: Trail, word: str) -> Word | None:
    """The newest `word` that no retraining was begun or resumed after; a hold takes back what was said before
    it.
    """
    for one in reversed(trail.words):
        if one.word == word:
            answered = any(made.retrains and made.id > one.id for made in trail.decisions)
            return None if answered else one
        if one.word == "hold":
            return None
    return None


def _waiting(trail: Trail) -> Decision | None:
    """The newest decision that waits for approval; it waits no longer once a later check found nothing or a
    retraining followed.
    """
    for one in reversed(trail.decisions):
        if one.action == "waiting_for_approval":
            return one
        if one.action in ("none", "retrain"):
            return None
    return None


def _why_none(drift: DriftReport, settings: Settings) -> str:
    silent = [rule.rule for rule in drift.fired if rule.rule not in settings.rules]
    not_enabled = f"; fired but not in retraining.rules: {', '.join(silent)}"
    return f"{drift.reason}{not_enabled if silent else ''}"


def _newest_bar_of_last(trail: Trail) -> datetime | None:
    """The newest bar that the last retraining saw; None where there was none."""
    return next((one.data.newest_bar for one in reversed(trail.decisions) if one.retrains), None)


def _all(fired: Sequence[DriftRule]) -> str:
    return "; ".join(map(str, fired))


def _says(word: Word) -> str:
    return f"{word.who} said {word.word}: {word.reason}"
