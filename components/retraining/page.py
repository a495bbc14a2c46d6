"""The review page: what is champion and why, what was decided on which data, and what a reviewer can do.

One static file beside the files that it shows.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from components.contracts import atomic_write_text
from components.page import card, escape, number, page, section, table, tile
from components.retraining.review_folder import DRIFT, Decision, Drift, Review, Span, Word, read_review
from components.retraining.timeline_picture import ACTIONS, action_name, anchor, timeline_picture, tone

PAGE = "index.html"
FOLDER = Path(__file__).parent
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
    review, now, name = read_review(folder), datetime.now(UTC), folder.resolve().parent.name
    parts = [
        ("now", "Now", _now(review)),
        ("timeline", "Timeline", _timeline(review, now)),
        ("decisions", "Decisions", _decisions(folder, review)),
        ("drift", "Drift reports", _drift(folder, review)),
        ("words", "Reviewers' words", _words(review)),
        ("champions", "Champions", _champions(review)),
    ]
    style, script = ((FOLDER / file).read_text(encoding="utf-8") for file in ("page.css", "page.js"))
    html = page(f"{name}: review", _head(review, name, now), parts, plots=False, style=style, script=script)
    atomic_write_text(folder / PAGE, html.encode("utf-8", "replace").decode("utf-8"))
    return folder / PAGE


def _head(review: Review, name: str, now: datetime) -> str:
    waiting = review.open_decision()
    word, colour = ("quiet", "good") if review.decisions else ("no decision yet", "soft")
    if waiting:
        word, colour = (
            ("waits for approval", "warn")
            if waiting.action == "waiting_for_approval"
            else ("retraining", "warn")
        )
    if review.hold():
        word, colour = "on hold", "warn"
    retrained = sum(decision.action == "retrain" for decision in review.decisions)
    problems = "".join(
        f"<li><code>{escape(file)}</code>: {escape(found)}</li>" for file, found in review.problems
    )
    broken = _note(
        "<p>Left out of this page. Mend or remove them; the page is written anew after each"
        f" decision.</p><ul>{problems}</ul>",
        "Files that can't be read",
        "bad",
    )
    return (
        f'<h1>{escape(name)}: review<span class="badge {colour}">{word}</span></h1>'
        f'<p class="soft">{len(review.decisions):,} decisions, {retrained:,} of them to retrain;'
        f" {len(review.drift):,} drift reports. Written {_time(now)}, times in UTC.</p>"
        f"{broken if problems else ''}"
    )


def _now(review: Review) -> str:
    champion, hold, waiting = (
        review.champions[-1] if review.champions else None,
        review.hold(),
        review.open_decision(),
    )
    last = review.decisions[0] if review.decisions else None
    tiles = [
        _tile(
            f"v{champion.version}" if champion else "none",
            "champion",
            (
                f"since {_time(champion.when)}, by {escape(champion.who)}"
                if champion
                else "no model was approved yet"
            ),
        ),
        _tile(
            escape(action_name(last.action)) if last else "none yet",
            "last decision",
            f"{_link(last)}, {escape(_by(last))}" if last else "see below how to start",
        ),
        _tile(
            "in force" if hold else "none",
            "hold",
            (
                f"since {_time(hold.when)}, by {escape(hold.who)}: {escape(hold.reason)}"
                if hold
                else "retraining may start by itself"
            ),
        ),
        _tile(
            escape(action_name(waiting.action)) if waiting else "none",
            "open decision",
            f"{_link(waiting)}: {escape(waiting.reason)}" if waiting else "nothing waits",
        ),
    ]
    commands = "".join(
        f"<dt><code>{escape(command)}</code></dt><dd>{escape(effect)}</dd>" for command, effect in COMMANDS
    )
    actions = card(f'<dl class="commands">{commands}</dl>', title="What a reviewer can do")
    empty = "" if review.decisions else _empty(review)
    return f'<div id="now" class="tiles">{"".join(tiles)}</div><div class="grid">{empty}{actions}</div>'


def _tile(value: str, label: str, about: str) -> str:
    return tile(value, label).removesuffix("</div>") + f"<em>{about}</em></div>"


def _link(decision: Decision) -> str:
    return f'<a href="#{anchor("decision", decision.id)}">{_time(decision.when)}</a>'


def _empty(review: Review) -> str:
    first = (
        ""
        if review.champions
        else (
            "<p>A first champion comes from <code>alphaloop run</code>, and <code>alphaloop serve</code>"
            " answers with it.</p>"
        )
    )
    steps = (
        "<p><code>alphaloop watch</code> compares what was served with what the champion was trained on, on a"
        " schedule, and decides each time whether to retrain. Each decision appears here.</p>"
    )
    return _note(f"{first}{steps}", "No decision yet", "warn")


def _timeline(review: Review, now: datetime) -> str:
    picture = timeline_picture(review, now)
    if not picture:
        return section(
            "timeline",
            "Timeline",
            "Champions over time, with every decision marked.",
            card("<p>Nothing has happened yet.</p>"),
        )
    legend = "".join(f'<span><i class="{name}"></i>{escape(text)}</span>' for name, text in LEGEND)
    return section(
        "timeline",
        "Timeline",
        "Champions over time, with every decision marked. A mark leads to its entry.",
        card(f'<div class="scroll">{picture}</div><p class="legend">{legend}</p>'),
    )


def _decisions(folder: Path, review: Review) -> str:
    counts = Counter(decision.action for decision in review.decisions)
    order = [action for action in ACTIONS if action in counts] + sorted(set(counts) - set(ACTIONS))
    chips = "".join(
        '<label class="chip"><input type="radio" name="action"'
        f' value="{escape(action)}"{"" if action else " checked"}><span>{escape(text)} {count}</span></label>'
        for action, text, count in [
            ("", "all", len(review.decisions)),
            *((action, action_name(action), counts[action]) for action in order),
        ]
    )
    filters = (
        '<div class="filters" hidden><input type="search" placeholder="Filter: a rule, a reason, a date, v3'
        f' ..." aria-label="Filter decisions">{chips}<span class="soft found"'
        ' aria-live="polite"></span></div>'
    )
    entries = "".join(_decision(folder, decision) for decision in review.decisions)
    body = filters + entries if entries else "<p>None yet.</p>"
    return section(
        "decisions",
        "Decisions",
        "Newest first: what was decided, by which rule or person, on which data, and what came of it.",
        _list("decisions", body),
    )


def _list(name: str, body: str) -> str:
    return card(f'<div data-list="{name}">{body}</div>')


def _entry(identifier: str, left: str, middle: str, right: str, *, action: str = "") -> str:
    return (
        f'<article class="entry" id="{escape(identifier)}"'
        f' data-action="{escape(action)}"><div>{left}</div><div>{middle}</div><div'
        f' class="links">{right}</div></article>'
    )


def _decision(folder: Path, decision: Decision) -> str:
    facts = [_by(decision), _span(decision.data)]
    if decision.data and decision.data.current_sha256:
        facts.append(f"data {decision.data.current_sha256[:8]}")
    outcome = decision.outcome
    change = f"champion {_version(decision.champion.version)}" if decision.champion else ""
    after = ""
    if outcome:
        change = f"champion {_version(outcome.champion_before)} → {_version(outcome.champion_after)}"
        after = f"<p>{_time(outcome.when)} {escape(outcome.status)}: {escape(outcome.reason)}</p>"
    return _entry(
        anchor("decision", decision.id),
        f"{_time(decision.when)} {_pill(action_name(decision.action), tone(decision))}",
        f"<p>{escape(decision.reason)}</p>{after}<p"
        f' class="facts">{escape(" · ".join(fact for fact in [*facts, change] if fact))}</p>',
        _report_link(folder, decision),
        action=decision.action,
    )


def _by(decision: Decision) -> str:
    """By which rule or person."""
    rules = (
        f"{'rules' if len(decision.rules) > 1 else 'rule'} {', '.join(decision.rules)}"
        if decision.rules
        else "no rule fired"
    )
    if decision.by == "rule":
        return rules
    return f"by {' '.join(part for part in (decision.by, decision.who) if part)}{f' ({rules})' if decision.rules else ''}"


def _report_link(folder: Path, decision: Decision) -> str:
    """A link to the decision's drift report where it is a file of this folder; words where it is not."""
    if not decision.drift_report:
        return ""
    path = Path(decision.drift_report)
    if path.is_absolute() or ".." in path.parts or not _is_file(folder / path):
        return '<span class="soft">drift report missing</span>'
    return f'<a href="{_href(path)}">Drift report</a>'


