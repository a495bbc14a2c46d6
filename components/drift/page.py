"""The one page in front of a drift report: what moved, how far, since when, what it does to the predictions,
what was decided, on which data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.contracts.documents.drift import (
    ColumnDrift,
    Correlation,
    CurrentRows,
    DriftReport,
    DriftRule,
    InformationRatio,
    PredictionDrift,
    Separation,
)
from components.drift.config import Settings
from components.drift.reference import Reference
from components.drift.tables import SCORE
from components.page import Picture, figure, number, write_page

VERDICTS = {
    "drift": ("drift", "bad"),
    "no_drift": ("no drift", "good"),
    "not_enough_data": ("not enough data", "warn"),
}
WHAT = {
    "mean": "mean",
    "scale": "scale",
    "tail": "tail",
    "constant": "constant",
    "missing": "missing values",
    "shape": "shape",
}
PICTURES = 4
FEWEST_BARS_SHOWN, MOST_BARS_SHOWN = 20, 30
MOST_NAMED = 3
PICTURE_BINS = 36
WORTH = "Monthly information ratio of the scores"
EVERY_LABEL = {"tickmode": "linear", "dtick": 1}


def write_summary(
    path: Path,
    report: DriftReport,
    kept: Reference,
    current: pl.DataFrame,
    settings: Settings,
    drawn: Sequence[str],
) -> Path:
    """Write the page; `drawn` are the columns on Evidently's page, `current` the rows that were judged."""
    values = {
        "report": report,
        "settings": settings,
        "drawn": len(drawn),
        "verdict": VERDICTS[report.verdict],
        "span": _span(report.current),
        "said": _capital("; ".join(_sentence(rule, report) for rule in report.fired) or report.reason),
        "effective": _effective(report.columns),
        "what_words": WHAT,
        "capital": _capital,
        "p_value": _p_value,
        "short": _short,
    }
    if report.verdict == "not_enough_data":
        return write_page(path, "drift/too_little.html", **values)
    return write_page(path, "drift/page.html", **values, **_pictures(report, kept, current), change=_change)


def _pictures(report: DriftReport, kept: Reference, current: pl.DataFrame) -> dict[str, Any]:
    """Every plot of the page; None where there is nothing to draw."""
    entries = [entry for entry in report.furthest_first() if entry.kind != "score"]
    moved = [entry for entry in entries if entry.drifted]
    shown = entries[: max(FEWEST_BARS_SHOWN, min(len(moved), MOST_BARS_SHOWN))]
    factors = [
        Picture(
            entry.column,
            _densities(entry.column, kept, current),
            f"{WHAT[entry.what]}, rules {', '.join(entry.rules)}",
        )
        for entry in moved[:PICTURES]
        if entry.rows
    ]
    score, worth, told_apart = report.predictions, report.information_ratio, report.adversarial
    return {
        "moved": moved,
        "factors": factors,
        "distances": _distances(shown[::-1]),
        "score": score and Picture("Score", _densities(SCORE, kept, current), _score_note(score)),
        "months": worth and Picture(WORTH, _months(worth), _worth_note(worth)),
        "gains": told_apart and _gains(told_apart),
    }


def _span(now: CurrentRows) -> str:
    if now.first is None:
        return "without timestamps"
    return f"{now.first:%Y-%m-%d %H:%M} to {now.last:%Y-%m-%d %H:%M} UTC"


def _effective(columns: Sequence[ColumnDrift]) -> dict[str, str] | None:
    """Effective rows over all columns."""
    if not columns:
        return None
    rows = [column.effective_rows for column in columns]
    found = {"least": min(rows), "most": max(rows), "median": float(np.median(rows))}
    return {name: f"{value:,.0f}" for name, value in found.items()}


