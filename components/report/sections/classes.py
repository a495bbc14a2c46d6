"""Probabilities of classes: whether what is called likely happens as often, and whether the classes are told
apart, by model, month and symbol.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from components.contracts.documents.class_figures import ClassFigures
from components.page import Picture, number
from components.report.picture import dotted_line, picture, shown_name

# The models whose curves are drawn one by one; the others would hide them.
DRAWN = ("stack", "lightgbm", "elasticnet")
WORST_SYMBOLS = 10
GREY = "#888"
HEADER = ["symbol", "rows", "calibration error", "Brier", "average precision"]
CLASS_WORDS = {"down": "down", "none": "no trade", "up": "up"}


@dataclass(frozen=True)
class ClassesSection:
    """Pictures, and the symbols whose probabilities hold least in the stack (or the first model)."""

    pictures: list[Picture]
    model: str
    header: list[str]
    rows: list[list[str]]


def classes_section(blocks: Mapping[str, ClassFigures]) -> ClassesSection:
    """Figures by model's name, at least one."""
    name = "stack" if "stack" in blocks else next(iter(blocks))
    known = [row for row in blocks[name].by_symbol if row.calibration_error is not None]
    worst = sorted(known, key=lambda row: -row.calibration_error)[:WORST_SYMBOLS]
    return ClassesSection(
        pictures=[*_reliability(blocks), _precision(blocks), _by_month(blocks)],
        model=shown_name(name),
        header=HEADER,
        rows=[
            [
                row.name,
                f"{row.rows:,}",
                number(row.calibration_error, 3),
                number(row.brier, 3),
                number(row.average_precision, 3),
            ]
            for row in worst
        ],
    )


def _reliability(blocks: Mapping[str, ClassFigures]) -> list[Picture]:
    """A picture for each class, with the models that are drawn."""
    drawn = {name: blocks[name] for name in DRAWN if name in blocks} or dict(blocks)
    pictures = []
    for place, first in enumerate(next(iter(blocks.values())).classes):
        curves = [
            dotted_line(
                shown_name(name),
                [one.predicted for one in figures.classes[place].reliability],
                [one.realised for one in figures.classes[place].reliability],
            )
            for name, figures in drawn.items()
        ]
        points = [value for curve in curves for axis in "xy" for value in curve[axis] if value is not None]
        ends = [min(points, default=0.0), max(points, default=1.0)]
        look = {"dash": "dot", "color": GREY}
        ideal = {"type": "scatter", "mode": "lines", "name": "ideal", "x": ends, "y": ends, "line": look}
        layout = {"xaxis": {"title": "predicted probability"}, "yaxis": {"title": "share that happened"}}
        title = f"Is {CLASS_WORDS[first.name]} as frequent as predicted?"
        pictures.append(picture(title, [*curves, ideal], layout, note="by equally filled bins"))
    return pictures


def _precision(blocks: Mapping[str, ClassFigures]) -> Picture:
    """How far each model's average precision is above the class's share, which a guess has."""
    bars = [
        {
            "type": "bar",
            "name": CLASS_WORDS[first.name],
            "x": [shown_name(name) for name in blocks],
            "y": [_gain(figures, place) for figures in blocks.values()],
        }
        for place, first in enumerate(next(iter(blocks.values())).classes)
    ]
    note = "above what a guess has, the class's share; 0: no skill"
    return picture("Average precision gained, by class", bars, {"barmode": "group"}, note=note)


def _gain(figures: ClassFigures, place: int) -> float | None:
    row = figures.classes[place]
    return None if row.average_precision is None else row.average_precision - row.share


def _by_month(blocks: Mapping[str, ClassFigures]) -> Picture:
    drawn = {name: blocks[name] for name in DRAWN if name in blocks} or dict(blocks)
    curves = [
        dotted_line(
            shown_name(name),
            [row.name for row in figures.by_month],
            [row.calibration_error for row in figures.by_month],
        )
        for name, figures in drawn.items()
    ]
    layout = {"xaxis": {"type": "category"}, "yaxis": {"rangemode": "tozero"}}
    return picture("Calibration error by month", curves, layout, note="mean over the classes")
