"""The page of what a fitted network attends to: gates, selection weights and the course of its training, out of its `explain.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.contracts import ContractError
from components.page import card, escape, number, page, plot, section, table, tile

# Weights of this name are openings of gates, from 0 to 1; others are shares.
GATES = "feature_gate"
CLOSED = 0.05
MOST_BARS = 30
PHASES = ("pretraining", "training", "student")
IGNORED = ("epoch", "windows", "seconds")


def explain_page(explain: Mapping[str, Any], title: str, about: str = "") -> str:
    """The whole page as HTML.

    Parameters
    ----------
    explain : `{"weights": {name: {"columns": [...], "mean": [...], "by_regime": {regime: [...]}}}, "training": [{...} an epoch]}`, and perhaps
        the course of `pretraining` and `student`, `rows` by regime, `tasks` with their rank correlation, and the number of `parameters`
    about : a line below the title, such as the fold and what it was trained on

    Raises
    ------
    ContractError
        If it is not of that form.
    """
    weights, rows = explain.get("weights", {}), explain.get("rows", {})
    for name, one in weights.items():
        if len(one["columns"]) != len(one["mean"]) or any(len(values) != len(one["columns"]) for values in one.get("by_regime", {}).values()):
            raise ContractError(f"The evidence {name!r} names {len(one['columns'])} columns but holds another number of weights. Train the expert again.")
    parts = [(name, _spoken(name).capitalize(), _weights(name, one, rows)) for name, one in weights.items()]
    parts += [(phase, _spoken(phase).capitalize(), _course(phase, explain[phase])) for phase in PHASES if explain.get(phase) is not None]
    tiles = [tile(f"{len(one['columns']):,}", f"columns of {_spoken(name)}") for name, one in weights.items()]
    if GATES in weights:
        tiles.append(tile(f"{len(closed_gates(weights[GATES])):,} of {len(weights[GATES]['columns']):,}", f"gates closed (opening below {CLOSED})"))
    tiles += [tile(number(task["rank_correlation"], 4), f"RankIC of {_spoken(task['target'])}, {task['horizon']} bars, early-stopping rows") for task in explain.get("tasks", [])]
    tiles += [tile(f"{explain['parameters']:,}", "parameters")] if "parameters" in explain else []
    head = f'<h1>{escape(title)}</h1><p class="soft">{escape(about)}</p><div class="tiles">{"".join(tiles)}</div>'
    return page(title, head, parts)


def closed_gates(weights: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Columns whose gate is closed, with its mean opening, the most closed first."""
    pairs = [(column, value) for column, value in zip(weights["columns"], weights["mean"], strict=True) if value is not None and value < CLOSED]
    return sorted(pairs, key=lambda pair: pair[1])


def _weights(name: str, one: Mapping[str, Any], rows: Mapping[str, int]) -> str:
    gates = name == GATES
    pairs = list(zip(one["columns"], one["mean"], strict=True))
    in_time = all(column.endswith("_bars_ago") for column in one["columns"])  # oldest first
    shown = pairs[-MOST_BARS:] if in_time else sorted(pairs, key=lambda pair: -(pair[1] or 0.0))[:MOST_BARS]
    axis = "mean opening" if gates else "mean weight"
    data = [{"type": "bar", "orientation": "h", "y": [column for column, _ in reversed(shown)], "x": [value for _, value in reversed(shown)]}]
    note = f"{len(shown)} of {len(pairs)}, the {'newest' if in_time else 'largest'}." if len(shown) < len(pairs) else ""
    tall = len(shown) > 12
    cards = [plot(f"{_spoken(name)}: {axis}", data, {"xaxis": {"title": axis, "rangemode": "tozero"}, "yaxis": {"dtick": 1, "type": "category"}}, note=note, tall=tall)]
    regimes = one.get("by_regime", {})
    if regimes:
        cards.append(_by_regime(name, one["columns"], regimes, [column for column, _ in shown], rows))
    if gates:
        cards.append(_closed(closed_gates(one)))
    intro = "How far each gate lets its input through, from 0 to 1." if gates else "How much each part counts, on the mean of the early-stopping rows."
    return section(name, _spoken(name).capitalize(), intro, *cards)


def _by_regime(name: str, columns: Sequence[str], regimes: Mapping[str, Sequence[float]], shown: Sequence[str], rows: Mapping[str, int]) -> str:
    place = {column: position for position, column in enumerate(columns)}
    upwards = list(reversed(shown))
    heat = [[values[place[column]] for values in regimes.values()] for column in upwards]
    titles = [f"{_spoken(regime)}{f'<br>{rows[regime]:,} rows' if regime in rows else ''}" for regime in regimes]
    data = [{"type": "heatmap", "x": titles, "y": upwards, "z": heat, "colorscale": "Viridis"}]
    return plot(f"{_spoken(name)} by regime", data, {"xaxis": {"type": "category"}, "yaxis": {"dtick": 1, "type": "category"}}, tall=len(upwards) > 12)


def _closed(closed: Sequence[tuple[str, float]]) -> str:
    if not closed:
        return card(f"<p>No gate is closed: every input is let through by more than {CLOSED}.</p>", title="Closed gates")
    rows = [[f"<code>{escape(column)}</code>", number(value, 3)] for column, value in closed]
    return card(table(["input", "mean opening"], rows), title=f"Closed gates: {len(closed)}")


def _course(phase: str, epochs: Sequence[Mapping[str, Any]]) -> str:
    names = dict.fromkeys(name for entry in epochs for name, value in entry.items() if isinstance(value, int | float) and name not in IGNORED)
    if not names:
        return section(phase, _spoken(phase).capitalize(), "The course was not kept.", card("<p>There is nothing to draw.</p>"))

    def course(name: str) -> str:
        data = [{"type": "scatter", "mode": "lines+markers", "x": list(range(1, len(epochs) + 1)), "y": [entry.get(name) for entry in epochs]}]
        return plot(_spoken(name), data, {"xaxis": {"title": "epoch", "dtick": max(len(epochs) // 10, 1)}})

    intro = "One point an epoch. The monitor is measured on early-stopping rows; higher is better."
    return section(phase, _spoken(phase).capitalize(), intro, *map(course, names))


def _spoken(name: str) -> str:
    return name.replace("_", " ")
