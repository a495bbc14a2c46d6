"""Capacity: what long-short earns against the capital that is traded with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from components.contracts.documents.evaluation import CapacityRow, Evaluation
from components.page import Picture, number
from components.report.picture import dotted_line, picture, shown_name

HEADER = ["capital", "Sharpe net", "return net a year", "costs of gross profit"]
# Below, it does not matter how much is lost: the picture is cut off.
LOWEST_SHARPE = -2.0
# As on the axis of the picture.
UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Capacity:
    """The picture, and the table of the stack."""

    picture: Picture
    header: list[str]
    rows: list[list[str]]


def capacity_of(evaluation: Evaluation, names: Sequence[str]) -> Capacity | None:
    """The stack's capacity beside that of the other `names`; None where it is not known."""
    blocks = {name: evaluation.tested(name) for name in names}
    curves = {
        name: block.portfolio.long_short.capacity
        for name, block in blocks.items()
        if block is not None and block.portfolio.long_short.capacity
    }
    if "stack" not in curves:
        return None
    rows = curves["stack"]
    return Capacity(
        picture=_picture(curves),
        header=HEADER,
        rows=[
            [
                money(row.capital),
                number(row.sharpe_net),
                number(row.return_net, 1, percent=True),
                number(row.cost_share, 0, percent=True),
            ]
            for row in rows
        ],
    )


def money(value: float) -> str:
    """An amount in two figures, such as 30 M."""
    size, unit = next(((size, unit) for size, unit in UNITS if value >= size), (1.0, ""))
    return f"{float(f'{value / size:.2g}'):g} {unit}".strip()


def _picture(curves: Mapping[str, Sequence[CapacityRow]]) -> Picture:
    traces = [
        dotted_line(shown_name(name), [row.capital for row in rows], [row.sharpe_net for row in rows])
        for name, rows in curves.items()
    ]
    known = [row.sharpe_net for rows in curves.values() for row in rows if row.sharpe_net is not None]
    low, high = max(min(known, default=0.0), LOWEST_SHARPE), max(known, default=1.0)
    margin = 0.08 * (high - low) + 0.05
    axes = {
        "xaxis": {"type": "log", "dtick": 1, "title": "capital, in the panel's currency"},
        "yaxis": {"title": "Sharpe ratio, net", "range": [min(low, 0.0) - margin, max(high, 0.0) + margin]},
    }
    return picture("Capacity: Sharpe ratio by capital", traces, axes, note=_said(curves["stack"]), wide=True)


def _said(rows: Sequence[CapacityRow]) -> str:
    """Up to which capital the stack earns, in a sentence."""
    first = rows[0].sharpe_net
    if first is None or first <= 0:
        return f"The stack earns nothing after costs at a capital of {money(rows[0].capital)} or more."
    parts = []
    for level, said in ((first / 2, "half of the Sharpe ratio is gone"), (0.0, "nothing is left")):
        capital = _falls_to(rows, level)
        if capital is not None:
            parts.append(f"at {money(capital)} {said}")
    if not parts:
        return f"The stack keeps more than half of its Sharpe ratio up to {money(rows[-1].capital)}."
    return "Stack: " + ", ".join(parts) + "."


def _falls_to(rows: Sequence[CapacityRow], level: float) -> float | None:
    """The capital at which the Sharpe ratio first falls to `level`, between rows on a scale of powers."""
    for before, after in pairwise(rows):
        if before.sharpe_net is None or after.sharpe_net is None:
            return None
        if after.sharpe_net <= level < before.sharpe_net:
            share = (before.sharpe_net - level) / (before.sharpe_net - after.sharpe_net)
            return float(before.capital * np.power(after.capital / before.capital, share))
    return None
