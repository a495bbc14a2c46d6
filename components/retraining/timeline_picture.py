"""The picture of champions over time with every decision and word marked on it: where each part stands.

timeline.html draws it as SVG that takes its colours from the page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from components.contracts.documents.champion import Reign
from components.contracts.documents.retraining import Decision, Word
from components.retraining.review_folder import Review

WIDTH, LEFT, RIGHT, TOP, BAND, LANE, FOOT = 1160, 176, 16, 8, 38, 28, 26
ACTIONS = {
    "retrain": "retraining",
    "resume": "resumed",
    "waiting_for_approval": "waits for approval",
    "held": "held",
    "advised": "retraining advised",
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


ABOVE_LANES, NARROWEST_NAME = 18, 26


@dataclass(frozen=True)
class Tick:
    """A moment on the axis."""

    x: float
    text: str


@dataclass(frozen=True)
class Band:
    """A stretch of time: a hold in force, or a champion with its version and what to say of it."""

    x: float
    width: float
    version: str = ""  # empty where the band is too narrow to name it
    about: str = ""

    @property
    def middle(self) -> float:
        """Where the version stands."""
        return self.x + self.width / 2


@dataclass(frozen=True)
class Lane:
    """One row of marks: its height, its name, and how many marks it holds."""

    y: float
    name: str
    count: int


@dataclass(frozen=True)
class Mark:
    """A decision or a word; leads to its entry."""

    x: float
    y: float
    leads_to: str
    about: str
    tone: str = ""
    radius: float = 0.0


@dataclass(frozen=True)
class Timeline:
    """Everything on the picture, in its own units; `bottom` is where lanes end and the axis begins."""

    bottom: float
    ticks: list[Tick]
    holds: list[Band]
    reigns: list[Band]
    lanes: list[Lane]
    decisions: list[Mark]
    words: list[Mark]

    width, height_of_axis, left, top, band = WIDTH, FOOT, LEFT, TOP, BAND


def action_name(action: str) -> str:
    """An action in words."""
    return ACTIONS.get(action, action)


def anchor(kind: str, identifier: str) -> str:
    """The place of an entry on the page, as it stands in `id` and after `#`."""
    return f"{kind}-{quote(identifier, safe='')}"


def timeline_picture(review: Review, now: datetime) -> Timeline | None:
    """One band of champions, one lane for each action that occurred, one for the reviewers' words; None where
    nothing has happened.
    """
    moments = [entry.when for entry in (*review.decisions, *review.words, *review.champions)]
    moments += [decision.outcome.when for decision in review.decisions if decision.outcome]
    if not moments:
        return None
    start, end = min(moments), max([*moments, now])
    margin = max((end - start) * 0.02, timedelta(seconds=30))
    start, span = start - margin, (end - start + 2 * margin).total_seconds()

    def x(moment: datetime) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (moment - start).total_seconds() / span, 1)

    known = list(ACTIONS)
    actions = sorted(
        {decision.action for decision in review.decisions},
        key=lambda action: (known.index(action) if action in ACTIONS else len(known), action),
    )
    heights = {action: TOP + BAND + ABOVE_LANES + LANE * k for k, action in enumerate(actions)}
    words_at = TOP + BAND + ABOVE_LANES + LANE * len(actions)
    made = [decision.action for decision in review.decisions]
    lanes = [Lane(y, action_name(action), made.count(action)) for action, y in heights.items()]
    if review.words:
        lanes.append(Lane(words_at, "reviewers' words", len(review.words)))
    return Timeline(
        bottom=words_at + (LANE if review.words else 0) - LANE // 2 + 4,
        ticks=_ticks(start, start + timedelta(seconds=span), x),
        holds=_holds(review.words, end, x),
        reigns=_reigns(review.champions, end, x),
        lanes=lanes,
        decisions=[_decision(one, x(one.when), heights[one.action]) for one in reversed(review.decisions)],
        words=[_word(word, x(word.when), words_at) for word in reversed(review.words)],
    )


def _ticks(start: datetime, end: datetime, x: Callable[[datetime], float]) -> list[Tick]:
    step = next((step for step in STEPS if (end - start) / step <= MOST_TICKS), STEPS[-1])
    tick = datetime.fromtimestamp(-(-start.timestamp() // step.total_seconds()) * step.total_seconds(), UTC)
    form = "%Y-%m-%d" if step >= timedelta(days=1) else "%m-%d %H:%M"
    marks = []
    while tick <= end:
        marks.append(Tick(x(tick), f"{tick:{form}}"))
        tick += step
    return marks


def _holds(words: Sequence[Word], end: datetime, x: Callable[[datetime], float]) -> list[Band]:
    """Wherever a hold was in force: from the word `hold` to the next word that is not."""
    shades, since = [], None
    for word in reversed(words):
        if word.word == "hold":
            since = since or word.when
        elif since:
            shades.append((since, word.when))
            since = None
    if since:
        shades.append((since, end))
    return [Band(x(first), max(x(last) - x(first), 1)) for first, last in shades]


def _reigns(champions: Sequence[Reign], end: datetime, x: Callable[[datetime], float]) -> list[Band]:
    bands = []
    ends = [*(reign.when for reign in champions[1:]), end]
    for reign, until in zip(champions, ends, strict=False):
        left, width = x(reign.when), max(x(until) - x(reign.when), 2)
        version = f"v{reign.version}" if width > NARROWEST_NAME else ""
        since = f"version {reign.version} since {reign.when:%Y-%m-%d %H:%M} UTC"
        bands.append(Band(left, width, version, f"{since}, by {reign.who}: {reign.why}"))
    return bands


def _decision(decision: Decision, x: float, y: float) -> Mark:
    about = f"{decision.when:%Y-%m-%d %H:%M} UTC, {action_name(decision.action)}: {decision.reason}"
    radius = 6 if decision.retrains else 4.5
    return Mark(x, y, anchor("decision", decision.id), about, tone(decision), radius)


def _word(word: Word, x: float, y: float) -> Mark:
    about = f"{word.when:%Y-%m-%d %H:%M} UTC, {word.who} says {word.word}: {word.reason}"
    return Mark(x, y, anchor("word", word.id), about)


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
        "advised": "waiting",
    }.get(decision.action, "quiet")
