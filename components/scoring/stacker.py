"""The served form of the stacker: standardises the experts over the symbols of a bar, weighs them, and puts a
band around the result.

The stacking stage standardises and draws its bands through the same functions, in Float64.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.contracts import REGIMES, require_json
from components.scoring.classes import class_answer, own_classes, sharpened
from components.scoring.form import SERVED_FORMAT, ScoringError
from components.scoring.graph import Graph

STACKER_FILE, GRAPH_FILE = "stacker.json", "stacker.onnx"
# What the parts of a head are called in the file, in the order of its fields.
HEAD_NAMES = ("head_scale", "head_bias", "band_low", "band_high")
USUAL_NAME = "usual_uncertainty"
CLASSES_NAME, TEMPERATURE_NAME = "classes", "temperature"
WIDTHS_NAME = "widths"
BY_SECTOR_NAME = "by_sector"
Z90 = 1.2815515655446004
LARGEST_DEVIATION = 5.0
SMALLEST_SPREAD = 1e-12
SMALLEST_WIDTH = 1e-9


@dataclass(frozen=True)
class Scores:
    """What the model says about rows, [B], Float64, in the target's unit; the probabilities of its classes
    are None where the target is a number.
    """

    score: np.ndarray
    uncertainty: np.ndarray
    p10: np.ndarray
    p50: np.ndarray
    p90: np.ndarray
    p_down: np.ndarray | None = None
    p_none: np.ndarray | None = None
    p_up: np.ndarray | None = None

    def columns(self) -> dict[str, np.ndarray]:
        """What there is, by name."""
        return {name: values for name, values in vars(self).items() if values is not None}

    def at(self, places: np.ndarray) -> "Scores":
        """Of the rows at these places."""
        return Scores(**{name: values[places] for name, values in self.columns().items()})


@dataclass(frozen=True)
class Pool:
    """What makes the stack's probabilities of its experts': their mean, at a temperature. The mean of several
    is less sure than they have a right to be (Ranjan and Gneiting 2010, *Combining Probability Forecasts*),
    which the temperature mends.

    `values` are the labels of the classes, in rising order.
    """

    values: tuple[int, ...]
    temperature: float

    def chances(self, chance_EB3: np.ndarray) -> np.ndarray:
        """Probabilities of the classes, [B, 3]."""
        return sharpened(chance_EB3.mean(axis=0), self.temperature)


@dataclass(frozen=True)
class Head:
    """What makes a return with a band of a combiner's output.

    `scale` and `bias` make the score; `low` and `high` say how many widths p10 and p90 lie away, where a
    width is the mean uncertainty of the experts that the combiner listens to. `usual` is the uncertainty that
    nine of ten rows that it was calibrated on did not exceed; infinite where nobody knows. `pool` makes the
    probabilities where the target is a class; the band is then that of their distribution.
    """

    scale: float
    bias: float
    low: float
    high: float
    usual: float = np.inf
    pool: Pool | None = None

    def scores(
        self, raw_B: np.ndarray, uncertainty_EB: np.ndarray, chance_EB3: np.ndarray | None = None
    ) -> Scores:
        """Score and band of the combiner's output, its experts' uncertainties and their probabilities."""
        score_B = self.scale * raw_B + self.bias
        if self.pool is not None:
            chance_B3 = self.pool.chances(chance_EB3)
            found = class_answer(own_classes(chance_B3, len(self.pool.values)), self.pool.values)
            return Scores(score_B, found.uncertainty, found.p10, found.p50, found.p90, *chance_B3.T)
        width_B = width(uncertainty_EB)
        p10_B, p90_B = score_B - self.low * width_B, score_B + self.high * width_B
        return Scores(score_B, (p90_B - p10_B) / (2 * Z90), p10_B, score_B, p90_B)


@dataclass(frozen=True)
class Stacker:
    """`weights_QE`: row 0 for every bar, row 1 + r on top of it in regime r. `graph` instead, for trees and
    networks. `guests` learned another task; `width_E`: factors on the uncertainties where there are such,
    else None. `by_sector`: scores are taken less the mean of their sector before they are standardised.
    """

    method: str
    experts: tuple[str, ...]
    weights_QE: np.ndarray | None
    graph: Graph | None
    head: Head
    width_E: np.ndarray | None = None
    guests: tuple[str, ...] = ()
    by_sector: bool = False

    def scores(self, raw_B: np.ndarray, uncertainty_EB: np.ndarray, chance_EB3: np.ndarray | None) -> Scores:
        """As `Head.scores`, with every expert's uncertainty in the unit of the stack's target."""
        if self.width_E is not None:
            uncertainty_EB = uncertainty_EB * self.width_E[:, None]
        return self.head.scores(raw_B, uncertainty_EB, chance_EB3)

    def raw(self, z_EB: np.ndarray, u_EB: np.ndarray, regime_BR: np.ndarray) -> np.ndarray:
        """The combiner's output [B] from standardised scores and uncertainties."""
        if self.graph is not None:
            inputs_BA = np.concatenate([z_EB.T, u_EB.T, regime_BR], axis=1, dtype=np.float32)
            return self.graph(inputs=inputs_BA)["raw"]
        weights_EB = self.weights_QE[0][:, None] + self.weights_QE[1:].T @ regime_BR.T
        return (weights_EB * z_EB).sum(axis=0)


