"""The review page: what is champion and why, what was decided on which data, and what a reviewer can do.

One static file beside the files that it shows.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from components.contracts import atomic_write_text
from components.contracts.documents.drift import ColumnDrift, CurrentRows, DriftReport
from components.contracts.documents.retraining import Decision, LookedAt
from components.page import number, render
from components.retraining.review_folder import DRIFT, Review, read_review
from components.retraining.timeline_picture import ACTIONS, action_name, anchor, timeline_picture, tone

PAGE = "index.html"
COMMANDS = [
    (
        'alphaloop review hold --reason "..."',
        "No retraining starts or is resumed until a later force or approve.",
    ),
    (
        'alphaloop review force --reason "..."',
        "The next check retrains, whatever the rules say. Lifts a hold.",
    ),
    (
        'alphaloop review approve --reason "..."',
        "The retraining that waits for approval starts at the next check. Lifts a hold.",
    ),
]
VERDICTS = {
    "drift": ("drift", "waiting"),
    "no_drift": ("no drift", "done"),
    "not_enough_data": ("not enough data", "quiet"),
}
LEGEND = [
    ("done", "new champion"),
    ("kept", "champion kept"),
    ("broken", "retraining failed"),
    ("running", "retraining, not finished"),
    ("waiting", "waits or is held"),
    ("quiet", "nothing done"),
    ("hold", "hold in force"),
]


@dataclass(frozen=True)
class Link:
    """Where a reader can go; without an address the words say why not."""

    text: str
    href: str = ""


@dataclass(frozen=True)
class DecisionEntry:
    """A decision as the list shows it."""

    decision: Decision
    tone: str
    facts: str
    report: Link | None


@dataclass(frozen=True)
class ReportEntry:
    """A drift report as the list shows it; `when` is null where neither a decision nor its rows tell it."""

    name: str
    when: datetime | None
    decision: Decision | None
    verdict: tuple[str, str]
    mover: ColumnDrift | None
    moved: str
    reason: str
    facts: str
    links: list[Link]


def write_review_page(folder: Path) -> Path:
    """Write `index.html` into the review folder and return its path.

    Parameters
    ----------
    folder : `review` of a run, with `decisions/*.json`, `words/*.json`, `drift/*/drift.json` and
        `champions.json`; each may be missing. A file that can't be read is named on the page.

    Raises
    ------
    OutputError
        If the page can't be written; an older page is untouched.
    """
    review, now = read_review(folder), datetime.now(UTC)
    html = render(
        "retraining/page.html",
        name=folder.resolve().parent.name,
        now=now,
        review=review,
        champion=review.champions[-1] if review.champions else None,
        hold=review.hold(),
        waiting=review.open_decision(),
        last=review.decisions[0] if review.decisions else None,
        state=_state(review),
        retrained=sum(decision.action == "retrain" for decision in review.decisions),
        timeline=timeline_picture(review, now),
        chips=_chips(review),
        decisions=[_decision_entry(folder, decision) for decision in review.decisions],
        reports=_report_entries(folder, review),
        commands=COMMANDS,
        legend=LEGEND,
        **_words(),
    )
    # A file name may hold what no text can: it is shown with a question mark in its place.
    atomic_write_text(folder / PAGE, html.encode("utf-8", "replace").decode("utf-8"))
    return folder / PAGE


def _words() -> dict[str, Any]:
    """How the page names things."""
    return {
        "action_name": action_name,
        "anchor": anchor,
        "version": _version,
        "by": _by,
        "minute": lambda moment: f"{moment:%Y-%m-%d %H:%M}",
    }


def _state(review: Review) -> tuple[str, str]:
    """What the loop is doing, in a word and its colour."""
    waiting = review.open_decision()
    if review.hold():
        return "on hold", "warn"
    if waiting:
        return "waits for approval" if waiting.action == "waiting_for_approval" else "retraining", "warn"
    return ("quiet", "good") if review.decisions else ("no decision yet", "soft")


def _chips(review: Review) -> list[tuple[str, str, int]]:
    """Filters of the decisions: action, its name, how many; all of them first."""
    counts = Counter(decision.action for decision in review.decisions)
    order = [action for action in ACTIONS if action in counts] + sorted(set(counts) - set(ACTIONS))
    return [
        ("", "all", len(review.decisions)),
        *((action, action_name(action), counts[action]) for action in order),
    ]


def _decision_entry(folder: Path, decision: Decision) -> DecisionEntry:
    outcome = decision.outcome
    change = f"champion {_version(decision.champion.version)}"
    if outcome:
        change = f"champion {_version(outcome.champion_before)} → {_version(outcome.champion_after)}"
    data = f"data {decision.data.current_sha256[:8]}"
    facts = [_by(decision), _span(decision.data), data, change]
    return DecisionEntry(
        decision=decision,
        tone=tone(decision),
        facts=" · ".join(fact for fact in facts if fact),
        report=_report_link(folder, decision),
    )


def _by(decision: Decision) -> str:
    """By which rule or person."""
    which = "rules" if len(decision.rules) > 1 else "rule"
    rules = f"{which} {', '.join(decision.rules)}" if decision.rules else "no rule fired"
    if decision.by == "rule":
        return rules
    person = " ".join(part for part in (decision.by, decision.who) if part)
    return f"by {person} ({rules})" if decision.rules else f"by {person}"


def _report_link(folder: Path, decision: Decision) -> Link | None:
    """A link to the decision's drift report where it is a file of this folder; words where it is not."""
    if not decision.drift_report:
        return None
    path = Path(decision.drift_report)
    if path.is_absolute() or ".." in path.parts or not _is_file(folder / path):
        return Link("drift report missing")
    return Link("Drift report", _href(path))


