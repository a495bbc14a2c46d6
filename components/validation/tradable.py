"""Bars in which no order could be filled: nothing was traded at their one price, or the price stood at the
exchange's limit all day.
"""

import polars as pl

from components.validation.findings import concat, finding
from components.validation.rows import PRICE_TOLERANCE

# Share of the price by which rounding to the tick may move a limit.
LIMIT_TOLERANCE = 0.005
# One-price days of at least this move are taken for locked where no setting names the limit, or count when
# the limit is looked for: smaller ones happen wherever little is traded.
LEAST_JUMP = 0.04
# Of a jump of a few ticks the size says nothing: it is as large as the tick makes it.
FEWEST_TICKS = 4
# So many days, and this share of all one-price jumps, must be of one size to look like a limit.
FEWEST_DAYS = 5
SHARE_OF_ONE_SIZE = 0.5
# Where more than this share of the bars that moved has one price, the source gives no ranges, or nobody can
# tell; below so many bars the others speak for them.
SHARE_WITHOUT_RANGE = 0.9
FEWEST_MOVES = 20


def tradability(bars: pl.DataFrame, absent: tuple[str, ...]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Which bars no buy order and which no sell order could be filled in, and what is said about them.

    A bar of one price without volume fills neither. A symbol's zero volume is believed where the symbol has
    volume elsewhere and most of its bars without volume stand still: a source that has no volume, or writes 0
    while prices move, says nothing. A bar of one price that jumped can't be bought where it jumped up nor
    sold where it fell: by its `price_limit` (an optional column) or more, and where that is unknown by
    LEAST_JUMP, for limits differ by market, symbol and time. That asks for ranges in the source, told by
    symbol and by year.

    Parameters
    ----------
    bars : clean bars in any order, with neutral values in `absent` columns
    absent : columns that the panel does not have; without a range nobody can tell a day at one price

    Returns
    -------
    `bars` with the booleans `unbuyable` and `unsellable` where any bar is either, else as given; and the
    findings `not_tradable` and `one_price_jump`, both notices.
    """
    marked = _marked(bars.sort("symbol", "timestamp"), absent)
    blocked = marked.filter(pl.col("unbuyable") | pl.col("unsellable"))
    found = [finding(blocked, "not_tradable"), finding(_like_a_limit(marked), "one_price_jump")]
    if blocked.is_empty():
        return bars, concat(found)
    marks = marked.select("row", "unbuyable", "unsellable")
    return bars.join(marks, on="row", how="left", maintain_order="left"), concat(found)


def _marked(bars: pl.DataFrame, absent: tuple[str, ...]) -> pl.DataFrame:
    """Bars sorted by (symbol, timestamp) with `unbuyable`, `unsellable`, `one_price`, `move` (share of the
    previous close) and `ticks` (the move in the smallest step of the symbol's closes).
    """
    ranged = not {"high", "low"} & set(absent)
    flat = (pl.col("high") <= pl.col("low") * (1 + PRICE_TOLERANCE)) & (pl.col("open") == pl.col("close"))
    step = pl.col("close").diff().over("symbol")
    smallest = step.abs().replace(0.0, None).min().over("symbol")
    silent, still = pl.col("volume") == 0, flat if ranged else flat & (step == 0)
    believed = (pl.col("volume") > 0).any() & (2 * (silent & still).sum() >= silent.sum())
    limit = pl.col("price_limit") if "price_limit" in bars.columns else pl.lit(None, dtype=pl.Float64)
    marked = bars.with_columns(
        (silent & still & believed.over("symbol")).fill_null(False).alias("nothing_traded"),
        (flat & ranged).fill_null(False).alias("one_price"),
        (step / pl.col("close").shift(1).over("symbol")).alias("move"),
        (step.abs() / smallest).alias("ticks"),
        (limit - LIMIT_TOLERANCE).alias("at_limit"),
    )
    in_ticks = (pl.col("ticks") >= FEWEST_TICKS) | (_moved().sum().over("symbol") < FEWEST_MOVES)
    jumped = (pl.col("move").abs() >= LEAST_JUMP) & in_ticks & _has_ranges()
    locked = pl.col("one_price") & (pl.col("move").abs() >= pl.col("at_limit")).fill_null(jumped)
    up, down = locked & (pl.col("move") > 0), locked & (pl.col("move") < 0)
    return marked.with_columns(
        (pl.col("nothing_traded") | up.fill_null(False)).alias("unbuyable"),
        (pl.col("nothing_traded") | down.fill_null(False)).alias("unsellable"),
    )


def _moved() -> pl.Expr:
    return pl.col("move").abs() > 0


def _has_ranges() -> pl.Expr:
    """Whether bars that moved have a range, as a rule, in the bar's symbol and in its year."""
    moved, single = _moved(), _moved() & pl.col("one_price")
    known = [
        (moved.sum().over(group) < FEWEST_MOVES)
        | (single.sum().over(group) <= SHARE_WITHOUT_RANGE * moved.sum().over(group))
        for group in (pl.col("symbol"), pl.col("timestamp").dt.year())
    ]
    return known[0] & known[1]


def _like_a_limit(marked: pl.DataFrame) -> pl.DataFrame:
    """One-price days whose move has the one size that most such days have, where no limit explains them."""
    tradable = ~pl.col("unbuyable") & ~pl.col("unsellable") & pl.col("one_price")
    jumps = marked.filter(tradable, pl.col("move").abs() >= LEAST_JUMP, pl.col("ticks") >= FEWEST_TICKS)
    jumps = jumps.with_columns((pl.col("move").abs() / (2 * LIMIT_TOLERANCE)).round().alias("size"))
    size = jumps["size"].mode().sort().head(1)
    alike = jumps.filter(pl.col("size").is_in(size.implode()))
    enough = len(alike) >= max(FEWEST_DAYS, SHARE_OF_ONE_SIZE * len(jumps))
    return alike if enough else alike.clear()
