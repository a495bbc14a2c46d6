"""The page of what a fitted network attends to: gates, selection weights and the course of its training, out
of its `explain.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from components.contracts import REGIMES, ContractError
from components.experts.compose import COMPOSED_FILE
from components.page import card, escape, number, page, plot, section, table, tile

GATES = "feature_gate"
CLOSED = 0.05
MOST_BARS = 30
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


class Weights(BaseModel):
    """One evidence: a number a column, over all rows and by regime."""

    columns: list[str]
    mean: list[float | None]
    by_regime: dict[str, list[float | None]] = {}


class Rank(BaseModel):
    """RankIC of one task on early-stopping rows."""

    target: str
    horizon: int
    rank_correlation: float | None


class Evidence(BaseModel):
    """What `explain.json` holds. An entry of a phase is an epoch."""

    weights: dict[str, Weights]
    rows: dict[str, int] = {}
    tasks: list[Rank] = []
    parameters: int | None = None
    pretraining: list[dict[str, Any]] | None = None
    training: list[dict[str, Any]] | None = None
    student: list[dict[str, Any]] | None = None
    bands: list[dict[str, Any]] | None = None


class RegimeRows(BaseModel):
    """What a composition has for one regime: labelled train rows, bars that they come from, and the kind of
    model they gave.
    """

    train_rows: int
    train_bars: int
    model: str


class Composition(BaseModel):
    """What `composed.json` holds of an expert made of several.

    `weights_RM` has a row for each of REGIMES and a last one for an unknown regime.
    """

    members: list[str] = Field(min_length=1)
    weights_RM: list[list[float]]
    spread: float
    width: float
    regime_rows: dict[str, RegimeRows] = {}


def explain_page(
    explain: Mapping[str, Any], title: str, about: str = "", composed: Mapping[str, Any] | None = None
) -> str:
    """The whole page as HTML.

    Parameters
    ----------
    explain : `{"weights": {name: {"columns": [...], "mean": [...], "by_regime": {regime: [...]}}},
        "training": [{...} an epoch]}`, and perhaps the course of `pretraining`, `student` and `bands`, `rows`
        by regime, `tasks` with their rank correlation, and the number of `parameters`
    about : a line below the title, such as the fold and what it was trained on
    composed : `composed.json` of the composition that the network is the first member of

    Raises
    ------
    ContractError
        If one of them is not of that form; says what is wrong, not what to do.
    """
    found = _checked(Evidence, explain, "explain.json")
    parts = (
        []
        if composed is None
        else [("members", "Members", _members(_checked(Composition, composed, COMPOSED_FILE)))]
    )
    for name, one in found.weights.items():
        if len(one.columns) != len(one.mean) or any(
            len(values) != len(one.columns) for values in one.by_regime.values()
        ):
            raise ContractError(
                f"explain.json: the evidence {name!r} names {len(one.columns)} columns but holds another"
                " number of weights."
            )
        parts.append((name, _spoken(name).capitalize(), _weights(name, one, found.rows)))
    courses = {phase: getattr(found, phase) for phase in PHASES}
    parts += [
        (phase, _spoken(phase).capitalize(), _course(phase, epochs))
        for phase, epochs in courses.items()
        if epochs is not None
    ]
    tiles = [
        tile(f"{len(one.columns):,}", f"columns of {_spoken(name)}") for name, one in found.weights.items()
    ]
    if GATES in found.weights:
        gates = found.weights[GATES]
        tiles.append(
            tile(
                f"{len(closed_gates(gates)):,} of {len(gates.columns):,}",
                f"gates closed (opening below {CLOSED})",
            )
        )
    tiles += [
        tile(
            number(task.rank_correlation, 4),
            f"RankIC of {_spoken(task.target)}, {task.horizon} bars, early-stopping rows",
        )
        for task in found.tasks
    ]
    tiles += [tile(f"{found.parameters:,}", "parameters")] if found.parameters is not None else []
    head = (
        f'<h1>{escape(title)}</h1><p class="soft">{escape(about)}</p><div'
        f' class="tiles">{"".join(tiles)}</div>'
    )
    return page(title, head, parts)


def closed_gates(weights: Weights) -> list[tuple[str, float]]:
    """Columns whose gate is closed, with its mean opening, the most closed first."""
    pairs = [
        (column, value)
        for column, value in zip(weights.columns, weights.mean, strict=True)
        if value is not None and value < CLOSED
    ]
    return sorted(pairs, key=lambda pair: pair[1])


def first_member(composed: Mapping[str, Any]) -> str:
    """Name of the first model of a composition; ContractError where `composed` is damaged."""
    return _checked(Composition, composed, COMPOSED_FILE).members[0]


def _checked(form: type, values: Any, file: str) -> Any:
    try:
        return form.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ContractError(
            f"{file}: {'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}."
        ) from None


def _members(composed: Composition) -> str:
    regimes = [*REGIMES, "unknown"]
    if len(composed.weights_RM) != len(regimes) or any(
        len(weights) != len(composed.members) for weights in composed.weights_RM
    ):
        raise ContractError(
            f"{COMPOSED_FILE}: weights_RM is not {len(regimes)} regimes by {len(composed.members)} members."
        )
    rows = []
    for regime, weights in zip(regimes, composed.weights_RM, strict=True):
        known = composed.regime_rows.get(regime)
        about = (
            [f"{known.train_rows:,}", f"{known.train_bars:,}", escape(known.model)] if known else ["–"] * 3
        )
        rows.append([escape(_spoken(regime)), *about, *(number(weight, 3) for weight in weights)])
    header = ["regime", "train rows", "train bars", "model", *composed.members]
    spread = (
        f"<p>Spread {number(composed.spread, 0)}: how much the members' disagreement counts in the"
        " uncertainty beside their own bands (1: the plain mixture). The band's width is then multiplied by"
        f" {number(composed.width, 3)}.</p>"
    )
    weights = card(table(header, rows, text=[0, 3]), title="Weight of each member by regime")
    return section(
        "members",
        "Members",
        f"The rest of this page is of {composed.members[0]} alone.",
        weights,
        card(spread, title="Spread of the members"),
    )


def _weights(name: str, one: Weights, rows: Mapping[str, int]) -> str:
    kind = KINDS.get(name, SHARES)
    pairs = list(zip(one.columns, one.mean, strict=True))
    in_time = all(column.endswith("_bars_ago") for column in one.columns)  # oldest first
    shown = pairs[-MOST_BARS:] if in_time else sorted(pairs, key=lambda pair: -(pair[1] or 0.0))[:MOST_BARS]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [column for column, _ in reversed(shown)],
            "x": [value for _, value in reversed(shown)],
        }
    ]
    note = (
        f"{len(shown)} of {len(pairs)}, the {'newest' if in_time else 'largest'}."
        if len(shown) < len(pairs)
        else ""
    )
    limits = {"range": [0, 1]} if name == GATES else {"rangemode": "tozero"}
    cards = [
        plot(
            f"{_spoken(name)}: {kind.axis}",
            data,
            {"xaxis": {"title": kind.axis, **limits}, "yaxis": {"dtick": 1, "type": "category"}},
            note=note,
            tall=len(shown) > 12,
        )
    ]
    if one.by_regime and not kind.parameter:
        cards.append(_by_regime(name, one, [column for column, _ in shown], rows))
    if name == GATES:
        cards.append(_closed(closed_gates(one)))
    return section(name, _spoken(name).capitalize(), kind.intro, *cards)


def _by_regime(name: str, one: Weights, shown: Sequence[str], rows: Mapping[str, int]) -> str:
    place = {column: position for position, column in enumerate(one.columns)}
    upwards = list(reversed(shown))
    heat = [[values[place[column]] for values in one.by_regime.values()] for column in upwards]
    titles = [
        f"{_spoken(regime)}{f'<br>{rows[regime]:,} rows' if regime in rows else ''}"
        for regime in one.by_regime
    ]
    # Colours begin at 0, so that values which hardly differ look alike.
    known = [value for line in heat for value in line if value is not None]
    limits = (0.0, 1.0) if name == GATES else (min([0.0, *known]), max([0.0, *known]) or 1.0)
    data = [
        {
            "type": "heatmap",
            "x": titles,
            "y": upwards,
            "z": heat,
            "colorscale": "Viridis",
            "zmin": limits[0],
            "zmax": limits[1],
        }
    ]
    return plot(
        f"{_spoken(name)} by regime",
        data,
        {"xaxis": {"type": "category"}, "yaxis": {"dtick": 1, "type": "category"}},
        tall=len(upwards) > 12,
    )


def _closed(closed: Sequence[tuple[str, float]]) -> str:
    if not closed:
        return card(
            f"<p>No gate is closed: every input is let through by more than {CLOSED}.</p>",
            title="Closed gates",
        )
    rows = [[f"<code>{escape(column)}</code>", number(value, 3)] for column, value in closed]
    return card(table(["input", "mean opening"], rows), title=f"Closed gates: {len(closed)}")


def _course(phase: str, epochs: Sequence[Mapping[str, Any]]) -> str:
    """A chart a figure; figures that were measured once stand in a table."""
    first = 0 if phase == "bands" else 1
    courses: dict[str, list[tuple[int, float]]] = {}
    for epoch, entry in enumerate(epochs, start=first):
        for name, value in entry.items():
            if isinstance(value, int | float) and name not in IGNORED:
                courses.setdefault(name, []).append((epoch, value))
    if not courses:
        return section(
            phase,
            _spoken(phase).capitalize(),
            "The course was not kept.",
            card("<p>There is nothing to draw.</p>"),
        )
    once = [
        [escape(_spoken(name)), str(points[0][0]), number(points[0][1], 4)]
        for name, points in courses.items()
        if len(points) == 1
    ]
    cards = [card(table(["figure", "epoch", "value"], once), title="Measured once")] if once else []
    cards += [_line(name, points) for name, points in courses.items() if len(points) > 1]
    return section(phase, _spoken(phase).capitalize(), PHASES[phase], *cards)


def _line(name: str, points: Sequence[tuple[int, float]]) -> str:
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [epoch for epoch, _ in points],
            "y": [value for _, value in points],
        }
    ]
    return plot(_spoken(name), data, {"xaxis": {"title": "epoch", "dtick": max(len(points) // 10, 1)}})


def _spoken(name: str) -> str:
    return name.replace("_", " ")