def _report_entries(folder: Path, review: Review) -> list[ReportEntry]:
    """All drift reports, newest first."""
    decided = {
        Path(decision.drift_report).parent.name: decision
        for decision in review.decisions
        if decision.drift_report
    }
    entries = [
        _report_entry(folder, name, report, decided.get(name)) for name, report in review.drift.items()
    ]
    earliest = datetime.min.replace(tzinfo=UTC)
    return sorted(entries, key=lambda entry: (entry.when or earliest, entry.name), reverse=True)


def _report_entry(folder: Path, name: str, report: DriftReport, decision: Decision | None) -> ReportEntry:
    fired = ", ".join(rule.rule for rule in report.fired)
    facts = [
        f"{len(report.moved)} of {len(report.columns)} columns drifted",
        _span(report.current),
        f"rules that fired: {fired}" if fired else "no rule fired",
    ]
    pages = [("index.html", "Drift report"), ("evidently.html", "Evidently's pictures")]
    links = [
        Link(text, _href(Path(DRIFT, name, file)))
        for file, text in pages
        if _is_file(folder / DRIFT / name / file)
    ]
    mover = max((one for one in report.moved if one.ks is not None), key=lambda one: one.ks, default=None)
    return ReportEntry(
        name=name,
        when=decision.when if decision else report.current.last,
        decision=decision,
        verdict=VERDICTS[report.verdict],
        mover=mover,
        moved=_moved(report, mover),
        reason=report.reason,
        facts=" · ".join(fact for fact in facts if fact),
        links=links or [Link("report page missing")],
    )


def _moved(report: DriftReport, mover: ColumnDrift | None) -> str:
    """What moved most, after the column's name."""
    if mover:
        what = f", {mover.what}" if mover.what else ""
        return f"moved most: KS {number(mover.ks, 3)}, PSI {number(mover.psi, 3)}{what}"
    return "no factor moved beyond what is usual" if report.columns else "no column compared"


def _version(version: int | None) -> str:
    return "none" if version is None else f"v{version}"


def _span(data: LookedAt | CurrentRows) -> str:
    """The bars and rows of a table, in words."""
    bars = ""
    if data.first and data.last:
        form = "%Y-%m-%d" if data.last - data.first > timedelta(days=5) else "%Y-%m-%d %H:%M"
        bars = f"bars {data.first:{form}} to {data.last:{form}}"
    rows = f"{data.rows:,} rows" if data.rows is not None else ""
    return ", ".join(part for part in (bars, rows) if part)


def _href(path: Path) -> str:
    """A relative address that can't be taken for another scheme: it starts with the folder's name."""
    return "./" + quote(path.as_posix())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
