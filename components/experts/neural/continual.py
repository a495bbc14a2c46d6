"""Continual learning: a student goes on from the teacher, which knows the whole training window, with its
newest bars, and is held near the teacher.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from components.experts.neural import distributed
from components.experts.neural.config import Neural
from components.experts.neural.panel import Panel
from components.experts.neural.phases import Phase
from components.experts.neural.predict import predict

if TYPE_CHECKING:
    from components.experts.neural.targets import Targets


def teach_student(
    phase: Phase, targets: "Targets", settings: Neural, monitor: Callable[[], float] | None
) -> list[dict[str, float]]:
    """Turn the phase's model from the teacher into the student.

    The student's loss is the task's plus `losses.distillation` times the squared distance from the teacher's
    score, over those of the phase's rows that lie on their newest `continual.student_bars` timestamps. With a
    `monitor` (higher is better) the teacher's weights stay where no epoch of the student is better.

    Returns
    -------
    An entry for the teacher (`monitor` and `teacher` 1), where there is a monitor, and one an epoch of the
    student.
    """
    from components.experts.neural.engine import Job, Watch, train
    from components.experts.neural.supervised import Supervised

    model, panel, whole_days = phase.model, phase.panel, phase.whole_days
    newest = newest_rows(phase.rows, panel.day_N, settings.continual.student_bars)
    windows = settings.training.predict_windows
    teacher_N = teacher_scores(model, panel, newest, windows, whole_days=whole_days)
    taught = replace(targets, teacher_N=teacher_N)
    history, teacher = [], None
    if monitor is not None:
        teacher = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
        own = distributed.agreed(float(monitor()) if distributed.is_main() else math.nan)
        history.append({"teacher": 1.0, "monitor": own})
    rate = settings.optimiser.learning_rate * settings.continual.learning_rate_share
    objective = Supervised(taught, settings.losses, settings.regularisation, panel.device)
    history += train(
        Job(model, objective, panel, newest, phase.seed, whole_days),
        settings.training.model_copy(update={"epochs": settings.continual.epochs}),
        settings.optimiser.model_copy(update={"learning_rate": rate}),
        Watch(phase.advance, monitor),
    )
    if teacher is not None and not max(_worth(entry) for entry in history[1:]) > _worth(history[0]):
        model.load_state_dict(teacher)
    return history


def newest_rows(rows: np.ndarray, day_N: np.ndarray, bars: int) -> np.ndarray:
    """Those of `rows` that lie on the newest `bars` of their timestamps, in time's order."""
    days = np.unique(day_N[rows])[-bars:]
    newest = rows[day_N[rows] >= days[0]]
    return newest[np.argsort(day_N[newest], kind="stable")]


def teacher_scores(
    model: torch.nn.Module, panel: Panel, rows: np.ndarray, windows: int, *, whole_days: bool
) -> np.ndarray:
    """Scores [N] of the first task for `rows`, sorted by day; NaN elsewhere."""
    scores_N = np.full(len(panel.day_N), np.nan, dtype=np.float32)
    scores_N[rows] = predict(model, panel, rows, windows, whole_days=whole_days).score_NT[:, 0]
    return scores_N


def _worth(entry: dict[str, float]) -> float:
    return entry["monitor"] if math.isfinite(entry["monitor"]) else -math.inf
