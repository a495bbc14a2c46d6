"""Calibration: whether the bands hold what they promise, and a predicted basis point is a realised one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.contracts.documents.evaluation import BandShares, Evaluation
from components.page import Picture
from components.report.picture import dotted_line, picture, shown_name
from components.report.sections.classes import ClassesSection, classes_section
from components.report.summary import CANDIDATES, models_in_test

WANTED = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
CURVES = ("stack", "lightgbm", "patchtst", "tft", "adaptive_tft")
GREY = "#888"


@dataclass(frozen=True)
class CalibrationSection:
    """Shares of labels under the quantiles, and predicted against realised; where the target is a class what
    its probabilities hold instead.
    """

    shares: Picture | None = None
    sizes: Picture | None = None
    classes: ClassesSection | None = None


def calibration_section(evaluation: Evaluation) -> CalibrationSection:
    """Bands and sizes, or classes, of the models on the test window."""
    models = models_in_test(evaluation, without=CANDIDATES)
    classes = {name: block.classes for name, block in models.items() if block.classes is not None}
    if classes:
        return CalibrationSection(classes=classes_section(classes))
    blocks = {name: block.calibration for name, block in models.items()}
    return CalibrationSection(_shares(blocks), _sizes(blocks))


def _shares(blocks: Mapping[str, BandShares]) -> Picture:
    dots = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": quantile,
            "x": [shown_name(name) for name in blocks],
            "y": [getattr(block, f"below_{quantile}") for block in blocks.values()],
            "marker": {"size": 10},
        }
        for quantile in WANTED
    ]
    layout = {"yaxis": {"range": [0, 1]}, "shapes": [_level(share) for share in WANTED.values()]}
    note = "dotted: what a calibrated model reaches"
    return picture("Share of labels below p10, p50 and p90", dots, layout, note=note)


def _level(share: float) -> dict[str, Any]:
    look = {"dash": "dot", "width": 1, "color": GREY}
    return {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": share, "y1": share, "line": look}


def _sizes(blocks: Mapping[str, BandShares]) -> Picture:
    curves = [
        dotted_line(
            shown_name(name),
            [_bps(one.predicted) for one in blocks[name].reliability],
            [_bps(one.realised) for one in blocks[name].reliability],
        )
        for name in CURVES
        if name in blocks
    ]
    points = [x for curve in curves for x in curve["x"] if x is not None] or [0.0]
    ends = [min(points), max(points)]
    look = {"dash": "dot", "color": GREY}
    ideal = {"type": "scatter", "mode": "lines", "name": "ideal", "x": ends, "y": ends, "line": look}
    layout = {"xaxis": {"title": "predicted, bps"}, "yaxis": {"title": "realised, bps"}}
    return picture("Predicted against realised, by decile of the score", [*curves, ideal], layout)


def _bps(value: float | None) -> float | None:
    return None if value is None else 1e4 * value
