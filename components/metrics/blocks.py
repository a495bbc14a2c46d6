"""How long the blocks of a bootstrap must be, so that what depends on each other is drawn together."""

import numpy as np

from components.metrics.bootstrap_import import import_bootstrap

# Of the lengths that several series ask for the one that is taken: one odd series does not set it for all,
# and the steady half does not hide a quarter that is persistent.
QUANTILE = 0.75
# Blocks of two horizons lose half of a horizon's overlap at most at each border.
HORIZONS_A_BLOCK = 2


def block_length(values: np.ndarray, *, horizon: int = 1) -> int:
    """Mean length of the blocks of a stationary bootstrap, from the data: Politis and White (2004),
    *Automatic block-length selection for the dependent bootstrap*, as corrected by Patton, Politis and White
    (2009).

    Never below two horizons, nor below the cube root of the number of bars: what is found in a short series
    by its autocorrelations is unsure, and a length of 1 calls luck of persistent returns skill.

    Parameters
    ----------
    values : shape (bars,) or (bars, series), finite, in order of time; of several series the upper quartile
        counts, constant ones say nothing
    horizon : bars that a value spans, where neighbouring ones overlap

    Returns
    -------
    At least 1, at most the number of bars.
    """
    values = np.asarray(values, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    bars = len(values)
    floor = max(HORIZONS_A_BLOCK * horizon, int(np.ceil(bars ** (1 / 3))), 1)
    moving = values[:, np.ptp(values, axis=0) > 0] if bars > floor else values[:, :0]
    asked = _optimal_lengths(moving) if moving.shape[1] else np.array([])
    asked = asked[np.isfinite(asked)]
    length = int(np.ceil(np.quantile(asked, QUANTILE))) if len(asked) else 1
    return max(min(max(length, floor), bars), 1)


def _optimal_lengths(values: np.ndarray) -> np.ndarray:
    """What each series asks for; shape (bars, series) gives (series,)."""
    return import_bootstrap().optimal_block_length(values)["stationary"].to_numpy()


def dependent_bars(values: np.ndarray, *, horizon: int = 1) -> int:
    """Bars over which values are alike, for `long_run_variance` and what is built on it: half of the block
    that the data ask for, at least `horizon`.

    With half, the cosines whose mean square is taken have periods of at least two and a half blocks: for an
    autoregression of 0.9 their variance is nine tenths of that in the long run. With the whole block hardly
    less luck is called skill, but less skill is found (tests/benchmarks/bench_statistics.py).

    Parameters are those of `block_length`.
    """
    return max(horizon, block_length(values) // 2)
