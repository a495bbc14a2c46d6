"""What is usual: how far windows of the reference lie from the rest of it, and how many independent rows they
are worth.

Everything is counted once a bar, as running sums over bars; windows are differences of them, so that their
number costs next to nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.contracts.documents.drift_reference import ColumnReference, WindowReference
from components.drift.counting import EDGES, ascending, count_by_bar, distances, first_bars
from components.metrics import effective_rows_by_window, stability_index
from components.metrics.shift import order_statistics, psi_cuts

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
    """Rows of a column in all bars before a bar: up to each of all edges, the last column all with a value
    (T + 1, E), of which `cells` are the upper edges of quantile cells (C,); up to the upper edge of each bin
    of the stability index (T + 1, bins), up to each decile (T + 1, 9), in the tails (T + 1, 1), without a
    value (T + 1, 1).

    `shared`: all rows of a bar have one value, as what describes the market or the calendar.
    """

    running: np.ndarray
    cells: np.ndarray
    bins: np.ndarray
    tails: np.ndarray
    deciles: np.ndarray
    missing: np.ndarray
    shared: bool

    @property
    def known(self) -> np.ndarray:
        """Rows with a value in all bars before, (T + 1, 1)."""
        return self.running[:, -1:]


def describe_column(sample: Sample, psi_bins: int, wanted: int) -> Described:
    """A column, and what is usual for it between windows.

    Rows without a value count as missing but where one could not be: within the symbol's warm-up, and before
    its first value, where it comes to have one. A symbol that never has one lacks it as it does afterwards.

    Parameters
    ----------
    psi_bins : of the stability index
    wanted : length of the windows that drift will look at, in bars
    """
    sketch = order_statistics(ascending(sample.values))
    if np.isnan(sketch[0]):
        return Described(sketch, _nothing_known(sample), {})
    counts, first = _bar_counts(sample, sketch, psi_bins)
    total = sample.total - first
    by_window, found = _describe_windows(counts, window_lengths(total, wanted))
    # The longest window sees most of how slowly the column moves.
    length, longest = list(by_window.items())[-1]
    scale, known = total / int(length), int(counts.known[-1, 0])
    about = ColumnReference(
        group=sample.group,
        kind=sample.kind,
        rows=known,
        missing=int(counts.missing[-1, 0]),
        warm_up_bars=sample.warm_up_bars,
        first_bar=first,
        bars=total,
        tail=float(counts.tails[-1, 0] / known),
        shared=counts.shared,
        effective_rows=longest.effective_rows * scale,
        effective_rows_missing=longest.effective_rows_missing * scale,
        by_window=by_window,
    )
    return Described(sketch, about, found)


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


def _describe_windows(
    counts: BarCounts, lengths: Sequence[int]
) -> tuple[dict[str, WindowReference], dict[int, np.ndarray]]:
    """What windows of each length show, and the Kolmogorov-Smirnov statistic of each window, by length."""
    rows = counts.known + counts.missing
    known_a_bar, rows_a_bar = np.diff(counts.known[:, 0]), np.diff(rows[:, 0])
    effective = {
        "effective_rows": effective_rows_by_window(_a_bar(counts.deciles), known_a_bar, lengths),
        "effective_rows_missing": effective_rows_by_window(_a_bar(counts.missing), rows_a_bar, lengths),
        "effective_rows_tail": effective_rows_by_window(_a_bar(counts.tails), known_a_bar, lengths),
    }
    parts = (counts.bins, counts.tails, counts.missing, counts.known, rows)
    running = np.concatenate(parts, axis=1).astype(float)
    by_window, found = {}, {}
    for k, length in enumerate(lengths):
        places = _places(len(running) - 1, length)
        found[length], fewest = distances(
            counts.running, counts.cells, places.starts, places.length, places.low, places.high
        )
        inside, rest = places.sums(running)
        tails, missing, known, all_rows = (inside[:, number] for number in range(-4, 0))
        tail = tails / np.maximum(known, 1)
        bins_in, bins_out = (np.diff(side[:, :-4], axis=1, prepend=0.0) for side in (inside, rest))
        by_window[str(length)] = WindowReference(
            windows=len(inside),
            ks=_most(found[length]),
            psi=_most(stability_index(bins_out, bins_in)),
            missing=_most(missing / np.maximum(all_rows, 1)),
            tail=_most(tail),
            tail_root=_centre_and_spread(np.sqrt(tail)),
            fewest_cells=int(fewest),
            **{name: by_length[k] for name, by_length in effective.items()},
        )
    return by_window, found


def _a_bar(running: np.ndarray) -> np.ndarray:
    return np.diff(running, axis=0)


@dataclass(frozen=True)
class _Places:
    """Windows of `length` bars: the first bar of each (W,), and the bars from `low` to `high`, (W,) each,
    that are no part of the rest which it is compared with.
    """

    length: int
    starts: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def sums(self, running: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums inside each window and over the rest, (W, K) each, from running sums (T + 1, K)."""
        inside = running[self.starts + self.length] - running[self.starts]
        return inside, running[-1] - (running[self.high] - running[self.low])