def _drift(folder: Path, review: Review) -> str:
    times = {
        Path(decision.drift_report).parent.name: decision
        for decision in review.decisions
        if decision.drift_report
    }

    def newest(name: str) -> tuple[datetime, str]:
        drift, decision = review.drift[name], times.get(name)
        return (
            (
                decision.when
                if decision
                else (drift.current and drift.current.last) or datetime.min.replace(tzinfo=UTC)
            ),
            name,
        )

    entries = "".join(
        _drift_entry(folder, name, review.drift[name], times.get(name))
        for name in sorted(review.drift, key=newest, reverse=True)
    )
    return section(
        "drift",
        "Drift reports",
        "What was served against what the champion was trained on: the verdict, the factor that moved most,"
        " the rules that fired.",
        _list("drift", entries or "<p>None yet.</p>"),
    )


def _drift_entry(folder: Path, name: str, drift: Drift, decision: Decision | None) -> str:
    mover, fired = drift.largest_mover(), [rule for rule in drift.rules if rule.fired]
    moved = (
        f"<b>{escape(mover.column)}</b> moved most: KS {number(mover.ks, 3)}, PSI"
        f" {number(mover.psi, 3)}{escape(f', {mover.what}') if mover.what else ''}"
        if mover
        else "no factor moved beyond what is usual"
        if drift.columns
        else "no column compared"
    )
    drifted = sum(column.drifted for column in drift.columns)
    facts = [
        f"{drifted} of {len(drift.columns)} columns drifted",
        _span(drift.current),
        f"rules that fired: {', '.join(rule.rule for rule in fired)}" if fired else "no rule fired",
    ]
    links = [
        f'<a href="{_href(Path(DRIFT, name, file))}">{text}</a>'
        for file, text in [("index.html", "Drift report"), ("evidently.html", "Evidently's pictures")]
        if _is_file(folder / DRIFT / name / file)
    ]
    word, colour = VERDICTS.get(drift.verdict, (drift.verdict, "quiet"))
    when = (
        _link(decision)
        if decision
        else _time(drift.current.last)
        if drift.current and drift.current.last
        else escape(name)
    )
    return _entry(
        anchor("report", name),
        f"{when} {_pill(word, colour)}",
        f"<p>{moved}</p><p>{escape(drift.reason)}</p><p"
        f' class="facts">{escape(" · ".join(fact for fact in facts if fact))}</p>',
        "".join(links) or '<span class="soft">report page missing</span>',
    )


