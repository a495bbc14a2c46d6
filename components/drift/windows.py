"""What is usual: how far windows of the reference lie from the rest of it, and how many independent rows they
are worth.

Everything is counted once a bar; windows are differences of running sums, so that their number costs next to
nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.contracts.documents.drift_reference import ColumnReference, WindowReference
from components.metrics import effective_rows, quantile_sketch, stability_index
from components.metrics.shift import psi_cuts

LENGTHS = (10, 20, 40, 60, 90, 120, 180, 250, 500, 1000)
# Cells between quantiles in which windows are compared: a Kolmogorov-Smirnov statistic is low by at most one
# cell.
CELLS = 200
TAIL = 0.001
# A window is compared with bars that lie at least its own length away, as long as so much of the reference is
# left.
LEAST_REST = 0.25
# Bins of the population stability index, at quantiles of the reference; missing values have no part in it.
PSI_BINS = 10


@dataclass(frozen=True)
class Sample:
    """One column of the reference: its group and kind, the bars that it needs before its first value, values
    (N,) with NaN for missing, the bar and the symbol's number of each row (N,) from 0, the number of bars,
    and how many bars the row's symbol has had with it (N,).
    """

    group: str
    kind: str
    warm_up_bars: int
    values: np.ndarray
    bars: np.ndarray
    symbols: np.ndarray
    total: int
    own_bars: np.ndarray


def window_lengths(bars: int, wanted: int) -> list[int]:
    """Lengths of the windows that a reference of so many bars has at least three of, the configured one among
    them.
    """
    return sorted({length for length in (*LENGTHS, wanted) if 3 * length <= bars} or {max(bars // 3, 1)})


@dataclass(frozen=True)
class Described:
    """A column as the reference keeps it: sketch (Q,), what is usual for it, and its Kolmogorov-Smirnov
    statistic in each window, by length.
    """

    sketch: np.ndarray
    about: ColumnReference
    distances: dict[int, np.ndarray]


@dataclass(frozen=True)
class BarCounts:
    """Rows of each bar, by what windows are compared in: quantile cells (T, cells), bins of the stability
    index (T, bins), tail (T, 1), deciles (T, 9), without a value (T, 1), and all (T,).
    """

    cells: np.ndarray
    bins: np.ndarray
    tails: np.ndarray
    deciles: np.ndarray
    missing: np.ndarray
    rows: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Rows with a value, (T,)."""
        return self.cells.sum(axis=1)


def describe_column(sample: Sample, psi_bins: int, wanted: int) -> Described:
    """A column, and what is usual for it between windows.

    Rows without a value count as missing but where one could not be: within the symbol's warm-up, and before
    its first value, where it comes to have one. A symbol that never has one lacks it as it does afterwards.

    Parameters
    ----------
    psi_bins : of the stability index
    wanted : length of the windows that drift will look at, in bars
    """
    known = np.isfinite(sample.values)
    sketch = quantile_sketch(sample.values)
    if not known.any():
        return Described(sketch, _nothing_known(sample), {})
    begins = np.full(int(sample.symbols.max()) + 1, sample.total)
    np.minimum.at(begins, sample.symbols[known], sample.bars[known])
    first = int(begins.min())
    begins[begins == sample.total] = first
    warm = ~known & (sample.own_bars <= sample.warm_up_bars)
    kept = (sample.bars >= begins[sample.symbols]) & ~warm
    values, bars, known = sample.values[kept], sample.bars[kept] - first, known[kept]
    total = sample.total - first
    counts = _bar_counts(values, bars, known, total, sketch, psi_bins)
    lengths = window_lengths(total, wanted)
    by_window, distances = {}, {}
    for length in lengths:
        by_window[str(length)], distances[length] = _describe_window(counts, length)
    # The longest window sees most of how slowly the column moves.
    longest, scale = by_window[str(lengths[-1])], total / lengths[-1]
    about = ColumnReference(
        group=sample.group,
        kind=sample.kind,
        rows=int(known.sum()),
        missing=int(counts.missing.sum()),
        warm_up_bars=sample.warm_up_bars,
        first_bar=first,
        bars=total,
        tail=float(counts.tails.sum() / known.sum()),
        shared=_is_shared(values[known], bars[known], total),
        effective_rows=longest.effective_rows * scale,
        effective_rows_missing=longest.effective_rows_missing * scale,
        by_window=by_window,
    )
    return Described(sketch, about, distances)


def _nothing_known(sample: Sample) -> ColumnReference:
    return ColumnReference(
        group=sample.group,
        kind=sample.kind,
        rows=0,
        missing=len(sample.values),
        warm_up_bars=sample.warm_up_bars,
        first_bar=sample.total,
        bars=0,
        effective_rows=0.0,
        effective_rows_missing=0.0,
        by_window={},
    )


