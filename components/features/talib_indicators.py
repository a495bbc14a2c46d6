"""TA-Lib's candle patterns as expressions: one call for all symbols, and values that depend on nothing older
than the pattern's look-back.

TA-Lib measures candles by running sums. Prices are rounded to Float32 first: sums of such numbers are exact
in Float64 while they stay within a factor of millions of each other, so a running sum forgets completely, and
no pattern depends on where the history begins, nor on the symbol that stands before. Patterns compare shares
of prices, so each symbol's are brought to one level by a power of two, which rounds nothing.
"""

import numpy as np
import polars as pl

from components.features.kernels import BAR

PRICES = ("open", "high", "low", "close")
# Bars whose prices lie within this factor share one call with those of other symbols: 24 bits of a Float32,
# 20 of this factor and 5 for a sum of up to 32 bars fit into the 53 of a Float64.
LEVEL_RANGE = 2.0**20


def candle_prices() -> pl.Expr:
    """What patterns read of each bar, a Struct: PRICES at one level, NaN unless all four are known; `place`,
    the number of the bar among the symbol's known ones in a row, -1 if it is none; `alone` where these range
    too far to share a call.
    """

    def evaluate(series: list[pl.Series]) -> pl.Series:
        *columns, bar = series
        prices = np.stack([column.cast(pl.Float32).fill_null(np.nan).to_numpy() for column in columns])
        levelled, place, alone = _levelled(prices.astype(np.float64), bar.to_numpy())
        fields = dict(zip(PRICES, levelled, strict=True)) | {"place": place, "alone": alone}
        return pl.DataFrame(fields).to_struct(columns[0].name)

    kind = pl.Struct({**dict.fromkeys(PRICES, pl.Float64), "place": pl.Int32, "alone": pl.Boolean})
    inputs = [pl.col(column) for column in (*PRICES, BAR)]
    return pl.map_batches(inputs, evaluate, return_dtype=kind).alias("candle_prices()")


def candle_pattern(prices: pl.Expr, name: str, look_back: int) -> pl.Expr:
    """TA-Lib's `CDL<name>` over 100: 1 bullish, -1 bearish, 0 absent (2 and -2: confirmed); null before
    `look_back` + 1 known bars in a row.

    `prices` are `candle_prices`, `look_back` is TA-Lib's own for this pattern.
    """

    def evaluate(series: pl.Series) -> pl.Series:
        import talib

        pattern = getattr(talib, f"CDL{name}")
        fields = {field.name: field.to_numpy() for field in series.struct.unnest()}
        place, alone, values = fields["place"], fields["alone"], [fields[price] for price in PRICES]
        result = np.full(len(place), np.nan)
        for rows in _calls(place, alone):
            found = pattern(*(np.ascontiguousarray(column[rows]) for column in values)) / 100
            result[rows] = np.where(place[rows] >= look_back, found, np.nan)
        return pl.Series(series.name, result, nan_to_null=True)

    return prices.map_batches(evaluate, return_dtype=pl.Float64).alias(f"CDL{name}()")


def _levelled(prices: np.ndarray, bar: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The fields of `candle_prices` from `prices` (4, rows): prices (4, rows), `place` and `alone` (rows,).

    A stretch is a run of one symbol's bars whose prices are all known; the highest of a stretch gets to lie
    between 1/2 and 1.
    """
    known = ~np.isnan(prices.sum(axis=0))
    rows = np.flatnonzero(known)
    place, alone = np.full(len(bar), -1, dtype=np.int32), np.zeros(len(bar), dtype=bool)
    levelled = np.full(prices.shape, np.nan)
    if not len(rows):
        return levelled, place, alone
    begins = np.ones(len(rows), dtype=bool)
    begins[1:] = (np.diff(rows) > 1) | (bar[rows[1:]] == 0)
    starts, number = np.flatnonzero(begins), np.cumsum(begins) - 1
    found = prices[:, rows]
    highest = np.maximum.reduceat(found.max(axis=0), starts)
    lowest = np.minimum.reduceat(found.min(axis=0), starts)
    _, exponent = np.frexp(highest)
    levelled[:, rows] = np.ldexp(found, -exponent[number])
    place[rows] = np.arange(len(rows)) - starts[number]
    # Not "<=": an infinite price makes a stretch stand alone too.
    alone[rows] = ~(highest < LEVEL_RANGE * lowest)[number]
    return levelled, place, alone


def _calls(place: np.ndarray, alone: np.ndarray) -> list[slice | np.ndarray]:
    """The rows of each call: all that share one, then each stretch that stands alone."""
    shared = (place >= 0) & ~alone
    together: list[slice | np.ndarray] = [slice(None) if shared.all() else shared] if shared.any() else []
    single = np.flatnonzero(alone)
    if not len(single):
        return together
    starts = np.flatnonzero(place[single] == 0)
    ends = np.append(starts[1:], len(single))
    return together + [
        slice(single[start], single[end - 1] + 1) for start, end in zip(starts, ends, strict=True)
    ]