def _sentence(rule: DriftRule, report: DriftReport) -> str:
    """A fired rule in a few words, with since when."""
    if not rule.factors or rule.rule == "auc":
        return f"{rule.title.lower()}: {rule.reason}"
    entries = {entry.column: entry for entry in report.columns}
    shown = []
    for name in rule.factors[:MOST_NAMED]:
        entry = entries[name]
        since = f" since {entry.since:%Y-%m-%d}" if entry.since else ""
        shown.append(f"{name} ({WHAT[entry.what]}{since})")
    more = f" and {len(rule.factors) - MOST_NAMED} more" if len(rule.factors) > MOST_NAMED else ""
    return f"{rule.title.lower()}: {', '.join(shown)}{more}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".")


def _distances(shown: Sequence[ColumnDrift]) -> dict[str, Any]:
    """Kolmogorov-Smirnov distance of each column beside the most in training windows."""
    names = [entry.column for entry in shown]
    now = {
        "type": "bar",
        "orientation": "h",
        "name": "now",
        "y": names,
        "x": [entry.ks for entry in shown],
        "marker": {"opacity": [1.0 if entry.drifted else 0.35 for entry in shown]},
    }
    usual = {
        "type": "scatter",
        "mode": "markers",
        "name": "most in training windows",
        "y": names,
        "x": [entry.usual_ks for entry in shown],
        "marker": {"symbol": "diamond", "size": 8},
    }
    margin = {"l": 190, "r": 12, "t": 8, "b": 40}
    return figure([now, usual], {"yaxis": EVERY_LABEL, "xaxis": {"title": "KS"}, "margin": margin})


def _densities(name: str, kept: Reference, current: pl.DataFrame) -> dict[str, Any]:
    """Densities of reference (from its sketch) and now, in common bins that hold the middle of both."""
    sketch = kept.sketch[name].to_numpy()
    sample = current[name].drop_nulls().to_numpy()
    low = min(np.quantile(sketch, 0.002), np.quantile(sample, 0.002))
    high = max(np.quantile(sketch, 0.998), np.quantile(sample, 0.998))
    if not low < high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, PICTURE_BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    lines = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": label,
            "x": centres.tolist(),
            "y": (np.histogram(values, edges)[0] / len(values)).tolist(),
            "line": {"shape": "hvh", "width": 1.6},
            "fill": "tozeroy",
        }
        for label, values in (("training", sketch), ("now", sample))
    ]
    return figure(lines, {"yaxis": {"title": "share of rows", "rangemode": "tozero"}})


def _score_note(score: PredictionDrift) -> str:
    return (
        f"KS {number(score.ks, 3)}, training windows up to {number(score.usual_ks, 3)}; PSI"
        f" {number(score.psi)}, up to {number(score.usual_psi)}"
    )


def _months(worth: InformationRatio) -> dict[str, Any]:
    """The information ratio of each month, and a line at the reference's."""
    bars = {
        "type": "bar",
        "x": [month.month for month in worth.monthly],
        "y": [month.information_ratio for month in worth.monthly],
        "text": [f"{month.bars} bars" for month in worth.monthly],
    }
    line = {
        "type": "line",
        "x0": 0,
        "x1": 1,
        "xref": "paper",
        "y0": worth.reference,
        "y1": worth.reference,
        "line": {"dash": "dot", "width": 1.5, "color": "#888"},
    }
    return figure([bars], {"shapes": [line], "xaxis": {"type": "category"}})


def _worth_note(worth: InformationRatio) -> str:
    return (
        "mean over spread of the RankIC by bar; dotted: out of sample at training. Over all"
        f" {worth.bars} bars {number(worth.current)} against {number(worth.reference)}, chance of so low a"
        f" mean RankIC p = {number(worth.p, 3)}"
    )


def _gains(told_apart: Separation) -> dict[str, Any]:
    """What the classifier looks at, largest on top."""
    factors = told_apart.factors[::-1]
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [factor.column for factor in factors],
        "x": [factor.importance for factor in factors],
    }
    return figure([bars], {"yaxis": EVERY_LABEL, "xaxis": {"title": "share of gain", "tickformat": ".0%"}})


def _change(row: Correlation) -> float | None:
    return None if row.current is None or row.reference is None else row.current - row.reference


def _p_value(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}" if value < 0.001 else f"{value:.3f}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
