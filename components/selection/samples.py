"""The labelled rows of an era: how many are drawn, which inputs are usable in them, and which input stands
for a cluster of near copies.
"""

from dataclasses import dataclass, replace

import numpy as np

from components.selection.config import Settings
from components.selection.models import moments, standardised
from components.selection.rows import Rows, bar_starts

COMMON_SAMPLE_ROWS = 4_000


@dataclass(frozen=True)
class Sample:
    """Labelled rows of some bars: values (n, F), target, bars and symbols (n,)."""

    values: np.ndarray
    target: np.ndarray
    bars: np.ndarray
    symbols: np.ndarray

    def of_inputs(self, columns: np.ndarray) -> "Sample":
        """The same rows with the inputs at these positions."""
        return replace(self, values=np.ascontiguousarray(self.values[:, columns]))

    def bar_starts(self) -> np.ndarray:
        """First row of each bar that has rows, and the end of the last; (bars + 1,)."""
        return bar_starts(self.bars)


def draw_rows(
    rows: Rows, first: int, end: int, most_rows: int, stride: int, rng: np.random.Generator
) -> Sample:
    """Labelled rows of every `stride`-th bar, and of fewer where they would be more than `most_rows`; the
    first bar taken is drawn.
    """
    part = rows.slice(first, end)
    stride = max(stride, -(-(part.stop - part.start) // most_rows))
    kept = ((rows.bars[part] - first) % stride == int(rng.integers(stride))) & np.isfinite(rows.target[part])
    place = part.start + np.flatnonzero(kept)
    return Sample(rows.values[place], rows.target[place], rows.bars[place], rows.symbols[place])


def usable_inputs(sample: Sample, settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Usable inputs by coverage and variance, their correlations, and for each input the position of the one
    that stands for its cluster.
    """
    values, chosen = sample.values, settings.filter
    coverage = np.isfinite(values).sum(axis=0) / max(len(values), 1)
    _, spread = moments(values)
    usable = np.zeros(values.shape[1], dtype=bool)
    if len(values):
        usable = (coverage >= chosen.least_coverage) & (spread != 1.0)
    step = max(len(values) // COMMON_SAMPLE_ROWS, 1)
    for column in np.flatnonzero(usable):
        usable[column] = _varies(values[::step, column], chosen.most_common_share)
    correlation = np.full((values.shape[1],) * 2, np.nan)
    stands_for = np.arange(values.shape[1])
    places = np.flatnonzero(usable)
    if len(places):
        among = _correlations(values[:, places])
        correlation[np.ix_(places, places)] = among
        number = clusters(among, chosen.largest_correlation)
        for cluster in np.unique(number):
            members = np.flatnonzero(number == cluster)
            central = np.abs(among[np.ix_(members, members)]).mean(axis=1).round(6)
            first = members[np.lexsort((-central, -coverage[places[members]]))[0]]
            stands_for[places[members]] = places[first]
    return usable, correlation, stands_for


def _varies(values: np.ndarray, most_common_share: float) -> bool:
    """Whether no single value makes up more than a share of those that are known."""
    known = values[np.isfinite(values)]
    return len(known) > 0 and bool(
        np.unique(known, return_counts=True)[1].max() <= most_common_share * len(known)
    )


def _correlations(values: np.ndarray) -> np.ndarray:
    """Correlation of the inputs with each other, missing values at their mean; shape (inputs, inputs)."""
    scored = standardised(values, *moments(values)).astype(np.float32)
    scored /= np.maximum(np.sqrt((scored**2).sum(axis=0)), 1e-12)
    return np.clip(scored.T @ scored, -1, 1).astype(float)


def clusters(correlation: np.ndarray, largest: float) -> np.ndarray:
    """Cluster number of each input: complete linkage, so that all members of a cluster correlate by more than
    `largest` in absolute value with each other.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(correlation) < 2:
        return np.zeros(len(correlation), dtype=np.int64)
    distance = np.clip(1 - np.abs(correlation), 0, 1)
    condensed = ((distance + distance.T) / 2)[np.triu_indices(len(distance), 1)]
    return fcluster(linkage(condensed, "complete"), 1 - largest, "distance")
