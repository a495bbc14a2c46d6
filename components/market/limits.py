"""The exchange's daily price limit of each symbol, where the market has one."""

from collections.abc import Mapping

import polars as pl

from components.market.errors import MarketError

COLUMN = "price_limit"


def add_price_limit(rows: pl.DataFrame, limit: float | Mapping[str, float] | None) -> pl.DataFrame:
    """Bars with the column `price_limit`, a share of the previous close, where the source or `limit` has one.

    A mapping gives the limit by the beginning of the symbol; the longest that fits counts. What a source says
    itself, row by row, goes first.

    Raises
    ------
    MarketError
        If the source's own column holds something else than shares.
    """
    if COLUMN in rows.columns:
        wrong = rows.filter(~pl.col(COLUMN).is_between(0, 1, closed="none"))
        if len(wrong):
            raise MarketError(
                f"The column price_limit holds shares of the previous close, such as 0.1; found"
                f" {wrong[COLUMN][0]:g} for {wrong['symbol'][0]}, and {len(wrong):,} such rows. Map another"
                " column in market.columns, or rename this one and set market.price_limit."
            )
    if limit is None:
        return rows
    by_start = limit if isinstance(limit, Mapping) else {"": limit}
    fitting = [
        pl.when(pl.col("symbol").str.starts_with(start)).then(pl.lit(share))
        for start, share in sorted(by_start.items(), key=lambda entry: -len(entry[0]))
    ]
    own = [pl.col(COLUMN)] if COLUMN in rows.columns else []
    return rows.with_columns(pl.coalesce(*own, *fitting).cast(pl.Float64).alias(COLUMN))
