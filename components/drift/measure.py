"""How far a column of the current rows lies from the reference, how sure that is, and what is usual: figures,
no verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np

from components.contracts.documents.drift_reference import ColumnReference, WindowReference
from components.drift.config import Settings
from components.drift.windows import PSI_BINS, TAIL, nearest_length, tail_limits
from components.metrics import ks_p_value, ks_to_sketch, psi_p_value, psi_to_sketch
from components.metrics.shift import psi_cuts

NAN = float("nan")
NORMAL_RANGE = 1.349
# A column that had fewer distinct values than this in some window of training, such as a regime, may well
# stay the same for one.
FEWEST_CELLS = 5
FEWEST_SYMBOLS = 3


@dataclass(frozen=True)
class Current:
    """The rows that are judged: values (N, F) Float32 with NaN for missing, the bar (N,) and symbol (N,) of
    each row, the bars' moments (B,), the bars that the row's symbol has had with it (N,).

    `moments` is empty for a table without timestamps: its rows count as independent. `symbols` is None where
    there are none. `full_rows_per_bar`: rows that a bar of the reference has.
    """

    values: np.ndarray
    bars: np.ndarray
    moments: Sequence[datetime]
    symbols: np.ndarray | None
    full_rows_per_bar: float
    own_bars: np.ndarray

    @property
    def covered(self) -> float:
        """Rows a bar, as a share of those of the reference."""
        return min(len(self.values) / max(len(self.moments), 1) / max(self.full_rows_per_bar, 1), 1.0)


@dataclass(frozen=True)
class Kept:
    """A column as the reference keeps it: its numbers, its sketch (Q,), and the bins that its usual stability
    indices were measured with.
    """

    about: ColumnReference
    sketch: np.ndarray
    psi_bins: int

    @property
    def missing_share(self) -> float:
        """Share of the reference's rows without a value; 1 where no row has one."""
        missing, rows = self.about.missing, self.about.rows
        return missing / max(missing + rows, 1) if rows else 1.0


@dataclass(frozen=True)
class Measured:
    """One column beside the reference, before anything is corrected for the number of columns; NaN where a
    number could not be computed, None where nothing is usual.
    """

    column: str
    group: str
    kind: str
    ks: float
    ks_p: float
    psi: float
    psi_p: float
    usual_ks: float | None
    usual_psi: float | None
    missing_share: float
    usual_missing: float | None
    missing_rise: float
    missing_p: float
    tail_share: float
    far_share: float
    usual_tail: float | None
    reference_tail: float | None
    tail_p: float
    constant: bool
    usual_constant: bool
    rows_in_reference: int
    rows: int
    effective_rows: float
    effective_rows_in_reference: float
    reference_median: float
    median: float
    reference_spread: float
    spread: float


@dataclass(frozen=True)
class EffectiveRows:
    """Independent rows that the current ones are worth: for distribution, tail, and what is missing."""

    rows: float
    tail: float
    missing: float


def measure(
    name: str, kept: Kept, values: np.ndarray, current: Current, settings: Settings, columns: int
) -> Measured:
    """One column beside the reference.

    Parameters
    ----------
    values : (N,) Float32, NaN for missing
    columns : how many are tested together
    """
    about, sketch = kept.about, kept.sketch
    known = np.isfinite(values)
    sample, rows = values[known], about.rows
    length = nearest_length(list(about.by_window), len(current.moments) or settings.window_bars)
    usual = about.by_window[length] if length else None
    windows = about.bars / int(length) if length else 0.0
    effective = _effective_rows(about, length, values, sketch, current)
    tail, far = _beyond(sample, sketch) if len(sample) and rows else (NAN, 0.0)
    ks, psi = _distances(sample, kept) if rows else (NAN, NAN)
    share, was = _missing_share(known, about, current), kept.missing_share
    then = about.effective_rows or 1.0
    estimated = bool(current.moments) and then < 0.99 * rows
    few = partial(_unsure, windows=windows) if estimated else float
    return Measured(
        column=name,
        group=about.group,
        kind=about.kind,
        ks=ks,
        ks_p=few(float(ks_p_value(ks, then, effective.rows))) if np.isfinite(ks) else NAN,
        psi=psi,
        psi_p=few(_psi_p(psi, kept, effective)),
        usual_ks=usual and usual.ks,
        usual_psi=usual.psi if usual and kept.psi_bins == PSI_BINS else None,
        missing_share=share,
        usual_missing=usual and usual.missing,
        missing_rise=share - was,
        missing_p=_rise_p(was, share, about.effective_rows_missing, effective.missing),
        tail_share=tail,
        far_share=far,
        usual_tail=usual and _usual_tail(usual, windows, settings.ks_p / columns),
        reference_tail=about.tail,
        tail_p=few(_excess_p(tail, max(about.tail or 0.0, 2 * TAIL), effective.tail)),
        constant=bool(len(sample) and rows and sample.min() == sample.max() and sketch[0] < sketch[-1]),
        usual_constant=_may_stay_the_same(about, usual, current),
        rows_in_reference=rows,
        rows=len(sample),
        effective_rows=effective.rows,
        effective_rows_in_reference=then,
        **_moments(sketch, sample, rows),
    )


