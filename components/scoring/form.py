"""The served form of an expert, `served.json`: how its raw output is made from the inputs, and how that becomes a score with its uncertainty.

A fitted expert writes it with `write_form`; nothing else of the expert is needed to score rows.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from components.contracts import AlphaloopError, atomic_path, atomic_write_text

SERVED_FORMAT = 1
FORM_FILE = "served.json"
GRAPH_FILE = "model.onnx"


class ScoringError(AlphaloopError):
    """A bundle has no usable served form, or rows do not fit it."""


@dataclass(frozen=True)
class Linear:
    """raw = clip(inputs, -largest_input, largest_input) @ coefficients + intercept in Float64, a missing input counting as 0."""

    coefficients: tuple[float, ...]
    intercept: float
    largest_input: float


@dataclass(frozen=True)
class Unit:
    """The row's unit of uncertainty: max(volatility, least) * factor, with `stand_in` for a missing volatility."""

    stand_in: float
    least: float
    factor: float = 1.0


@dataclass(frozen=True)
class Form:
    """What serving knows about an expert.

    kind : `row` (inputs of the bar) or `window` (inputs of the last `lookback_bars` bars, the newest last)
    columns : inputs in their order
    raw : a constant, a linear map, or None where `model.onnx` makes it
    unit : of the band
    band : distance of p90 from p10 in units; None where the graph gives quantiles in units, that `band_width` widens around the middle one
    """

    kind: Literal["row", "window"]
    columns: tuple[str, ...]
    lookback_bars: int
    raw: float | Linear | None
    head_scale: float
    head_bias: float
    unit: Unit
    band: float | None
    band_width: float
    p10_to_p90: float


def write_form(folder: Path, form: Form, graph: bytes | None = None) -> None:
    """Write `served.json`, and `model.onnx` for an expert that is a graph."""
    if graph is not None:
        with atomic_path(Path(folder) / GRAPH_FILE) as path:
            path.write_bytes(graph)
    atomic_write_text(Path(folder) / FORM_FILE, json.dumps({"format": SERVED_FORMAT, **asdict(form)}, indent=1))


def read_form(folder: Path) -> Form:
    """Read `served.json`.

    Raises
    ------
    ScoringError
        If it is missing, broken or of another format.
    """
    path, name = Path(folder) / FORM_FILE, Path(folder).name
    if not path.exists():
        raise ScoringError(
            f"{path} is missing: expert {name} has no served form, so its model can't answer requests. "
            "Give the expert an `export(folder)` method (components/experts/protocol.py) and train again, or train again where the bundle is older than serving."
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values.pop("format")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ScoringError(f"{path} is not a served form ({type(error).__name__}: {error}). Train expert {name} again.") from error
    if found != SERVED_FORMAT:
        raise ScoringError(f"{path} has format {found!r}, this version reads {SERVED_FORMAT}. Train the model again, or serve it with the version that made it.")
    try:
        return _form(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ScoringError(f"{path} is not a whole served form ({type(error).__name__}: {error}). Train expert {name} again.") from error


def _form(values: dict[str, Any]) -> Form:
    raw = values["raw"]
    if isinstance(raw, dict):
        raw = Linear(**{**raw, "coefficients": tuple(map(float, raw["coefficients"]))})
        if len(raw.coefficients) != len(values["columns"]):
            raise ValueError(f"{len(raw.coefficients)} coefficients for {len(values['columns'])} columns")
    if values["kind"] not in ("row", "window") or (values["kind"] == "window") != (values["lookback_bars"] > 0):
        raise ValueError(f"kind {values['kind']!r} with lookback_bars {values['lookback_bars']}")
    return Form(**{**values, "columns": tuple(values["columns"]), "raw": raw, "unit": Unit(**values["unit"])})
