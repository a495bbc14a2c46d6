"""How far a sample has moved from a reference that is kept as a sketch, and how sure that is when rows depend
on each other.

A sketch holds Q evenly spaced order statistics of a column, smallest and largest included. Nothing here needs
SciPy but the p-values, so that the service's processes can measure shift too.
"""

from collections.abc import Sequence

import numpy as np

SKETCH_SIZE = 2001
# Half a count a bin keeps an empty bin from giving infinity.
SMOOTHING = 0.5
# Of fewer bars nothing is said about how one depends on the one before.
FEWEST_FOR_MEMORY = 4


def order_statistics(ascending: np.ndarray, size: int = SKETCH_SIZE) -> np.ndarray:
    """The sketch of one column, in its type.

    Parameters
    ----------
    ascending : finite values, shape (N,), each at least the one before
    size : Q, at least 2

    Returns
    -------
    Shape (Q,), ascending; NaN where there is no value. Of fewer than Q values each occurs at least once, so
    that the sketch together with their number is the sample itself.
    """
    if not len(ascending):
        return np.full(size, np.nan, dtype=ascending.dtype)
    return ascending[_ranks(len(ascending), size)]


def ks_to_sketch(
    current: np.ndarray, sketch: np.ndarray, rows: int | np.ndarray | None = None
) -> float | np.ndarray:
    """Two-sample Kolmogorov-Smirnov statistic of a sample and a sketched reference: the largest distance of
    their distribution functions.

    Parameters
    ----------
    current : shape (N,) or (N, F); what is not finite is left out
    sketch : shape (Q,) or (Q, F), of `order_statistics`
    rows : finite values that the sketch was made of, one number or shape (F,); none: more than Q

    Returns
    -------
    In [0, 1], one number or shape (F,); NaN where a side is empty. Exact where `rows` is at most Q, else low
    by at most 1 / (Q - 1).
    """
    current, sketch = np.asarray(current), np.asarray(sketch)
    if sketch.ndim == 2:
        counts = np.broadcast_to(np.iinfo(np.int64).max if rows is None else rows, sketch.shape[1:])
        return np.array(
            [ks_to_sketch(current[:, k], sketch[:, k], int(counts[k])) for k in range(sketch.shape[1])]
        )
    sample = np.sort(current[np.isfinite(current)].astype(sketch.dtype, copy=False))
    if not len(sample) or not np.isfinite(sketch).all():
        return float("nan")
    points, below, up_to = distribution(sketch, rows)
    left, right = (np.searchsorted(sample, points, side=side) / len(sample) for side in ("left", "right"))
    return float(max(np.abs(left - below).max(), np.abs(right - up_to).max()))