def _describe_window(counts: BarCounts, length: int) -> tuple[WindowReference, np.ndarray]:
    """What windows of `length` bars show, and the Kolmogorov-Smirnov statistic of each."""
    parts = (counts.cells, counts.bins, counts.tails, counts.missing, counts.rows[:, None])
    edges = np.cumsum([part.shape[1] for part in parts[:-1]])
    inside, rest = window_and_rest(np.concatenate(parts, axis=1), length)
    cells_in, bins_in, tails_in, missing_in, rows_in = np.split(inside, edges, axis=1)
    cells_out, bins_out, *_ = np.split(rest, edges, axis=1)
    distances = _largest_distance(cells_in, cells_out)
    tail = tails_in[:, 0] / np.maximum(cells_in.sum(axis=1), 1)
    window = WindowReference(
        windows=len(inside),
        ks=_most(distances),
        psi=_most(stability_index(bins_out, bins_in)),
        missing=_most(missing_in[:, 0] / np.maximum(rows_in[:, 0], 1)),
        tail=_most(tail),
        tail_root=_centre_and_spread(np.sqrt(tail)),
        fewest_cells=int((cells_in > 0).sum(axis=1).min()),
        effective_rows=effective_rows(counts.deciles, counts.known, length),
        effective_rows_missing=effective_rows(counts.missing, counts.rows, length),
        effective_rows_tail=effective_rows(counts.tails, counts.known, length),
    )
    return window, distances


def window_and_rest(bar_counts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums over windows of `length` bars, a quarter of it apart, and over the bars that are far from each.

    Parameters
    ----------
    bar_counts : shape (T, K)

    Returns
    -------
    Two arrays of shape (windows, K).
    """
    total = len(bar_counts)
    length = min(length, total)
    running = np.concatenate([np.zeros((1, bar_counts.shape[1])), np.cumsum(bar_counts, axis=0, dtype=float)])
    starts = np.unique(np.append(np.arange(0, total - length + 1, max(length // 4, 1)), total - length))
    inside = running[starts + length] - running[starts]
    low, high = np.maximum(starts - length, 0), np.minimum(starts + 2 * length, total)
    far = running[-1] - (running[high] - running[low])
    near = running[-1] - inside
    enough = (total - (high - low)) >= LEAST_REST * total
    return inside, np.where(enough[:, None], far, near)


def nearest_length(lengths: Sequence[str], bars: int) -> str | None:
    """The longest of the measured lengths that is not above `bars`, else the shortest; None where nothing was
    measured.
    """
    numbers = sorted(int(length) for length in lengths)
    fitting = [length for length in numbers if length <= bars]
    return str(fitting[-1] if fitting else numbers[0]) if numbers else None


def tail_limits(sketch: np.ndarray) -> tuple[float, float]:
    """The values beyond which TAIL of the reference lie on each side."""
    place = round(TAIL * (len(sketch) - 1))
    return float(sketch[place]), float(sketch[-1 - place])


def _is_shared(values: np.ndarray, bars: np.ndarray, total: int) -> bool:
    """Whether all rows of a bar have one value, as what describes the market or the calendar."""
    first = np.zeros(total, dtype=values.dtype)
    first[bars] = values
    return bool((values == first[bars]).all())


def _bar_counts(values, bars, known, total, sketch, psi_bins) -> BarCounts:
    cells, deciles = _cell_counts(values, bars, known, total, sketch)
    return BarCounts(
        cells=cells,
        bins=_bin_counts(values[known], bars[known], total, sketch, psi_bins),
        tails=_tail_counts(values, bars, total, sketch),
        deciles=deciles,
        missing=np.bincount(bars[~known], minlength=total)[:, None],
        rows=np.bincount(bars, minlength=total),
    )


def _cell_counts(values, bars, known, total, sketch) -> tuple[np.ndarray, np.ndarray]:
    """Rows a bar and cell (T, cells), and rows a bar up to each decile (T, 9)."""
    places = np.round(np.linspace(0, len(sketch) - 1, CELLS + 1)[1:-1]).astype(int)
    cuts = np.unique(sketch[places])
    cell = np.searchsorted(cuts, values[known], side="left")
    width = len(cuts) + 1
    counts = np.bincount(bars[known] * width + cell, minlength=total * width).reshape(total, width)
    deciles = np.searchsorted(
        cuts, sketch[np.round(np.linspace(0, len(sketch) - 1, 11)[1:-1]).astype(int)], side="left"
    )
    return counts, np.cumsum(counts, axis=1)[:, np.minimum(deciles, width - 1)]


def _bin_counts(values, bars, total, sketch, psi_bins) -> np.ndarray:
    """Rows a bar and bin of the stability index; shape (T, bins)."""
    cuts = psi_cuts(sketch, psi_bins)
    width = len(cuts) + 1
    cell = np.searchsorted(cuts, values, side="left")
    return np.bincount(bars * width + cell, minlength=total * width).reshape(total, width)


def _tail_counts(values, bars, total, sketch) -> np.ndarray:
    """Rows a bar beyond the tail limits; shape (T, 1)."""
    low, high = tail_limits(sketch)
    beyond = (values < low) | (values > high)
    return np.bincount(bars[beyond], minlength=total)[:, None]


def _largest_distance(inside: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Kolmogorov-Smirnov statistic of each window; NaN where a side holds no rows."""
    rows_in, rows_out = inside.sum(axis=1), rest.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.abs(
            np.cumsum(inside, axis=1) / rows_in[:, None] - np.cumsum(rest, axis=1) / rows_out[:, None]
        ).max(axis=1)
    return np.where((rows_in > 0) & (rows_out > 0), distance, np.nan)


def _centre_and_spread(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _most(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.max()) if len(values) else 0.0
