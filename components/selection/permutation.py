"""Time-aware permutation: an input keeps its own time series, but loses its place in time; what the model
then loses is what the input was worth.

Rows that are shuffled freely would also lose the input's persistence, and an overfit model would look as if
it needed it.
"""

from dataclasses import dataclass

import numpy as np

from components.selection.models import Forest, Ridge
from components.selection.samples import Sample

# A one-sided 80 % limit above 0 is a vote: under chance one input in five gets it, as with four flips.
VOTE_ERRORS = 0.84
BATCH_ROWS = 200_000


@dataclass(frozen=True)
class Loss:
    """What each input (K,) is worth on held-out bars, in RankIC: mean, standard deviation over draws, its
    standard error over bars and draws, 95 % interval.
    """

    mean: np.ndarray
    deviation: np.ndarray
    error: np.ndarray

    @property
    def low(self) -> np.ndarray:
        """Lower 95 % limit."""
        return self.mean - 1.96 * self.error

    @property
    def high(self) -> np.ndarray:
        """Upper 95 % limit."""
        return self.mean + 1.96 * self.error


def cyclic_shift(bars: np.ndarray, symbols: np.ndarray, shift: int) -> np.ndarray:
    """For each row, the row of the same symbol `shift` of its own rows earlier, around the end; shape
    (rows,). Rows are sorted by (bar, symbol).
    """
    order = np.lexsort((bars, symbols))
    starts = np.searchsorted(symbols[order], symbols[order], side="left")
    counts = np.searchsorted(symbols[order], symbols[order], side="right") - starts
    source = np.empty(len(bars), dtype=np.int64)
    source[order] = order[starts + (np.arange(len(order)) - starts - shift) % counts]
    return source


def block_permutation(
    bars: np.ndarray, symbols: np.ndarray, block_bars: int, rng: np.random.Generator
) -> np.ndarray:
    """For each row, the row of the same symbol in the bar that takes its bar's place when blocks of bars are
    shuffled; -1 where the symbol has none.
    """
    calendar, place = np.unique(bars, return_inverse=True)
    blocks = [calendar[first : first + block_bars] for first in range(0, len(calendar), block_bars)]
    shuffled = np.concatenate([blocks[k] for k in rng.permutation(len(blocks))])
    row_of = np.full((len(calendar), int(symbols.max()) + 1), -1, dtype=np.int64)
    row_of[place, symbols] = np.arange(len(bars))
    return row_of[np.searchsorted(calendar, shuffled)[place], symbols]


def permutation_loss(
    model: Forest | Ridge,
    held: Sample,
    *,
    inputs: np.ndarray,
    repeats: int,
    block_bars: int,
    lags: int,
    rng: np.random.Generator,
) -> Loss:
    """Fall of the RankIC when an input is moved in time, for each of `inputs`; 0 for the inputs that were not
    asked.

    Parameters
    ----------
    held : held-out rows, sorted by (bar, symbol), all with a target
    inputs : positions of the inputs to move
    repeats : draws of a cyclic shift within the symbol, and as many of a block permutation
    lags : autocovariances of the fall a bar that the error takes in
    """
    from components.selection.kernels import rank_correlations

    values, target, bars, symbols = held.values, held.target, held.bars, held.symbols
    starts = held.bar_starts()
    length = len(starts) - 1
    shifts = rng.integers(max(length // 4, 1), max(3 * length // 4, 2), size=repeats)
    block = max(min(block_bars, length // 3), 1)
    sources = [cyclic_shift(bars, symbols, int(shift)) for shift in shifts] + [
        block_permutation(bars, symbols, block, rng) for _ in range(repeats)
    ]
    base = rank_correlations(model.outputs(values)[:, None], target, starts)[:, 0]
    mean, deviation, error = (np.zeros(values.shape[1]) for _ in range(3))
    for column in inputs:
        moved = rank_correlations(_moved_outputs(model, values, int(column), sources), target, starts)
        falls = base[:, None] - moved
        known = np.isfinite(falls).all(axis=1)
        if known.sum() < 3:
            continue
        draws = falls[known].mean(axis=0)
        mean[column], deviation[column] = draws.mean(), draws.std(ddof=1)
        error[column] = np.hypot(
            _error_of_mean(falls[known].mean(axis=1), lags), deviation[column] / np.sqrt(len(draws))
        )
    return Loss(mean, deviation, error)


def _moved_outputs(
    model: Forest | Ridge, values: np.ndarray, column: int, sources: list[np.ndarray]
) -> np.ndarray:
    """Outputs with one input taken from the rows in `sources`, several draws a call; shape (rows, draws)."""
    rows, step = len(values), max(BATCH_ROWS // len(values), 1)
    outputs = np.empty((rows, len(sources)))
    for first in range(0, len(sources), step):
        some = sources[first : first + step]
        stacked = np.concatenate([values] * len(some))
        stacked[:, column] = np.concatenate(
            [np.where(source >= 0, values[source, column], np.nan) for source in some]
        )
        outputs[:, first : first + len(some)] = model.outputs(stacked).reshape(len(some), rows).T
    return outputs


def _error_of_mean(series: np.ndarray, lags: int) -> float:
    """Newey and West's (1987) standard error of a mean, at least the ordinary one."""
    size, centred = len(series), series - series.mean()
    variance = ordinary = float(centred @ centred) / size
    for lag in range(1, min(lags, size - 2) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / size
    return float(np.sqrt(max(variance, ordinary) / max(size - 1, 1)))
