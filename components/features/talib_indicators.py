"""TA-Lib's candle patterns as expressions: one call a symbol, and values that depend on nothing older than
the pattern's look-back.

TA-Lib measures candles by running sums. Prices are rounded to Float32 first: sums of such numbers are exact
in Float64 while a symbol's prices stay within a factor of millions of each other, so a running sum forgets
completely and no pattern depends on where the history begins.
"""

import numpy as np
import polars as pl

from components.features.kernels import BAR


def candle_pattern(name: str, look_back: int) -> pl.Expr:
    """TA-Lib's `CDL<name>` over 100: 1 bullish, -1 bearish, 0 absent (2 and -2: confirmed); null before
    `look_back` + 1 known bars in a row.

    Reads open, high, low and close. `look_back` is TA-Lib's own for this pattern.
    """

    def evaluate(series: list[pl.Series]) -> pl.Series:
        import talib

        pattern = getattr(talib, f"CDL{name}")
        *prices, bar = series
        values = [column.cast(pl.Float32).cast(pl.Float64).fill_null(np.nan).to_numpy() for column in prices]
        result = np.full(len(bar), np.nan)
        for start, end in _stretches(values, bar.to_numpy()):
            if end - start > look_back:
                found = pattern(*(column[start:end] for column in values))
                result[start + look_back : end] = found[look_back:] / 100
        return pl.Series(prices[0].name, result, nan_to_null=True)

    inputs = [pl.col(column) for column in ("open", "high", "low", "close", BAR)]
    return pl.map_batches(inputs, evaluate, return_dtype=pl.Float64).alias(f"CDL{name}()")


def _stretches(prices: list[np.ndarray], bar: np.ndarray) -> zip:
    """(first row, row after the last) of each run of one symbol's bars whose prices are all known."""
    known = ~np.isnan(np.sum(prices, axis=0))
    joined = np.zeros(len(bar) + 1, dtype=bool)
    joined[1:-1] = known[1:] & known[:-1] & (bar[1:] > 0)
    starts = np.flatnonzero(known & ~joined[:-1])
    ends = np.flatnonzero(known & ~joined[1:]) + 1
    return zip(starts, ends, strict=True)