def width(uncertainty_EB: np.ndarray) -> np.ndarray:
    """The unit of the band, [B]: the mean uncertainty of the served experts, so that the others need not be
    served.
    """
    return np.maximum(uncertainty_EB.mean(axis=0), SMALLEST_WIDTH)


def standardise(values_EB: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Deviations from the mean of the bar in its spread, clipped; 0 where the bar has no spread.

    Mean and spread broadcast against [E, B].
    """
    varies = spread > SMALLEST_SPREAD
    return np.where(
        varies,
        np.clip((values_EB - mean) / np.where(varies, spread, 1.0), -LARGEST_DEVIATION, LARGEST_DEVIATION),
        0.0,
    )


def read_stacker(folder: Path, *, threads: int) -> Stacker:
    """Read `stacker.json` and, for trees and networks, `stacker.onnx`.

    Raises
    ------
    ScoringError
        If a file is missing, broken, or older than serving.
    """
    path = Path(folder) / STACKER_FILE
    remedy = "Fetch the bundle again, or train the model again."
    values = require_json(path, remedy=remedy, error=ScoringError)
    found = values.get("format")
    if found != SERVED_FORMAT:
        raise ScoringError(
            f"{path} has format {found!r}, this version reads {SERVED_FORMAT}. Train the model again, or"
            " serve it with the version that made it."
        )
    try:
        return _stacker(values, path, threads)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ScoringError(
            f"{path} is not a whole stacker ({type(error).__name__}: {error}). Train the model again."
        ) from error


def _stacker(values: dict[str, Any], path: Path, threads: int) -> Stacker:
    experts = tuple(values["served_experts"])
    if tuple(values["regimes"]) != REGIMES:
        raise ScoringError(
            f"{path} knows the regimes {values['regimes']}, this version {list(REGIMES)}. Train the model"
            " again."
        )
    if not experts or len(set(experts)) < len(experts):
        raise ScoringError(
            f"{path} names the served experts {list(experts)}; expected at least one, each once. Train the"
            " model again."
        )
    graph, weights_QE = None, None
    if values["graph"]:
        graph = Graph(
            path.with_name(values["graph"]), {"inputs": (2 * len(experts) + len(REGIMES),)}, ["raw"], threads
        )
    else:
        weights_QE = _weights(values["weights"], experts, path)
    usual = values.get(USUAL_NAME)
    # A file without classes is of a target that is a number.
    classes = tuple(map(int, values.get(CLASSES_NAME, ())))
    head = Head(
        *(float(values[name]) for name in HEAD_NAMES),
        usual=float(usual) if usual is not None else np.inf,
        pool=Pool(classes, float(values[TEMPERATURE_NAME])) if classes else None,
    )
    # A file without widths is of experts that all learned the stack's task.
    widths = {name: float(value) for name, value in values.get(WIDTHS_NAME, {}).items()}
    if not all(0 < value < np.inf for value in widths.values()):
        raise ValueError(f"widths {widths}; expected finite numbers above 0")
    width_E = np.array([widths.get(name, 1.0) for name in experts]) if widths else None
    # A file that does not say so is of a stack that compares all symbols of a bar.
    by_sector = values.get(BY_SECTOR_NAME, False)
    if not isinstance(by_sector, bool):
        raise TypeError(f"{BY_SECTOR_NAME} is {by_sector!r}; expected true or false")
    return Stacker(str(values["method"]), experts, weights_QE, graph, head, width_E, tuple(widths), by_sector)


def _weights(weights: dict[str, float], experts: tuple[str, ...], path: Path) -> np.ndarray:
    """Weights by `expert` and `expert|regime` as an array [1 + regimes, experts]."""
    rows = {"": 0, **{regime: 1 + number for number, regime in enumerate(REGIMES)}}
    weights_QE = np.zeros((len(rows), len(experts)))
    for key, weight in weights.items():
        name, _, regime = key.partition("|")
        if weight and name not in experts:
            raise ScoringError(
                f"{path} gives {name} the weight {weight}, but does not name it among served_experts"
                f" {list(experts)}. Train the model again."
            )
        if weight:
            weights_QE[rows[regime], experts.index(name)] = weight
    return weights_QE
