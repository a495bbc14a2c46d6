"""What inputs are chosen for."""

from dataclasses import dataclass

from components.scoring.moments import TargetTransform
from components.selection.models import Family


@dataclass(frozen=True)
class Purpose:
    """The family of experts that will learn, the target over `horizon` bars that it learns, what of it
    (`transform`), and the modality of the inputs that it may see.

    `tree` judges with LightGBM, `linear` with a ridge regression; `seed` is that of the run.
    """

    family: Family
    horizon: int
    target: str
    seed: int
    modality: str = "base"
    transform: TargetTransform = "zscore"
