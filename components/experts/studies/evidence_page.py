"""The page of what a fitted network attends to: gates, selection weights and the course of its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.contracts import REGIMES, ContractError
from components.contracts.documents.experts import (
    COMPOSED,
    Composition,
    Epoch,
    Explanation,
    Weights,
)
from components.experts.studies.evidence import Evidence
from components.page import figure, number, render

GATES = "feature_gate"
CLOSED = 0.05
MOST_BARS = 30
# From so many bars on a plot needs a tall card.
MANY_BARS = 12
IGNORED = ("epoch", "windows", "seconds")
WATCHED = "The monitor is measured on early-stopping rows; higher is better."
PHASES = {
    "pretraining": "One point an epoch.",
    "training": f"One point an epoch. {WATCHED}",
    "student": f"One point an epoch. {WATCHED}",
    "bands": (
        "One point an epoch; 0 is before the first one. The monitor is minus the mean pinball loss of"
        " early-stopping rows; higher is better."
    ),
}


@dataclass(frozen=True)
class Kind:
    """What the numbers of one evidence are. Parameters are the same in every row, so they have no regimes."""

    axis: str
    intro: str
    parameter: bool = False


SHARES = Kind("mean weight", "How much each part counts, on the mean of the early-stopping rows.")
KINDS = {
    GATES: Kind("mean opening", "How far each gate lets its input through, from 0 to 1."),
    "temperature": Kind(
        "attention temperature",
        "Learned temperature of each attention head, from 0.5 to 2: below 1 its attention is sharper than"
        " plain attention, above 1 more even.",
        True,
    ),
    "edge": Kind(
        "learned weight of the edge feature",
        "What each feature of an edge adds to the attention between two stocks, mean of heads and layers:"
        " above 0 it draws attention, below 0 it keeps it away.",
        True,
    ),
    "frequency": Kind(
        "share of energy",
        "Share of the energy of each input's window that lies in its dominant waves, on the mean of the"
        " early-stopping rows.",
    ),
}


@dataclass(frozen=True)
class Drawing:
    """A card with a figure."""

    title: str
    figure: Mapping[str, Any]
    note: str = ""
    tall: bool = False


@dataclass(frozen=True)
class Listing:
    """A card with a table, or with a sentence where there is nothing to list."""

    title: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    text: Sequence[int] = ()
    sentence: str = ""


@dataclass(frozen=True)
class Chapter:
    """A headed part of the page: its listings first, then its drawings, then what is listed at the end."""

    id: str
    title: str
    intro: str
    drawings: Sequence[Drawing] = ()
    before: Sequence[Listing] = field(default_factory=list)
    after: Sequence[Listing] = field(default_factory=list)


def explain_page(evidence: Evidence, title: str, about: str = "") -> str:
    """The whole page as HTML.

    Parameters
    ----------
    about : a line below the title, such as the fold and what it was trained on

    Raises
    ------
    ContractError
        If the weights of a composition do not fit its members; says what is wrong, not what to do.
    """
    found, composition = evidence.explanation, evidence.composition
    courses = {phase: getattr(found, phase) for phase in PHASES}
    chapters = [
        *([_members(composition)] if composition is not None else []),
        *(_weights(name, one, found.rows) for name, one in found.weights.items()),
        *(_course(phase, epochs) for phase, epochs in courses.items() if epochs is not None),
    ]
    return render(
        "experts/studies/evidence_page.html",
        title=title,
        about=about,
        sections=[(chapter.id, chapter.title) for chapter in chapters],
        tiles=_tiles(found),
        chapters=chapters,
    )


def closed_gates(weights: Weights) -> list[tuple[str, float]]:
    """Columns whose gate is closed, with its mean opening, the most closed first."""
    pairs = [
        (column, value)
        for column, value in zip(weights.columns, weights.mean, strict=True)
        if value is not None and value < CLOSED
    ]
    return sorted(pairs, key=lambda pair: pair[1])


def _tiles(found: Explanation) -> list[tuple[str, str]]:
    """Numbers and their names."""
    tiles = [(f"{len(one.columns):,}", f"columns of {_spoken(name)}") for name, one in found.weights.items()]
    if GATES in found.weights:
        gates = found.weights[GATES]
        closed = f"{len(closed_gates(gates)):,} of {len(gates.columns):,}"
        tiles.append((closed, f"gates closed (opening below {CLOSED})"))
    tiles += [
        (
            number(task.rank_correlation, 4),
            f"RankIC of {_spoken(task.target)}, {task.horizon} bars, early-stopping rows",
        )
        for task in found.tasks
    ]
    return tiles + ([(f"{found.parameters:,}", "parameters")] if found.parameters is not None else [])


def _members(composed: Composition) -> Chapter:
    regimes = [*REGIMES, "unknown"]
    if len(composed.weights_RM) != len(regimes) or any(
        len(weights) != len(composed.members) for weights in composed.weights_RM
    ):
        raise ContractError(
            f"{COMPOSED}: weights_RM is not {len(regimes)} regimes by {len(composed.members)} members."
        )
    rows = []
    for regime, weights in zip(regimes, composed.weights_RM, strict=True):
        known = composed.regime_rows.get(regime)
        about = [f"{known.train_rows:,}", f"{known.train_bars:,}", known.model] if known else ["–"] * 3
        rows.append([_spoken(regime), *about, *(number(weight, 3) for weight in weights)])
    spread = (
        f"Spread {number(composed.spread, 0)}: how much the members' disagreement counts in the"
        " uncertainty beside their own bands (1: the plain mixture). The band's width is then multiplied by"
        f" {number(composed.width, 3)}."
    )
    header = ["regime", "train rows", "train bars", "model", *composed.members]
    return Chapter(
        "members",
        "Members",
        f"The rest of this page is of {composed.members[0]} alone.",
        before=[
            Listing("Weight of each member by regime", header, rows, text=[0, 3]),
            Listing("Spread of the members", sentence=spread),
        ],
    )


def _weights(name: str, one: Weights, rows: Mapping[str, int]) -> Chapter:
    kind = KINDS.get(name, SHARES)
    pairs = list(zip(one.columns, one.mean, strict=True))
    in_time = all(column.endswith("_bars_ago") for column in one.columns)  # oldest first
    shown = pairs[-MOST_BARS:] if in_time else sorted(pairs, key=lambda pair: -(pair[1] or 0.0))[:MOST_BARS]
    which = "newest" if in_time else "largest"
    note = f"{len(shown)} of {len(pairs)}, the {which}." if len(shown) < len(pairs) else ""
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [column for column, _ in reversed(shown)],
        "x": [value for _, value in reversed(shown)],
    }
    limits = {"range": [0, 1]} if name == GATES else {"rangemode": "tozero"}
    layout = {"xaxis": {"title": kind.axis, **limits}, "yaxis": {"dtick": 1, "type": "category"}}
    tall = len(shown) > MANY_BARS
    drawings = [Drawing(f"{_spoken(name)}: {kind.axis}", figure([bars], layout), note, tall)]
    if one.by_regime and not kind.parameter:
        drawings.append(_by_regime(name, one, [column for column, _ in shown], rows))
    after = [_closed(closed_gates(one))] if name == GATES else []
    return Chapter(name, _spoken(name).capitalize(), kind.intro, drawings, after=after)


def _by_regime(name: str, one: Weights, shown: Sequence[str], rows: Mapping[str, int]) -> Drawing:
    place = {column: position for position, column in enumerate(one.columns)}
    upwards = list(reversed(shown))
    heat = [[values[place[column]] for values in one.by_regime.values()] for column in upwards]
    # <br> is how Plotly breaks a line.
    titles = [
        f"{_spoken(regime)}{f'<br>{rows[regime]:,} rows' if regime in rows else ''}"
        for regime in one.by_regime
    ]
    # Colours begin at 0, so that values which hardly differ look alike.
    known = [value for line in heat for value in line if value is not None]
    limits = (0.0, 1.0) if name == GATES else (min([0.0, *known]), max([0.0, *known]) or 1.0)
    data = {
        "type": "heatmap",
        "x": titles,
        "y": upwards,
        "z": heat,
        "colorscale": "Viridis",
        "zmin": limits[0],
        "zmax": limits[1],
    }
    layout = {"xaxis": {"type": "category"}, "yaxis": {"dtick": 1, "type": "category"}}
    return Drawing(f"{_spoken(name)} by regime", figure([data], layout), tall=len(upwards) > MANY_BARS)


def _closed(closed: Sequence[tuple[str, float]]) -> Listing:
    if not closed:
        sentence = f"No gate is closed: every input is let through by more than {CLOSED}."
        return Listing("Closed gates", sentence=sentence)
    rows = [[column, number(value, 3)] for column, value in closed]
    return Listing(f"Closed gates: {len(closed)}", ["input", "mean opening"], rows)


def _course(phase: str, epochs: Sequence[Epoch]) -> Chapter:
    """A chart a figure; figures that were measured once stand in a table."""
    first = 0 if phase == "bands" else 1
    courses: dict[str, list[tuple[int, float]]] = {}
    for epoch, entry in enumerate(epochs, start=first):
        for name, value in entry.items():
            if value is not None and name not in IGNORED:
                courses.setdefault(name, []).append((epoch, value))
    title = _spoken(phase).capitalize()
    if not courses:
        nothing = Listing("", sentence="There is nothing to draw.")
        return Chapter(phase, title, "The course was not kept.", before=[nothing])
    once = [
        [_spoken(name), str(points[0][0]), number(points[0][1], 4)]
        for name, points in courses.items()
        if len(points) == 1
    ]
    before = [Listing("Measured once", ["figure", "epoch", "value"], once)] if once else []
    drawings = [_line(name, points) for name, points in courses.items() if len(points) > 1]
    return Chapter(phase, title, PHASES[phase], drawings, before=before)


def _line(name: str, points: Sequence[tuple[int, float]]) -> Drawing:
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [epoch for epoch, _ in points],
        "y": [value for _, value in points],
    }
    layout = {"xaxis": {"title": "epoch", "dtick": max(len(points) // 10, 1)}}
    return Drawing(_spoken(name), figure([line], layout))


def _spoken(name: str) -> str:
    return name.replace("_", " ")
