"""What the model says about a task that is predicted beside the judged one."""

from dataclasses import dataclass

import numpy as np

from components.scoring import Scores


@dataclass(frozen=True)
class TaskScores:
    """A label column over so many bars, and the scores of rows [B]."""

    target: str
    horizon: int
    scores: Scores

    def at(self, places: np.ndarray) -> "TaskScores":
        """Of the rows at these places."""
        return TaskScores(self.target, self.horizon, self.scores.at(places))
