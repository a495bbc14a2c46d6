"""Votes against chance of the same kind: the labels' direction is redrawn by block of bars (a wild block
bootstrap, Liu 1988), everything else stays, persistence and common moves of the symbols included. Here are
the redrawn directions, and the methods that fit no model.
"""

import numpy as np

from components.selection.samples import Sample

BINS, TARGET_EDGES = 8, (-0.84, -0.25, 0.25, 0.84)


def redrawn_signs(blocks: int, flips: int, rng: np.random.Generator) -> np.ndarray:
    """Distinct patterns of -1 and 1 a block, none of them all equal, none another's mirror; shape (flips or
    as many as there are, blocks).
    """
    patterns: dict[bytes, np.ndarray] = {}
    for _ in range(50 * flips):
        drawn = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), blocks)
        drawn *= drawn[0]
        if (drawn < 0).any():
            patterns.setdefault(drawn.tobytes(), drawn)
        if len(patterns) == flips:
            break
    return np.stack(list(patterns.values()))


def beats(value: np.ndarray, nulls: np.ndarray) -> np.ndarray:
    """1 where the value is above all its nulls (R, F), 0 where not, NaN where there is none."""
    best = np.where(np.isfinite(nulls), nulls, -np.inf).max(axis=0)
    return np.where(np.isfinite(value), (value > best) & (value > 0), np.nan)


def flipped_ic(daily: np.ndarray, block: int, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean RankIC of the era, and under each redrawn direction (R, F)."""
    known = np.isfinite(daily)
    filled, count = np.where(known, daily, 0.0), known.sum(axis=0).astype(float)
    count[count == 0] = np.nan
    by_block = np.stack([filled[first : first + block].sum(axis=0) for first in range(0, len(daily), block)])
    return by_block.sum(axis=0) / count, signs @ by_block / count


def mutual_information(
    sample: Sample, block_of_row: np.ndarray, signs: np.ndarray, usable: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mutual information (nats) of each input in eight bins, missing apart, with the target in five, and
    under each redrawn direction.

    A turned direction only mirrors the target's bins, so counts by block are taken once.
    """
    size, blocks, wide = sample.values.shape[1], signs.shape[1], len(TARGET_EDGES) + 1
    target = np.searchsorted(TARGET_EDGES, sample.target)
    found, nulls = np.full(size, np.nan), np.full((len(signs), size), np.nan)
    for column in np.flatnonzero(usable):
        values = sample.values[:, column]
        known = np.isfinite(values)
        edges = np.unique(np.quantile(values[known], np.arange(1, BINS) / BINS))
        code = np.where(known, np.searchsorted(edges, values), BINS)
        counts = (
            np.bincount(
                (block_of_row * (BINS + 1) + code) * wide + target, minlength=blocks * (BINS + 1) * wide
            )
            .reshape(blocks, BINS + 1, wide)
            .astype(float)
        )
        found[column] = _information(counts.sum(axis=0))
        both = np.stack([counts, counts[:, :, ::-1]])
        nulls[:, column] = [
            _information(both[(sign < 0).astype(int), np.arange(blocks)].sum(axis=0)) for sign in signs
        ]
    return found, nulls


def _information(counts: np.ndarray) -> float:
    joint = counts / counts.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    full = joint > 0
    return float((joint[full] * np.log(joint[full] / apart[full])).sum())
