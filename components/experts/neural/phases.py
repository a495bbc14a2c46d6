"""The phases of a fit: what each is given, and how they share its progress."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.experts.neural.config import Neural
from components.experts.protocol import Advance

if TYPE_CHECKING:
    from components.experts.neural.panel import Panel

# Shares of the progress that pretraining, the student and the bands take, where they are on.
PRETRAINING_SHARE, STUDENT_SHARE, BANDS_SHARE = 0.3, 0.2, 0.1


@dataclass(frozen=True)
class Phase:
    """What a phase of a fit is given.

    model : torch module on the panel's device, changed in place
    rows : row numbers of the panel to learn from
    whole_days : a batch is whole timestamps
    """

    model: Any
    panel: "Panel"
    rows: np.ndarray
    seed: int
    advance: Advance
    whole_days: bool = False


class Progress:
    """Cuts the progress of a fit into that of its phases, each of which reports from 0 to 1."""

    def __init__(self, advance: Advance, settings: Neural):
        pretraining = PRETRAINING_SHARE * bool(settings.pretraining.epochs)
        student = STUDENT_SHARE * bool(settings.continual.student_bars)
        bands = BANDS_SHARE * bool(settings.training.band_epochs)
        self._advance, self._borders = advance, (0.0, pretraining, 1.0 - student - bands, 1.0 - bands, 1.0)

    def pretraining(self, share: float, text: str) -> None:
        """Progress before any label is seen."""
        self._report(0, share, f"pretraining, {text}")

    def training(self, share: float, text: str) -> None:
        """Progress of learning from labels."""
        self._report(1, share, text)

    def student(self, share: float, text: str) -> None:
        """Progress of the student."""
        self._report(2, share, f"student, {text}")

    def bands(self, share: float, text: str) -> None:
        """Progress of the bands."""
        self._report(3, share, f"bands, {text}")

    def _report(self, phase: int, share: float, text: str) -> None:
        first, end = self._borders[phase : phase + 2]
        self._advance(first + (end - first) * share, text)
