"""The market's regime from a hidden Markov model, as columns: the calendar says when fits happen, and each
model speaks for the bars up to the next one.

Each fit sees the same number of bars, so a value depends on a bounded stretch of history, wherever the series
begins.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import polars as pl

from components.contracts import REGIME_COLUMN, REGIMES, CatalogEntry
from components.features import hmm
from components.features.config import Settings
from components.features.errors import FeatureError
from components.features.regime import HOLD_BARS, PERSIST_BARS, persistent_regime
from components.features.regime_config import NAMING_INPUTS, Regimes
from components.progress import warn
from components.timeline.periods import BARS_A_DAY

GROUP = "regime_hmm"
SOURCE = "Hamilton 1989; Gaussian HMM, filtered"
PROBABILITIES = tuple(f"hmm_{name}" for name in REGIMES)
# The smoothed regime of a bar looks at so many states.
SMOOTHING_BARS = PERSIST_BARS + HOLD_BARS
# Longest warm-up among the inputs (crowding_60).
INPUT_WARM_UP_BARS = 61
FIRST_YEAR = 2000
DAYS_A_MONTH = 31


@dataclass
class MarketHistory:
    """The market's raw columns at all timestamps so far, with `timestamp`: what a hidden regime needs where a
    panel is built in pieces.
    """

    series: pl.DataFrame = field(default_factory=pl.DataFrame)


def with_hidden_regime(
    market: pl.DataFrame, timestamps: pl.Series, settings: Settings, history: MarketHistory | None = None
) -> pl.DataFrame:
    """With `regimes.model: hmm`, add its probabilities and put its regime in place of the thresholds'.

    `market`, one row for each of `timestamps`, runs from the first bar on, or overlaps `history`, to which
    its new rows are added.
    """
    if settings.regimes.model != "hmm":
        return market
    series = market.select(timestamps.alias("timestamp"), pl.all())
    if history is not None:
        if history.series.width:
            series = pl.concat(
                [history.series, series.filter(pl.col("timestamp") > history.series["timestamp"][-1])]
            )
        history.series = series
    found = hmm_columns(series, settings.regimes, newest=len(market))
    return market.drop(REGIME_COLUMN).hstack(found.drop("timestamp").cast(pl.Float32))


def hmm_columns(series: pl.DataFrame, settings: Regimes, *, newest: int | None = None) -> pl.DataFrame:
    """Filtered probability of each regime at each bar, and the regime itself.

    Parameters
    ----------
    series : one row a timestamp, ascending: `timestamp`, the columns of `settings.inputs` that there are, and
        `regime_state`, the thresholds' regime, which stands in where there is no model
    newest : give only so many of the last bars, which spares the fits that were for earlier ones; the values
        are the same

    Returns
    -------
    `timestamp`, `hmm_bear`, `hmm_neutral`, `hmm_bull`, `hmm_high_volatility` and `regime_state` (Float32) in
    the order of the rows; `timestamp` alone with `model: thresholds`. Probabilities are null before the first
    fit, which needs `fit_bars` bars; with a degenerate fit the thresholds' regime has probability 1 until the
    next one, with a warning. `regime_state` is the most probable regime, smoothed like that of the
    thresholds.

    Raises
    ------
    FeatureError
        Where the series lacks a column that is needed, or its timestamps do not ascend.
    """
    if settings.model == "thresholds":
        return series.select("timestamp") if newest is None else series.select("timestamp").tail(newest)
    _check(series)
    names = [name for name in settings.inputs if name in series.columns]
    values = series.select(pl.col(names).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    values = np.where(np.isfinite(values), values, np.nan)
    thresholds = series[REGIME_COLUMN].cast(pl.Float64).fill_null(np.nan).to_numpy()
    found, modelled = np.full((len(series), len(REGIMES)), np.nan), np.zeros(len(series), dtype=bool)
    needed = 0 if newest is None else len(series) - newest - SMOOTHING_BARS
    named = values[:, [names.index(name) for name in NAMING_INPUTS]]
    for at, until in _schedule(series["timestamp"], named, settings):
        if until <= needed:
            continue
        begin = at + 1 - settings.fit_bars
        try:
            model = hmm.fit(values[begin : at + 1], names, settings)
        except hmm.DegenerateFit as reason:
            found[at + 1 : until] = _certain(thresholds[at + 1 : until])
            _warn_of_no_model(series["timestamp"], begin, at, until, reason)
        else:
            found[at + 1 : until] = hmm.filtered(model, values[begin:until])[at + 1 - begin :]
            modelled[at + 1 : until] = True
    table = _table(series["timestamp"], found, modelled, thresholds)
    return table if newest is None else table.tail(newest)


def hmm_warm_up_bars(settings: Regimes, period: str | None = None) -> int:
    """Bars, the present one included, that a probability depends on: inputs, a fit's window, and the bars
    since the fit. The regime itself is smoothed over SMOOTHING_BARS more. Without a period the longest is
    taken."""
    bars_a_day = max(BARS_A_DAY.values()) if period is None else BARS_A_DAY[period]
    since_fit = DAYS_A_MONTH * settings.refit_months * bars_a_day
    return INPUT_WARM_UP_BARS + settings.fit_bars + since_fit


def hmm_catalog(settings: Regimes, period: str | None = None) -> list[CatalogEntry]:
    """What `hmm_columns` adds as model inputs, in its order."""
    if settings.model == "thresholds":
        return []
    how = (
        f"P(state | inputs up to t), {settings.states} states, fitted every {settings.refit_months} months on"
        f" {settings.fit_bars} bars; inputs {', '.join(settings.inputs)}"
    )
    shared = {
        "group": GROUP,
        "role": "input",
        "normalisation": "none",
        "warm_up_bars": hmm_warm_up_bars(settings, period),
        "expression": how,
        "source": SOURCE,
    }
    return [CatalogEntry(column=name, factor=name, **shared) for name in PROBABILITIES]


def _check(series: pl.DataFrame) -> None:
    missing = [name for name in ("timestamp", REGIME_COLUMN, *NAMING_INPUTS) if name not in series.columns]
    if missing:
        raise FeatureError(
            f"The market's series lacks {missing[0]!r}, which the hidden Markov model needs (found:"
            f" {', '.join(series.columns)}). Leave features.groups.regime on."
        )
    back = (series["timestamp"] <= series["timestamp"].shift(1)).fill_null(False)
    if back.any():
        raise FeatureError(
            f"The market's series does not ascend at {series['timestamp'][int(back.arg_max())]}; it needs one"
            " row a timestamp, in order."
        )


def _schedule(timestamps: pl.Series, named: np.ndarray, settings: Regimes) -> Iterator[tuple[int, int]]:
    """For each fit the last bar that it sees, and the end (exclusive) of the bars after it that it is for.

    The first comes when `fit_bars` bars have passed since trend and volatility (`named`, shape (bars, 2))
    were known for the first time.
    """
    known = np.flatnonzero(np.isfinite(named).all(axis=1))
    if not len(known):
        return
    month = (timestamps.dt.year().cast(pl.Int64) - FIRST_YEAR) * 12 + timestamps.dt.month() - 1
    stretch = month // settings.refit_months
    last = np.flatnonzero(np.diff(stretch.to_numpy()))
    fits = last[last + 1 >= known[0] + settings.fit_bars]
    for at, following in pairwise([*fits.tolist(), len(timestamps) - 1]):
        yield at, following + 1


def _warn_of_no_model(when: pl.Series, begin: int, at: int, until: int, reason: hmm.DegenerateFit) -> None:
    warn(
        "features",
        f"No hidden Markov model of the bars {when[begin]:%Y-%m-%d} to {when[at]:%Y-%m-%d}: {reason}."
        f" Thresholds give the regime up to {when[until - 1]:%Y-%m-%d}.",
    )


def _certain(codes: np.ndarray) -> np.ndarray:
    """Probability 1 for each bar's regime code, NaN where it is unknown; shape (bars, regimes)."""
    known = np.isfinite(codes)
    return np.where(known[:, None], np.eye(len(REGIMES))[np.where(known, codes, 0).astype(int)], np.nan)


def _table(
    timestamps: pl.Series, found: np.ndarray, modelled: np.ndarray, thresholds: np.ndarray
) -> pl.DataFrame:
    """The probabilities and the smoothed regime; where no model speaks, the thresholds' regime as it is."""
    newest = np.where(modelled, np.argmax(np.where(modelled[:, None], found, 0.0), axis=1), thresholds)
    frame = pl.DataFrame(
        {"timestamp": timestamps, "newest": newest, "modelled": modelled, "thresholds": thresholds}
    )
    regime = (
        pl.when("modelled")
        .then(persistent_regime(pl.col("newest").fill_nan(None)))
        .otherwise(pl.col("thresholds").fill_nan(None))
    )
    columns = [pl.Series(name, found[:, k]).fill_nan(None) for k, name in enumerate(PROBABILITIES)]
    return frame.with_columns(regime.alias(REGIME_COLUMN), *columns).select(
        "timestamp", pl.col(*PROBABILITIES, REGIME_COLUMN).cast(pl.Float32)
    )
