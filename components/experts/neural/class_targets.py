"""Targets of classes for networks: the direction head learns the labels' own classes and answers.

Shapes: N rows.
"""

import numpy as np
import polars as pl

from components.contracts.classes import class_places, class_values
from components.experts.classes import ClassHead, class_numbers, fit_head
from components.experts.neural.config import Neural
from components.experts.neural.predict import Predicted
from components.experts.protocol import Task

# Of what the direction head says, so that no logarithm is infinite.
SMALLEST_CHANCE = 1e-12


def settings_of(settings: Neural, task: Task) -> Neural:
    """The settings as they hold for the task. Where its target is a class, the direction head learns it, by
    cross entropy unless `losses.focal` says otherwise; early stopping watches its average precision; and no
    quantiles are learned, as a class has none that follow volatility.
    """
    if not class_values(task.target):
        return settings
    losses = settings.losses
    learned = {"pinball": 0.0} | ({} if losses.focal else {"focal": 1.0, "focal_gamma": 0.0})
    watched = {"monitor": "average_precision", "band_epochs": 0}
    return settings.model_copy(
        update={
            "losses": losses.model_copy(update=learned),
            "training": settings.training.model_copy(update=watched),
        }
    )


def heads_classes(label_N: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """Class of the direction head (0 down, 1 none, 2 up) of finite labels, int64."""
    rows = pl.DataFrame({"label": label_N})
    return np.asarray(class_places(len(values)), dtype=np.int64)[class_numbers(rows, values)]


def class_logits(found: Predicted, classes: int) -> np.ndarray:
    """Logits [N, classes] of what the direction head said."""
    chance_NC = found.direction_NC[:, list(class_places(classes))]
    return np.log(np.maximum(chance_NC, SMALLEST_CHANCE))


def fit_class_head(judged: pl.DataFrame, found: Predicted, task: Task) -> ClassHead:
    """The temperature by early-stopping rows, `judged` as a table."""
    return fit_head(judged, class_logits(found, len(class_values(task.target))), task)