def _distances(sample: np.ndarray, kept: Kept) -> tuple[float, float]:
    """Kolmogorov-Smirnov statistic and stability index of the values that are there."""
    rows = kept.about.rows
    ks = ks_to_sketch(sample, kept.sketch, rows)
    return ks, psi_to_sketch(sample, kept.sketch, bins=PSI_BINS, rows=rows)


def _missing_share(known: np.ndarray, about: ColumnReference, current: Current) -> float:
    """Share of the rows without a value, those left out in which the symbol is too young to have one, as the
    reference leaves them out.
    """
    due = known | (current.own_bars > about.warm_up_bars)
    return 1 - int(known.sum()) / int(due.sum()) if due.any() else 0.0


def _beyond(sample: np.ndarray, sketch: np.ndarray) -> tuple[float, float]:
    """Shares of the values beyond the tail limits, and a whole range of the reference away from it."""
    low, high = tail_limits(sketch)
    width = sketch[-1] - sketch[0]
    tail = float(((sample < low) | (sample > high)).mean())
    far = float(((sample < sketch[0] - width) | (sample > sketch[-1] + width)).mean()) if width > 0 else 0.0
    return tail, far


def _may_stay_the_same(about: ColumnReference, usual: WindowReference | None, current: Current) -> bool:
    """Whether one value all over the current rows would be nothing new."""
    few_values = (usual.fewest_cells if usual else 0) < FEWEST_CELLS
    return few_values or not (about.shared or _several_symbols(current))


def _effective_rows(
    about: ColumnReference, length: str | None, values: np.ndarray, sketch: np.ndarray, current: Current
) -> EffectiveRows:
    """All rows without timestamps, else what windows of the reference say that so many bars are worth."""
    known = np.isfinite(values)
    counts = {"rows": float(known.sum()), "tail": float(known.sum()), "missing": float(len(values))}
    if length is None or not len(current.moments):
        return EffectiveRows(**{name: max(count, 1.0) for name, count in counts.items()})
    bars = len(current.moments)
    # The current window lies beyond the reference, so what moves more slowly than a window counts as well:
    # the worst of the longer ones.
    longer = {int(other): window for other, window in about.by_window.items() if int(other) >= int(length)}
    by_bars = {
        "rows": min(window.effective_rows * bars / other for other, window in longer.items()),
        "tail": min(window.effective_rows_tail * bars / other for other, window in longer.items()),
        "missing": min(window.effective_rows_missing * bars / other for other, window in longer.items()),
    }
    # What holds a decile back holds a tail back as well, even where the reference's few rows out there don't
    # show it.
    by_bars["tail"] = min(by_bars["tail"], by_bars["rows"])
    # Few of the symbols: which ones is chance too, and a symbol stays where it is in the cross-section for
    # long.
    chosen = (
        (1 - current.covered) * _variance_of_symbols(values, sketch, current)
        if current.covered < 1 and about.rows
        else 0.0
    )
    worth = {name: 1 / (1 / max(min(count, by_bars[name]), 1.0) + chosen) for name, count in counts.items()}
    return EffectiveRows(**{name: max(rows, 1.0) for name, rows in worth.items()})