def _places(total: int, length: int) -> _Places:
    """A quarter of the length apart; the rest lies at least as far from a window as that is long, where so
    many bars do.
    """
    length = min(length, total)
    starts = np.unique(np.append(np.arange(0, total - length + 1, max(length // 4, 1)), total - length))
    low, high = np.maximum(starts - length, 0), np.minimum(starts + 2 * length, total)
    enough = (total - (high - low)) >= LEAST_REST * total
    return _Places(length, starts, np.where(enough, low, starts), np.where(enough, high, starts + length))


def window_and_rest(bar_counts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums over windows of `length` bars, a quarter of it apart, and over the bars that are far from each.

    Parameters
    ----------
    bar_counts : shape (T, K)

    Returns
    -------
    Two arrays of shape (windows, K).
    """
    running = np.concatenate([np.zeros((1, bar_counts.shape[1])), np.cumsum(bar_counts, axis=0, dtype=float)])
    return _places(len(bar_counts), length).sums(running)


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


def _bar_counts(sample: Sample, sketch: np.ndarray, psi_bins: int) -> tuple[BarCounts, int]:
    """The rows that count, by bar from the first with a value on, and the number of that bar."""
    begins = first_bars(
        sample.values, sample.bars, sample.symbols, int(sample.symbols.max()) + 1, sample.total
    )
    first = int(begins.min())
    begins[begins == sample.total] = first
    cells = np.unique(sketch[_evenly(len(sketch), CELLS)[1:-1]])
    bins = psi_cuts(sketch, psi_bins)
    deciles = sketch[_evenly(len(sketch), 10)[1:-1]]
    low, high = (np.array([limit], dtype=sketch.dtype) for limit in tail_limits(sketch))
    below = np.nextafter(low, -np.inf, dtype=sketch.dtype)
    edges = np.unique(np.concatenate([cells, bins, deciles, below, high]))
    padded = np.full(EDGES, np.inf, dtype=sketch.dtype)
    padded[: len(edges)] = edges
    counted = np.int32 if len(sample.values) <= np.iinfo(np.int32).max else np.int64
    running = np.zeros((sample.total - first + 1, len(edges) + 1), counted)
    missing = np.zeros(sample.total - first, counted)
    shared = count_by_bar(
        *(sample.values, sample.bars, sample.symbols, sample.own_bars, begins, sample.warm_up_bars),
        *(padded, running, missing),
    )

    def up_to(cuts: np.ndarray) -> np.ndarray:
        return running[:, np.searchsorted(edges, cuts)]

    known = running[:, -1:]
    counts = BarCounts(
        running=running,
        cells=np.append(np.searchsorted(edges, cells), len(edges)),
        bins=np.concatenate([up_to(bins), known], axis=1),
        tails=up_to(below) + known - up_to(high),
        deciles=up_to(deciles),
        missing=np.concatenate([[0], np.cumsum(missing)])[:, None],
        shared=bool(shared),
    )
    return counts, first


def _evenly(size: int, parts: int) -> np.ndarray:
    """Places of the borders of so many equal parts of a sketch, its ends included."""
    return np.round(np.linspace(0, size - 1, parts + 1)).astype(int)


def _centre_and_spread(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _most(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.max()) if len(values) else 0.0
