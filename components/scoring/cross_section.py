"""What scores are compared with: mean and spread over the symbols of a bar, and the means of its sectors.

Shapes: E experts, B rows, S sectors.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from components.scoring.moments import peer_means


@dataclass(frozen=True)
class SectorMeans:
    """Mean score of each sector of a bar, [E, S], by its code, ascending; `others_E` for rows whose sector is
    unknown or none of these.
    """

    codes_S: np.ndarray
    mean_ES: np.ndarray
    others_E: np.ndarray

    @classmethod
    def of(cls, score_EB: np.ndarray, sector_B: np.ndarray) -> Self:
        """Of the rows of one whole bar."""
        means_EB = peer_means(score_EB, np.zeros(len(sector_B), dtype=np.int64), sector_B)
        codes_S, first_S = np.unique(sector_B[np.isfinite(sector_B)], return_index=True)
        known = np.flatnonzero(np.isfinite(sector_B))
        return cls(codes_S, means_EB[:, known[first_S]], score_EB.mean(axis=1))

    def at(self, sector_B: np.ndarray) -> np.ndarray:
        """Means [E, B] for rows of these sectors."""
        if not len(self.codes_S):
            return np.repeat(self.others_E[:, None], len(sector_B), axis=1)
        place_B = np.searchsorted(self.codes_S, sector_B).clip(max=len(self.codes_S) - 1)
        return np.where(self.codes_S[place_B] == sector_B, self.mean_ES[:, place_B], self.others_E[:, None])


@dataclass(frozen=True)
class CrossSection:
    """Mean and standard deviation of the experts' outputs over all symbols of a bar, [E]; 0 where a deviation
    is not defined.

    Rows of several bars take arrays [E, B], each row with those of its own bar. Where the stack takes scores
    less the mean of their sector the spread is that of what is left, and `sectors` has the means; rows of
    several bars have them in `score_mean`.
    """

    names: tuple[str, ...]
    score_mean: np.ndarray
    score_spread: np.ndarray
    uncertainty_mean: np.ndarray
    uncertainty_spread: np.ndarray
    sectors: SectorMeans | None = None
