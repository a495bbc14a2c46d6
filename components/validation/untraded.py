"""Bars without a trade: rows that a source gives for a symbol in which nothing was traded, and so no price
made.
"""

import polars as pl

from components.validation.findings import finding

# Share of its value within which a close counts as the last one (prices stored in single precision).
SAME_PRICE = 1e-6


def bars_without_trade(numbered: pl.DataFrame, absent: tuple[str, ...]) -> pl.DataFrame:
    """Rows with volume 0 whose high and low are 0 or missing, and whose close, where there is one, is the
    symbol's last; so is its open.

    They are no faults: most exchanges have names that are not traded every day. With volume, or with another
    close, such a row is one. So it is where the volume says nothing: it is 0 for the symbol in all rows,
    while the close moves.

    Parameters
    ----------
    numbered : columns of RAW_PANEL and `row`, in any order
    absent : columns that the panel does not have
    """
    if {"high", "low", "volume"} & set(absent):
        return finding(numbered.clear(), "no_trade")
    keyed = numbered.drop_nulls(["timestamp", "symbol"]).sort("symbol", "timestamp")
    close = _price("close")
    speaks = (pl.col("volume") > 0).any() | (close.drop_nulls().n_unique() <= 1)
    rows = keyed.with_columns(
        close.shift(1).forward_fill().over("symbol").alias("last_close"),
        speaks.over("symbol").alias("speaks"),
    )
    still = [_nothing(name) | _is_last(name) for name in ("open", "close")]
    empty = _nothing("high") & _nothing("low") & (pl.col("volume") == 0)
    found = rows.filter(empty & pl.all_horizontal(*still) & pl.col("speaks"))
    return finding(found.sort("row"), "no_trade")


def _nothing(name: str) -> pl.Expr:
    """Whether the price is 0, null or NaN."""
    return pl.col(name).fill_nan(None).fill_null(0.0) == 0


def _price(name: str) -> pl.Expr:
    """The price, null where it is none."""
    return pl.when(pl.col(name).is_finite() & (pl.col(name) > 0)).then(pl.col(name))


def _is_last(name: str) -> pl.Expr:
    """Whether the price is the last close; unknown, and so believed, before there is one."""
    same = (pl.col(name) / pl.col("last_close") - 1).abs() <= SAME_PRICE
    return _price(name).is_not_null() & same.fill_null(True)
