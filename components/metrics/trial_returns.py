"""Returns of many models of one window, arranged for tests that look at all of them together."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import ContractError

TIMESTAMP = "timestamp"
# A return that varies by less than this share of its size is a constant with rounding errors.
ROUNDING = 1e-12


@dataclass(frozen=True)
class TrialReturns:
    """Complete bars of models whose return varies.

    `values` has shape (bars, models), in order of time; `left_out` are models without a return or with the
    same one in each bar, `bars_left_out` the bars that one of the others lacks. `problem` says why the
    returns can't be used; empty where they can.
    """

    values: np.ndarray
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    bars_left_out: int
    problem: str


def arrange_trials(returns: np.ndarray | pl.DataFrame, benchmark: np.ndarray | None = None) -> TrialReturns:
    """Returns in excess of a benchmark, without what says nothing.

    Parameters
    ----------
    returns : a table with `timestamp` and one column a model, or an array of shape (time, models), whose
        models are then named by their number; null, NaN and infinite: no return in that bar
    benchmark : shape (time,), what the models are compared with; none: 0, which is cash

    Raises
    ------
    ContractError
        If the array has other than one or two dimensions, or the benchmark another length.
    """
    values, names = _values_and_names(returns)
    if benchmark is not None:
        benchmark = np.asarray(benchmark, dtype=float)
        if benchmark.shape != (len(values),):
            raise ContractError(
                f"The benchmark has shape {benchmark.shape}, the returns have {len(values)} bars. Hand over"
                " one return of the benchmark for each bar."
            )
        values = values - benchmark[:, None]
    known = np.isfinite(values)
    named = np.array(names, dtype=object)
    some = known.any(axis=0)
    complete = known[:, some].all(axis=1)
    values = values[complete][:, some]
    size = np.abs(values).max(axis=0, initial=0.0)
    varies = values.max(axis=0, initial=-np.inf) - values.min(axis=0, initial=np.inf) > ROUNDING * size
    kept = tuple(named[some][varies])
    return TrialReturns(
        values[:, varies],
        kept,
        tuple(name for name in names if name not in set(kept)),
        int((~complete).sum()),
        _problem(returns, len(values), kept),
    )


def _values_and_names(returns: np.ndarray | pl.DataFrame) -> tuple[np.ndarray, tuple[str, ...]]:
    if isinstance(returns, pl.DataFrame):
        if TIMESTAMP not in returns.columns:
            raise ContractError(
                f"A table of models' returns needs the column {TIMESTAMP!r}; it has {returns.columns}."
            )
        table = returns.sort(TIMESTAMP).drop(TIMESTAMP)
        values = table.cast(pl.Float64).fill_null(float("nan")).to_numpy().reshape(len(table), table.width)
        return values, tuple(table.columns)
    values = np.asarray(returns, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2:
        raise ContractError(
            f"Returns of models have the shape (time, models); these have {values.shape}. Hand over one row a"
            " bar and one column a model."
        )
    return values, tuple(str(number) for number in range(values.shape[1]))


def _problem(returns: np.ndarray | pl.DataFrame, bars: int, kept: tuple[str, ...]) -> str:
    """A table says by its timestamps which way round it lies; an array does not."""
    if not isinstance(returns, pl.DataFrame) and np.ndim(returns) == 2:
        rows, columns = np.shape(returns)
        if columns > rows:
            return (
                f"the returns have {rows:,} rows and {columns:,} columns, wanted is (time, models): hand over"
                " the transpose, or if there are more models than bars a table with the column 'timestamp'"
            )
    if not kept:
        return f"no model has a return that varies over the {bars:,} bars that all have"
    return ""