def _words(review: Review) -> str:
    entries = "".join(_word(word) for word in review.words)
    return section(
        "words",
        "Reviewers' words",
        "Who held, forced or approved, when and why.",
        _list("words", entries or "<p>Nobody has said anything yet.</p>"),
    )


def _word(word: Word) -> str:
    return _entry(
        anchor("word", word.id),
        f"{_time(word.when)} {_pill(word.word, 'word')}",
        f'<p>{escape(word.reason)}</p><p class="facts">by {escape(word.who)}</p>',
        "",
    )


def _champions(review: Review) -> str:
    rows = [
        [
            _time(reign.when),
            f"v{reign.version}",
            _version(reign.previous),
            escape(reign.who),
            escape(reign.why),
        ]
        for reign in reversed(review.champions)
    ]
    body = (
        table(["when", "champion", "before", "by", "why"], rows, chosen=[0], text=[0, 1, 2, 3, 4])
        if rows
        else "<p>No model was champion yet.</p>"
    )
    return section(
        "champions",
        "Champions over time",
        "Every change, newest first, as the registry keeps it.",
        card(body),
    )


def _note(content: str, title: str, colour: str) -> str:
    """A card that stands out by a coloured edge."""
    return f'<div class="card wide note {colour}-edge"><h3>{escape(title)}</h3>{content}</div>'


def _pill(text: str, colour: str) -> str:
    return f'<span class="pill {colour}">{escape(text)}</span>'


def _time(moment: datetime) -> str:
    return f'<time datetime="{moment.isoformat(timespec="seconds")}">{moment:%Y-%m-%d %H:%M}</time>'


def _version(version: int | None) -> str:
    return "none" if version is None else f"v{version}"


def _span(data: Span | None) -> str:
    """The bars and rows of a table, in words."""
    if data is None:
        return ""
    bars = ""
    if data.first and data.last:
        form = "%Y-%m-%d" if data.last - data.first > timedelta(days=5) else "%Y-%m-%d %H:%M"
        bars = f"bars {data.first:{form}} to {data.last:{form}}"
    rows = f"{data.rows:,} rows" if data.rows is not None else ""
    return ", ".join(part for part in (bars, rows) if part)


def _href(path: Path) -> str:
    """A relative address that can't be taken for another scheme: it starts with the folder's name."""
    return escape("./" + quote(path.as_posix()))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