def distribution(sketch: np.ndarray, rows: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sketch's distinct values, and the reference's share below each and up to each; three arrays of one
    shape.
    """
    size = len(sketch)
    if rows is not None and rows <= size:
        sketch = sketch[np.unique(_ranks(rows, size), return_index=True)[1]]
        points, counts = np.unique(sketch, return_counts=True)
        up_to = np.cumsum(counts)
        return points, (up_to - counts) / rows, up_to / rows
    points, first = np.unique(sketch, return_index=True)
    last = np.append(first[1:], size) - 1
    return points, first / (size - 1), last / (size - 1)


def ks_p_value(
    statistic: np.ndarray | float, reference_rows: np.ndarray | float, current_rows: np.ndarray | float
) -> np.ndarray:
    """Two-sided p-value of a two-sample Kolmogorov-Smirnov statistic, asymptotic as in
    `scipy.stats.ks_2samp`.

    Rows may be effective ones, fewer than counted, where rows depend on each other. With very few of them the
    asymptotic form is too sure: no p-value is below the chance that two samples do not overlap at all. NaN
    where the statistic is.
    """
    from scipy.special import gammaln
    from scipy.stats import kstwo

    n, m = np.asarray(reference_rows, dtype=float), np.asarray(current_rows, dtype=float)
    apart = 2 * np.exp(gammaln(n + 1) + gammaln(m + 1) - gammaln(n + m + 1))
    with np.errstate(divide="ignore"):
        return np.maximum(
            kstwo.sf(statistic, np.maximum(np.round(n * m / (n + m)), 1)), np.minimum(apart, 1.0)
        )


def psi_cuts(sketch: np.ndarray, bins: int) -> np.ndarray:
    """Borders of at most `bins` bins at quantiles of the reference, equal ones merged; a constant gets a bin
    of its own between two others.
    """
    cuts = np.unique(sketch[_ranks(len(sketch), bins + 1)[1:-1]])
    return np.array([np.nextafter(cuts[0], -np.inf, dtype=sketch.dtype), cuts[0]]) if len(cuts) == 1 else cuts


def psi_to_sketch(
    current: np.ndarray,
    sketch: np.ndarray,
    *,
    bins: int = 10,
    rows: int | np.ndarray | None = None,
) -> float | np.ndarray:
    """Population stability index of a sample against a sketched reference, in bins at the reference's
    quantiles.

    What is not finite is left out on both sides: how much is missing is a question of its own.

    Parameters
    ----------
    current : shape (N,) or (N, F)
    sketch : shape (Q,) or (Q, F), of `order_statistics`
    bins : at least 2; see `psi_cuts`
    rows : finite values of the reference, one number or shape (F,)

    Returns
    -------
    At least 0, one number or shape (F,); NaN where a side is empty.
    """
    current, sketch = np.asarray(current), np.asarray(sketch)
    if sketch.ndim == 2:
        wide = sketch.shape[1:]
        counts = np.broadcast_to(np.iinfo(np.int64).max if rows is None else rows, wide)
        columns = zip(current.T, sketch.T, counts, strict=True)
        return np.array([_psi_of_column(one, other, bins, int(n)) for one, other, n in columns])
    return _psi_of_column(current, sketch, bins, rows)


def _psi_of_column(current: np.ndarray, sketch: np.ndarray, bins: int, rows: int | None) -> float:
    """`psi_to_sketch` of one column, shapes (N,) and (Q,)."""
    known = current[np.isfinite(current)].astype(sketch.dtype, copy=False)
    if not np.isfinite(sketch).all() or not len(known):
        return float("nan")
    cuts = psi_cuts(sketch, bins)
    points, _, up_to = distribution(sketch, rows)
    # A border may lie just below a constant, so shares are read off the distribution rather than counted.
    place = np.searchsorted(points, cuts, side="right") - 1
    heights = np.concatenate([[0.0], np.where(place >= 0, up_to[place], 0.0), [1.0]])
    reference_counts = np.diff(heights) * (len(sketch) if rows is None else rows)
    bins_of_known = np.searchsorted(cuts, known, side="left")
    current_counts = np.bincount(bins_of_known, minlength=len(cuts) + 1).astype(float)
    return float(stability_index(reference_counts, current_counts))


def stability_index(
    reference_counts: np.ndarray, current_counts: np.ndarray, *, smoothing: float = SMOOTHING
) -> np.ndarray:
    """Sum over bins of (current share - reference share) * ln(current share / reference share); counts of
    shape (..., bins).

    Siddiqi (2006), *Credit Risk Scorecards*. `smoothing` counts are added to each bin; bins that are empty on
    both sides do not count.
    """
    reference_counts, current_counts = (
        np.asarray(reference_counts, dtype=float),
        np.asarray(current_counts, dtype=float),
    )
    used = (reference_counts > 0) | (current_counts > 0)
    reference, current = (
        np.where(used, counts + smoothing, 0.0) for counts in (reference_counts, current_counts)
    )
    reference, current = (shares / shares.sum(axis=-1, keepdims=True) for shares in (reference, current))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(used, (current - reference) * np.log(current / reference), 0.0).sum(axis=-1)


def psi_p_value(
    psi: np.ndarray | float,
    bins: np.ndarray | int,
    reference_rows: np.ndarray | float,
    current_rows: np.ndarray | float,
) -> np.ndarray:
    """Chance of a PSI at least as large between two samples of one distribution.

    psi / (1 / n + 1 / m) is about chi-squared with bins - 1 degrees of freedom (Yurdakul 2018, *Statistical
    properties of the population stability index*). Rows may be effective ones.
    """
    from scipy.stats import chi2

    noise = 1 / np.asarray(reference_rows, dtype=float) + 1 / np.asarray(current_rows, dtype=float)
    return chi2.sf(np.asarray(psi, dtype=float) / noise, np.maximum(np.asarray(bins) - 1, 1))


def adjusted_p_values(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg: p-values adjusted for all that were looked at together; NaN stays NaN and does not
    count.
    """
    from scipy.stats import false_discovery_control

    p_values = np.asarray(p_values, dtype=float)
    adjusted, known = np.full(p_values.shape, np.nan), np.isfinite(p_values)
    if known.any():
        adjusted[known] = false_discovery_control(np.clip(p_values[known], 0, 1))
    return adjusted


def effective_rows(bar_counts: np.ndarray, bar_rows: np.ndarray, window_bars: int) -> float:
    """Independent rows that would let a share vary as much between windows of `window_bars` bars as it does;
    the least over several shares.

    The variance of a window's share is the larger of two estimates: that over all windows of the sample
    (Newey and West's, 1987, with as many lags as the window has bars, corrected for the mean being
    estimated), and that of bars which follow an autoregression of order 1 whose coefficient is corrected for
    its bias (Kendall 1954): the first is unsure where the sample holds few windows, the second where
    dependence has no such form.

    Parameters
    ----------
    bar_counts : shape (T, K), rows of each bar for which indicator k holds
    bar_rows : shape (T,), rows of each bar; bars without rows do not count
    window_bars : at most T

    Returns
    -------
    Between 1 and the mean number of rows in a window; NaN where no bar has rows.
    """
    return effective_rows_by_window(bar_counts, bar_rows, [window_bars])[0]


def effective_rows_by_window(
    bar_counts: np.ndarray, bar_rows: np.ndarray, lengths: Sequence[int]
) -> list[float]:
    """`effective_rows` for windows of several lengths."""
    filled = bar_rows > 0
    counts, rows = bar_counts[filled].astype(float), bar_rows[filled].astype(float)
    bars = len(rows)
    if not bars:
        return [float("nan")] * len(lengths)
    share = counts.sum(axis=0) / rows.sum()
    spread = share * (1 - share)
    running, running_rows = _running(counts), _running(rows[:, None])
    variance, memory = _variance_and_memory(counts / rows[:, None], share)
    effective = []
    for length in lengths:
        window = int(np.clip(length, 1, max(bars // 2, 1)))
        between = np.maximum(
            _window_variance(running, running_rows, share, window),
            _autoregressive_variance(variance, memory, window),
        )
        rows_in_window = rows.mean() * window
        with np.errstate(divide="ignore", invalid="ignore"):
            least = np.where((spread > 0) & (between > 0), spread / between, np.inf).min(initial=np.inf)
        # A window as long as half the sample or longer says little about windows of its own length, so longer
        # ones scale.
        effective.append(float(np.clip(least, 1.0, max(rows_in_window, 1.0)) * max(length / window, 1.0)))
    return effective


def _window_variance(
    running: np.ndarray, running_rows: np.ndarray, share: np.ndarray, window: int
) -> np.ndarray:
    bars = len(running) - 1
    if window >= bars:
        return np.zeros_like(share)
    sums, rows = (total[window:] - total[:-window] for total in (running, running_rows))
    return ((sums / rows - share) ** 2).mean(axis=0) / (1 - window / bars)


def _variance_and_memory(shares: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the bars' shares, (K,) each: variance, and the coefficient of an autoregression of order 1."""
    bars = len(shares)
    centred = shares - share
    variance = (centred**2).mean(axis=0)
    if bars < FEWEST_FOR_MEMORY:
        return variance, np.zeros_like(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(variance > 0, (centred[1:] * centred[:-1]).mean(axis=0) / variance, 0.0)
    return variance, np.clip(first + (1 + 3 * first) / bars, 0.0, 1.0)


def _autoregressive_variance(variance: np.ndarray, memory: np.ndarray, window: int) -> np.ndarray:
    lags = np.arange(1, window)[:, None]
    return variance / window * (1 + 2 * ((1 - lags / window) * memory**lags).sum(axis=0))


def _running(values: np.ndarray) -> np.ndarray:
    """Sums over all bars before each, (T + 1, K)."""
    return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])


def _ranks(count: int, size: int) -> np.ndarray:
    """Positions of `size` evenly spaced order statistics among `count`."""
    return np.round(np.linspace(0, count - 1, size)).astype(np.int64)
