"""The served form of an expert, `served.json`: how its raw output is made from the inputs, and how that
becomes a score with its uncertainty.

A fitted expert writes it with `write_form`; nothing else of the expert is needed to score rows.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from components.contracts import REGIMES, AlphaloopError, atomic_path, atomic_write_text, require_json

SERVED_FORMAT = 2
FORM_FILE = "served.json"
GRAPH_FILE = "model.onnx"
MEMBERS = "members"
# Below the folder of an expert and of the stack: a folder for each further task.
FURTHER = "further"
# What a graph gives of tasks after the first: [B, T] and [B, T, 3].
FURTHER_OUTPUTS = ("further_raw", "further_quantiles")
WINDOWED = ("window", "market")
# Weights of a row may miss 1 by this much, from rounding.
ROUNDING = 1e-9


class ScoringError(AlphaloopError):
    """A bundle has no usable served form, or rows do not fit it."""


@dataclass(frozen=True)
class Linear:
    """raw = clip(inputs, -largest_input, largest_input) @ coefficients + intercept in Float64, a missing
    input counting as 0.
    """

    coefficients: tuple[float, ...]
    intercept: float
    largest_input: float


@dataclass(frozen=True)
class ClassLinear:
    """One linear map a class: logits = as `Linear`, with `coefficients` [C][F] and `intercepts` [C]."""

    coefficients: tuple[tuple[float, ...], ...]
    intercepts: tuple[float, ...]
    largest_input: float


@dataclass(frozen=True)
class Unit:
    """The row's unit of uncertainty: max(volatility, least) * factor, with `stand_in` for a missing
    volatility.
    """

    stand_in: float
    least: float
    factor: float = 1.0


@dataclass(frozen=True)
class Form:
    """What serving knows about an expert.

    kind : `row` (inputs of the bar), `window` (inputs of the last `lookback_bars` bars, the newest last) or
        `market` (such windows of all symbols of a bar at once)
    columns : inputs in their order
    raw : a constant, a linear map, or None where `model.onnx` makes it; of classes a logit each
    unit : of the band
    band : distance of p90 from p10 in units; None where the graph gives quantiles in units, that `band_width`
        widens around the middle one
    context : context columns that the graph takes beside the window, NaN where unknown
    classes : labels of the classes, in rising order, where `raw` are logits; empty where it is a number. The
        probabilities are softmax(raw / temperature), and head, unit and band have no part in them
    head : 0 where the graph lies beside the form and `raw` and `quantiles` are its answer; else the number of
        the further task whose answer is in FURTHER_OUTPUTS of the graph two folders above
    """

    kind: Literal["row", "window", "market"]
    columns: tuple[str, ...]
    lookback_bars: int
    raw: float | Linear | tuple[float, ...] | ClassLinear | None
    head_scale: float
    head_bias: float
    unit: Unit
    band: float | None
    band_width: float
    p10_to_p90: float
    context: tuple[str, ...] = ()
    classes: tuple[int, ...] = ()
    temperature: float = 1.0
    head: int = 0


@dataclass(frozen=True)
class Blend:
    """An expert made of several, each with a form of its own in `members/<name>`.

    weights_RM : weight of each member in each regime of `REGIMES` and, the last row, where the regime is
        unknown; no weight is negative and each row sums to 1
    context : all context columns that any member takes

    score = sum of weight * score; uncertainty^2 = width^2 * sum of weight * (uncertainty^2 + spread *
    (member's score - score)^2).
    """

    columns: tuple[str, ...]
    lookback_bars: int
    context: tuple[str, ...]
    members: tuple[str, ...]
    weights_RM: tuple[tuple[float, ...], ...]
    spread: float = 1.0
    width: float = 1.0
    kind: Literal["blend"] = "blend"


def task_folder(target: str, horizon: int) -> str:
    """The name of a further task's folder."""
    return f"{target}_{horizon}"


def write_form(folder: Path, form: Form | Blend, graph: bytes | None = None) -> None:
    """Write `served.json`, and `model.onnx` for an expert that is a graph.

    The members of a blend are written by themselves.
    """
    if graph is not None:
        with atomic_path(Path(folder) / GRAPH_FILE) as path:
            path.write_bytes(graph)
    regimes = {"regimes": REGIMES} if isinstance(form, Blend) else {}
    atomic_write_text(
        Path(folder) / FORM_FILE, json.dumps({"format": SERVED_FORMAT, **regimes, **asdict(form)}, indent=1)
    )


def read_form(folder: Path) -> Form | Blend:
    """Read `served.json`.

    Raises
    ------
    ScoringError
        If it is missing, broken or of another format.
    """
    path, name = Path(folder) / FORM_FILE, Path(folder).name
    if not path.exists():
        raise ScoringError(
            f"{path} is missing: expert {name} has no served form, so its model can't answer requests. Give"
            " the expert an `export(folder)` method (components/experts/protocol.py) and train again, or"
            " train again where the bundle is older than serving."
        )
    values = require_json(path, remedy=f"Train expert {name} again.", error=ScoringError)
    found = values.pop("format", None)
    if found != SERVED_FORMAT:
        raise ScoringError(
            f"{path} has format {found!r}, this version reads {SERVED_FORMAT}. Train the model again, or"
            " serve it with the version that made it."
        )
    try:
        return _blend(values) if values["kind"] == "blend" else _form(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ScoringError(
            f"{path} is not a whole served form ({type(error).__name__}: {error}). Train expert {name} again."
        ) from error


def _form(values: dict[str, Any]) -> Form:
    kind, columns, context = values["kind"], tuple(values["columns"]), tuple(values["context"])
    classes = tuple(map(int, values.get("classes", ())))
    raw = _class_raw(values, columns, classes) if classes else _raw(values["raw"], columns)
    if kind not in ("row", *WINDOWED) or (kind in WINDOWED) != (values["lookback_bars"] > 0):
        raise ValueError(f"kind {kind!r} with lookback_bars {values['lookback_bars']}")
    if kind in WINDOWED and raw is not None:
        raise ValueError(f"kind {kind!r} without a graph")
    if context and kind not in WINDOWED:
        raise ValueError(f"kind {kind!r} takes no context, but names {list(context)}")
    read = {"columns": columns, "context": context, "raw": raw, "classes": classes}
    return Form(**{**values, **read, "unit": Unit(**values["unit"])})


def _raw(raw: Any, columns: tuple[str, ...]) -> Any:
    if not isinstance(raw, dict):
        return raw
    linear = Linear(**{**raw, "coefficients": tuple(map(float, raw["coefficients"]))})
    if len(linear.coefficients) != len(columns):
        raise ValueError(f"{len(linear.coefficients)} coefficients for {len(columns)} columns")
    return linear


def _class_raw(values: dict[str, Any], columns: tuple[str, ...], classes: tuple[int, ...]) -> Any:
    raw, temperature = values["raw"], float(values["temperature"])
    if len(classes) not in (2, 3) or list(classes) != sorted(set(classes)):
        raise ValueError(f"classes {list(classes)}; expected two or three labels in rising order")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature {temperature}; expected a finite number above 0")
    if isinstance(raw, list):
        raw = tuple(map(float, raw))
        found = len(raw)
    elif isinstance(raw, dict):
        raw = ClassLinear(
            tuple(tuple(map(float, row)) for row in raw["coefficients"]),
            tuple(map(float, raw["intercepts"])),
            float(raw["largest_input"]),
        )
        found = len(raw.intercepts)
        if [len(row) for row in raw.coefficients] != [len(columns)] * len(classes):
            raise ValueError(
                f"coefficients of {sorted({len(row) for row in raw.coefficients})} inputs for"
                f" {len(raw.coefficients)} classes; expected {len(columns)} for each of {len(classes)}"
            )
    else:
        return raw
    if found != len(classes):
        raise ValueError(f"{found} logits for {len(classes)} classes")
    return raw


def _blend(values: dict[str, Any]) -> Blend:
    members, weights = (
        tuple(map(str, values["members"])),
        tuple(tuple(map(float, row)) for row in values["weights_RM"]),
    )
    if tuple(values["regimes"]) != REGIMES:
        raise ValueError(f"it knows the regimes {values['regimes']}, this version {list(REGIMES)}")
    if not members or len(set(members)) < len(members) or not all(name.isidentifier() for name in members):
        raise ValueError(f"members {list(members)}; expected at least one, each once, by a plain name")
    if len(weights) != len(REGIMES) + 1 or any(len(row) != len(members) for row in weights):
        raise ValueError(
            f"weights for {len(weights)} rows of {sorted({len(row) for row in weights})} members; expected"
            f" {len(REGIMES) + 1} rows of {len(members)}"
        )
    for name, row in zip((*REGIMES, "an unknown regime"), weights, strict=True):
        if not (all(0 <= weight <= 1 for weight in row) and abs(sum(row) - 1) <= ROUNDING):
            raise ValueError(f"weights {list(row)} of {name}; expected none below 0 and a sum of 1")
    spread, width = float(values["spread"]), float(values["width"])
    if not (0 <= spread < math.inf and 0 < width < math.inf):
        raise ValueError(
            f"spread {spread} and width {width}; expected finite numbers, spread 0 or more and width above 0"
        )
    return Blend(
        tuple(values["columns"]),
        int(values["lookback_bars"]),
        tuple(values["context"]),
        members,
        weights,
        spread,
        width,
    )
