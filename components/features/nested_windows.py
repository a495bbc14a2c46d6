"""Windows of several lengths in one pass: each expression gives a Struct with a field `<name>_<bars>` for
each length.

Like the windows of `kernels`, every value is computed from its own window alone, from the present bar back,
so it has the same bits whatever lies before. Fields are Float32, as factors are stored, and NaN where a
window would reach past its symbol's first bar or holds an unknown value.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from components.features.kernels import BAR


def lines(x: pl.Expr, windows: Sequence[int]) -> pl.Expr:
    """`mean`, `deviation` (sample), and the least-squares line on time:

    `slope` a bar, `rsquare` (NaN where flat), `residual` of the present value.
    """
    return _nested("lines", [x], windows, ("mean", "deviation", "slope", "rsquare", "residual"))


def moments(x: pl.Expr, windows: Sequence[int]) -> pl.Expr:
    """`mean` and `deviation` (sample)."""
    return _nested("moments", [x], windows, ("mean", "deviation"))


def extremes(high: pl.Expr, low: pl.Expr, windows: Sequence[int]) -> pl.Expr:
    """`highest` of high and `lowest` of low, and how many bars ago they were:

    `since_highest`, `since_lowest`; the oldest of equal ones counts.
    """
    return _nested("extremes", [high, low], windows, ("highest", "lowest", "since_highest", "since_lowest"))


def ranks(x: pl.Expr, windows: Sequence[int]) -> pl.Expr:
    """`rank`: place of the present value, as a share in (0, 1]; equal ones share their mean place."""
    return _nested("ranks", [x], windows, ("rank",))


def quantiles(x: pl.Expr, windows: Sequence[int], lower: float, upper: float) -> pl.Expr:
    """`lower` and `upper`: two quantiles, interpolated linearly."""
    return _nested("quantiles", [x], windows, ("lower", "upper"), lower, upper)


def correlations(x: pl.Expr, y: pl.Expr, windows: Sequence[int]) -> pl.Expr:
    """`correlation` of Pearson, NaN where one of the two is flat."""
    return _nested("correlations", [x, y], windows, ("correlation",))


def signs(change: pl.Expr, windows: Sequence[int]) -> pl.Expr:
    """`rises` and `falls`: the shares of changes above and below 0."""
    return _nested("signs", [change], windows, ("rises", "falls"))


def gains(change: pl.Expr, windows: Sequence[int]) -> pl.Expr:
    """`gain`: the sum of the changes above 0 over the sum of the sizes of all; NaN where nothing moved."""
    return _nested("gains", [change], windows, ("gain",))


def _nested(
    kernel: str, inputs: list[pl.Expr], windows: Sequence[int], fields: tuple[str, ...], *settings: float
) -> pl.Expr:
    names = [f"{field}_{bars}" for field in fields for bars in windows]

    def evaluate(series: list[pl.Series]) -> pl.Series:
        # Numba takes a while to import.
        from components.features import nested_kernel

        *columns, bar = series
        values = [column.cast(pl.Float64).fill_null(np.nan).to_numpy() for column in columns]
        result = getattr(nested_kernel, kernel)(
            *values, bar.cast(pl.Int64).to_numpy(), np.asarray(windows, dtype=np.int64), *settings
        )
        found = result.reshape(len(names), -1)
        return pl.DataFrame(
            [pl.Series(name, column) for name, column in zip(names, found, strict=True)]
        ).to_struct(columns[0].name)

    kind = pl.Struct(dict.fromkeys(names, pl.Float32))
    arguments = ", ".join(str(number) for number in (*windows, *settings))
    return pl.map_batches([*inputs, pl.col(BAR)], evaluate, return_dtype=kind).alias(f"{kernel}({arguments})")
