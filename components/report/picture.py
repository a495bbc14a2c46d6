"""Pictures of the report, and the traces that several sections draw."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from components.page import Picture, figure
from components.timeline.periods import PERIODS

MOST_POINTS = 1500
LIMITS = [[0, "#b3261e"], [0.5, "rgba(128,128,128,0.08)"], [1, "#2456c9"]]
EVERY_LABEL = {"tickmode": "linear", "dtick": 1}
NAMES = {
    "stack": "Stack (chosen)",
    "equal_weights": "Equal weights",
    "performance_weights": "Performance weights",
    "best_single": "Best single",
    "z_shrunk": "Z shrunk weights",
    "z_regimes": "Z weights by regime",
    "z_elasticnet": "Z ElasticNet",
    "z_logistic": "Z logistic",
    "z_mlp": "Z MLP",
    "z_lightgbm": "Z LightGBM",
    "median": "Median",
    "elasticnet": "ElasticNet",
    "median_regression": "Median regression",
    "touch_imbalance": "Touch imbalance alone",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "patchtst": "PatchTST",
    "tft": "TFT",
    "gru": "GRU",
    "adaptive_tft": "Adaptive TFT",
    "causal_cnn": "Causal CNN",
}
# Behind the name of an expert whose base leaf is in the run too.
RICH = "_rich"


def picture(
    title: str,
    traces: Sequence[Mapping[str, Any]],
    layout: Mapping[str, Any] | None = None,
    *,
    note: str = "",
    tall: bool = False,
    wide: bool = False,
) -> Picture:
    """A picture of Plotly's traces."""
    return Picture(title, figure(traces, layout), note, tall, wide)


def shown_name(name: str) -> str:
    """How a model is called on the page."""
    if name not in NAMES and name.endswith(RICH):
        return f"{shown_name(name.removesuffix(RICH))}, rich"
    expert, _, period = name.rpartition("_")
    if expert in NAMES and period in PERIODS:
        return f"{NAMES[expert]}, {period}"
    return NAMES.get(name, name)


def line(
    frame: pl.DataFrame,
    column: str,
    name: str,
    *,
    dash: str | None = None,
    fill: str | None = None,
    visible: Any = True,
) -> dict[str, Any]:
    """A curve of `column` over `timestamp`."""
    moments = frame["timestamp"]
    times = (
        moments.dt.strftime("%Y-%m-%d %H:%M").to_list() if moments.dtype != pl.String else moments.to_list()
    )
    trace = {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": times,
        "y": frame[column].to_list(),
        "visible": visible,
        "line": {"width": 1.6, **({"dash": dash} if dash else {})},
    }
    return trace | ({"fill": fill} if fill else {})


def dotted_line(name: str, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Any]:
    """A curve with a mark at each of its points."""
    return {"type": "scatter", "mode": "lines+markers", "name": name, "x": x, "y": y}


def upright_bars(x: Sequence[Any], y: Sequence[Any]) -> dict[str, Any]:
    """Bars from below."""
    return {"type": "bar", "x": x, "y": y}


def lying_bars(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Bars from the left, the first at the bottom."""
    return {"type": "bar", "orientation": "h", "y": names, "x": values}


def signed_heat(x: Sequence[str], y: Sequence[str], z: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """Cells from red over nothing to blue, 0 in the middle."""
    limit = max((abs(value) for row in z for value in row if value is not None), default=0.1)
    return {
        "type": "heatmap",
        "x": x,
        "y": y,
        "z": z,
        "zmin": -limit,
        "zmax": limit,
        "colorscale": LIMITS,
        "colorbar": {"thickness": 10},
        "xgap": 1,
        "ygap": 1,
    }


def thinned(frame: pl.DataFrame) -> pl.DataFrame:
    """Every k-th row and the last one, so that a curve has at most MOST_POINTS points."""
    step = -(-len(frame) // MOST_POINTS)
    if step <= 1:
        return frame
    return pl.concat([frame.gather_every(step), frame.tail(1)]).unique(maintain_order=True)
