"""The volume profile of a window as an expression: how its volume lies over the prices at which it was
traded.
"""

import numpy as np
import polars as pl

from components.features.kernels import BAR

FIELDS = ("control", "value_high", "value_low", "high_node", "low_node", "below")


def volume_profile(
    high: pl.Expr, low: pl.Expr, close: pl.Expr, volume: pl.Expr, bars: int, shelves: int, value_share: float
) -> pl.Expr:
    """A Struct of FIELDS for the last `bars` bars; prices in logs, each field but `below` a distance of the
    close in logs.

    The range of the window is cut into `shelves` equal shelves; each bar's volume is spread evenly from its
    low to its high. The point of control is the middle of the fullest shelf. The value area grows from it,
    always by the fuller neighbour, until it holds `value_share` of the volume. Nodes are the nearest local
    maximum and minimum of the profile averaged over three shelves (1, 2, 1); the ends of the range count as
    minima, because nothing was traded beyond them. Null where a value of the window is unknown, and where it
    has no volume or no range.
    """

    def evaluate(series: list[pl.Series]) -> pl.Series:
        # Numba takes a while to import.
        from components.features.profile_kernel import profiles

        *columns, bar = series
        values = [column.cast(pl.Float64).fill_null(np.nan).to_numpy() for column in columns]
        result = profiles(*values, bar.cast(pl.Int64).to_numpy(), bars, shelves, value_share)
        return pl.DataFrame(
            [pl.Series(name, result[i], nan_to_null=True) for i, name in enumerate(FIELDS)]
        ).to_struct(columns[0].name)

    kind = pl.Struct(dict.fromkeys(FIELDS, pl.Float64))
    return pl.map_batches([high, low, close, volume, pl.col(BAR)], evaluate, return_dtype=kind).alias(
        f"volume_profile({bars}, {shelves}, {value_share})"
    )