def _several_symbols(current: Current) -> bool:
    """Whether a factor that differs between symbols must vary: one symbol may keep its rank for months."""
    return current.symbols is None or len(np.unique(current.symbols)) >= FEWEST_SYMBOLS


def _variance_of_symbols(values: np.ndarray, sketch: np.ndarray, current: Current) -> float:
    """Variance of a decile's share by which symbols were asked for, in units of an independent row's; the
    largest over deciles.

    1 / number of symbols where they are not known.
    """
    known = np.isfinite(values)
    if current.symbols is None or not known.any():
        return 1.0
    codes = current.symbols[known]
    rows = np.bincount(codes)
    deciles = sketch[np.round(np.linspace(0, len(sketch) - 1, 11)[1:-1]).astype(int)]
    largest = 1 / max(np.count_nonzero(rows), 1)
    for cut in np.unique(deciles):
        below = np.bincount(codes, weights=values[known] <= cut, minlength=len(rows))
        share = below.sum() / rows.sum()
        if 0 < share < 1:
            largest = max(
                largest, float(((below - rows * share) ** 2).sum() / rows.sum() ** 2 / (share * (1 - share)))
            )
    return min(largest, 1.0)


def _moments(sketch: np.ndarray, sample: np.ndarray, rows: int) -> dict[str, float | None]:
    """Median and spread (interquartile range, as of a normal distribution) of both sides."""
    place = np.round(np.array([0.25, 0.5, 0.75]) * (len(sketch) - 1)).astype(int)
    then = sketch[place].astype(float) if rows else np.full(3, np.nan)
    now = np.quantile(sample, [0.25, 0.5, 0.75]) if len(sample) else np.full(3, np.nan)
    return {
        "reference_median": float(then[1]),
        "median": float(now[1]),
        "reference_spread": float((then[2] - then[0]) / NORMAL_RANGE),
        "spread": float((now[2] - now[0]) / NORMAL_RANGE),
    }


def _psi_p(psi: float, kept: Kept, effective: EffectiveRows) -> float:
    if not np.isfinite(psi):
        return NAN
    bins = len(psi_cuts(kept.sketch, PSI_BINS)) + 1
    return float(psi_p_value(psi, bins, max(kept.about.effective_rows, 1.0), max(effective.rows, 1.0)))


def _usual_tail(usual: WindowReference, windows: float, level: float) -> float:
    """The tail's share that a further window passes with a chance of `level`, at least the largest so far.

    A prediction interval on the scale of square roots, where a share varies by about the same whatever it is.
    Tails swing with the level of volatility far more than the middle does, so their own windows say more than
    effective rows.
    """
    from scipy.stats import t

    centre, spread = usual.tail_root
    freedom = max(1.5 * windows, 1.0)
    further = centre + t.isf(level, freedom) * spread * np.sqrt(1 + 1 / max(windows, 1.0))
    return float(max(usual.tail, min(further**2, 1.0)))


def _unsure(p_value: float, windows: float) -> float:
    """A p-value that allows for effective rows being estimated: its normal deviate is held against Student's
    t.

    A long-run variance from so many windows has about 1.5 times as many degrees of freedom (Bartlett's
    kernel; Priestley 1981, *Spectral Analysis and Time Series*).
    """
    from scipy.stats import norm, t

    return float(2 * t.sf(norm.isf(p_value / 2), 1.5 * windows)) if np.isfinite(p_value) else p_value


def _rise_p(was: float, share: float, then: float, now: float) -> float:
    """One-sided test of two shares."""
    from scipy.stats import norm

    then, now = max(then, 1.0), max(now, 1.0)
    pooled = (was * then + share * now) / (then + now)
    noise = np.sqrt(pooled * (1 - pooled) * (1 / then + 1 / now))
    return float(norm.sf((share - was) / noise)) if noise > 0 else 1.0


def _excess_p(share: float, usual: float, rows: float) -> float:
    """Chance of at least so large a share among so many independent rows."""
    from scipy.stats import binom

    return (
        float(binom.sf(np.ceil(share * rows - 1e-9) - 1, max(round(rows), 1), usual))
        if np.isfinite(share)
        else float("nan")
    )
