"""Rows of the universe that can be traded."""

import polars as pl


def tradable_rows(frame: pl.DataFrame, universe: pl.DataFrame) -> pl.DataFrame:
    """The rows of `frame` (columns `timestamp`, `symbol`, any others) that a UNIVERSE table calls tradable,
    in their order.
    """
    key = ["timestamp", "symbol"]
    return frame.join(universe.filter("tradable"), on=key, how="semi", maintain_order="left")
