"""The picture of champions over time with every decision and word marked on it, as SVG that takes its colours
from the page.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from components.page import escape
from components.retraining.review_folder import Decision, Reign, Review, Word

WIDTH, LEFT, RIGHT, TOP, BAND, LANE, FOOT = 1160, 176, 16, 8, 38, 28, 26
ACTIONS = {
    "retrain": "retraining",
    "resume": "resumed",
    "waiting_for_approval": "waits for approval",
    "held": "held",
    "cooling_down": "cooling down",
    "not_enough_data": "not enough data",
    "none": "no action",
}
MOST_TICKS = 10
STEPS = (
    [timedelta(minutes=m) for m in (1, 5, 15, 30)]
    + [timedelta(hours=h) for h in (1, 3, 6, 12)]
    + [timedelta(days=d) for d in (1, 2, 7, 14, 30, 91, 182, 365, 1826)]
)


def action_name(action: str) -> str:
    """An action in words."""
    return ACTIONS.get(action, action)


def anchor(kind: str, identifier: str) -> str:
    """The place of an entry on the page, as it stands in `id` and after `#`."""
    return f"{kind}-{quote(identifier, safe='')}"


def timeline_picture(review: Review, now: datetime) -> str:
    """One band of champions, one lane for each action that occurred, one for the reviewers' words; the marks
    lead to their entries.
    """
    moments = [entry.when for entry in (*review.decisions, *review.words, *review.champions)] + [
        d.outcome.when for d in review.decisions if d.outcome
    ]
    if not moments:
        return ""
    start, end = min(moments), max([*moments, now])
    margin = max((end - start) * 0.02, timedelta(seconds=30))
    start, span = start - margin, (end - start + 2 * margin).total_seconds()

    def x(moment: datetime) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (moment - start).total_seconds() / span, 1)

    actions = sorted(
        {decision.action for decision in review.decisions},
        key=lambda action: (list(ACTIONS).index(action) if action in ACTIONS else len(ACTIONS), action),
    )
    lanes = {action: TOP + BAND + 18 + LANE * k for k, action in enumerate(actions)}
    words_at = TOP + BAND + 18 + LANE * len(actions)
    bottom = words_at + (LANE if review.words else 0) - LANE // 2 + 4
    parts = [
        _axis(start, start + timedelta(seconds=span), x, bottom),
        _holds(review.words, end, x, bottom),
        _champions(review.champions, end, x, bottom),
        *(
            _label(y, action_name(action), f"{sum(d.action == action for d in review.decisions)}")
            for action, y in lanes.items()
        ),
        *(
            _decision(decision, x(decision.when), lanes[decision.action])
            for decision in reversed(review.decisions)
        ),
        _label(words_at, "reviewers' words", str(len(review.words))) if review.words else "",
        *(_word(word, x(word.when), words_at) for word in reversed(review.words)),
    ]
    return (
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {bottom + FOOT}" role="img" aria-label="Champions over'
        f' time with decisions marked">{"".join(parts)}</svg>'
    )


def _label(y: float, text: str, count: str) -> str:
    return (
        f'<text x="{LEFT - 48}" y="{y + 4}" text-anchor="end">{escape(text)}</text><text class="count"'
        f' x="{LEFT - 14}" y="{y + 4}" text-anchor="end">{count}</text>'
    )


def _axis(start: datetime, end: datetime, x, bottom: float) -> str:
    step = next((step for step in STEPS if (end - start) / step <= MOST_TICKS), STEPS[-1])
    tick = datetime.fromtimestamp(-(-start.timestamp() // step.total_seconds()) * step.total_seconds(), UTC)
    form = "%Y-%m-%d" if step >= timedelta(days=1) else "%m-%d %H:%M"
    marks = []
    while tick <= end:
        marks.append(
            f'<line class="grid-line" x1="{x(tick)}" x2="{x(tick)}" y1="{TOP}" y2="{bottom}"/><text'
            f' class="tick" x="{x(tick)}" y="{bottom + 18}">{tick:{form}}</text>'
        )
        tick += step
    return "".join(marks)


def _holds(words: Sequence[Word], end: datetime, x, bottom: float) -> str:
    """A shade wherever a hold was in force: from the word `hold` to the next word that is not."""
    shades, since = [], None
    for word in reversed(words):
        if word.word == "hold":
            since = since or word.when
        elif since:
            shades.append((since, word.when))
            since = None
    if since:
        shades.append((since, end))
    return "".join(
        f'<rect class="hold" x="{x(a)}" y="{TOP + BAND + 4}" width="{max(x(b) - x(a), 1):.1f}"'
        f' height="{bottom - TOP - BAND - 4}"><title>hold in force</title></rect>'
        for a, b in shades
    )


def _champions(champions: Sequence[Reign], end: datetime, x, bottom: float) -> str:
    if not champions:
        return f'<text x="{LEFT}" y="{TOP + BAND / 2 + 4}">no champion yet</text>'
    parts = [f'<text x="{LEFT - 14}" y="{TOP + BAND / 2 + 4}" text-anchor="end">champion</text>']
    for k, (reign, until) in enumerate(
        zip(champions, [*(reign.when for reign in champions[1:]), end], strict=True)
    ):
        left, width = x(reign.when), max(x(until) - x(reign.when), 2)
        name = (
            f'<text class="version" x="{left + width / 2:.1f}"'
            f' y="{TOP + BAND / 2 + 4}">v{reign.version}</text>'
            if width > 26
            else ""
        )
        about = escape(
            f"version {reign.version} since {reign.when:%Y-%m-%d %H:%M} UTC, by {reign.who}: {reign.why}"
        )
        parts.append(
            f'<a href="#champions"><line class="change" x1="{left}" x2="{left}" y1="{TOP}"'
            f' y2="{bottom}"/><rect class="reign {"odd" if k % 2 else "even"}" x="{left}" y="{TOP}"'
            f' width="{width:.1f}" height="{BAND}" rx="4"><title>{about}</title></rect>{name}</a>'
        )
    return "".join(parts)


def _decision(decision: Decision, x: float, y: float) -> str:
    about = escape(f"{decision.when:%Y-%m-%d %H:%M} UTC, {action_name(decision.action)}: {decision.reason}")
    return (
        f'<a href="#{anchor("decision", decision.id)}"><circle class="mark {tone(decision)}" cx="{x}"'
        f' cy="{y}"'
        f' r="{6 if decision.action in ("retrain", "resume") else 4.5}"><title>{about}</title></circle></a>'
    )


def _word(word: Word, x: float, y: float) -> str:
    about = escape(f"{word.when:%Y-%m-%d %H:%M} UTC, {word.who} says {word.word}: {word.reason}")
    return (
        f'<a href="#{anchor("word", word.id)}"><path class="mark word" d="M{x} {y - 7}l7 7l-7 7l-7'
        f' -7z"><title>{about}</title></path></a>'
    )


def tone(decision: Decision) -> str:
    """How a decision is coloured: by what came of it, else by its action."""
    if decision.outcome:
        after, before = decision.outcome.champion_after, decision.outcome.champion_before
        return (
            "done"
            if after is not None and after != before
            else ("broken" if "fail" in decision.outcome.status else "kept")
        )
    return {
        "retrain": "running",
        "resume": "running",
        "waiting_for_approval": "waiting",
        "held": "waiting",
    }.get(decision.action, "quiet")
