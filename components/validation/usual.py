"""What is usual for each symbol, from bars before the one in question."""

import numpy as np
import polars as pl

from components.validation.listing import MIN_MARKET_SYMBOLS

MIN_USUAL_BARS = 5
# Floor of the usual range (log): a price that hardly moves would make every tick stand out.
MIN_USUAL_RANGE = 0.002
# Bars of the mean that lets the usual range follow a market in turmoil.
TURMOIL_BARS = 10
# Bars over which the usual range and volume of a symbol are taken, always before the bar in question.
USUAL_BARS = 60
# Share of a jump that may remain when it counts as reverted.
REVERT_SHARE = 0.3
# Volume in usual volumes above which a price far off is believed: news moves prices with much more.
PRINT_VOLUME_RATIO = 4.0
# A move of the whole market beyond this ratio between two bars is one of the unit.
MAX_MARKET_RATIO = 2.5


def usual(bars: pl.DataFrame) -> pl.DataFrame:
    """Add to bars sorted by (symbol, timestamp) what is usual for each symbol, from bars before the one in
    question.

    Adds `previous` (close), `next_open`, `gap` (log of open over previous close), `market_gap` (median over
    symbols, 0 for fewer than five), `span` (log of high over low), `usual_range` (log; the larger of the
    median over `USUAL_BARS` and the mean over ten, so that it follows a market in turmoil), `volume_ratio`
    and `turnover_ratio` (volume and close * volume in medians over `USUAL_BARS`; 1 where volume says nothing,
    because it never changed over these bars), `sighted` (it does say something), `usual_gap` (median size of
    gaps), `market_range` (median over symbols of true range in usual ranges).
    """
    by = "symbol"
    top, bottom = pl.max_horizontal("high", "previous"), pl.min_horizontal("low", "previous")
    bars = (
        bars.with_columns(
            pl.col("close").shift(1).over(by).alias("previous"),
            pl.col("open").shift(-1).over(by).alias("next_open"),
            (pl.col("high") / pl.col("low")).log().alias("span"),
            (pl.col("close") * pl.col("volume")).alias("turnover"),
        )
        .with_columns(
            (pl.col("open") / pl.col("previous")).log().alias("gap"),
            (top / bottom).log().alias("true_range"),
        )
        .with_columns(pl.col("gap").abs().alias("gap_size"))
    )
    few = min(MIN_USUAL_BARS, USUAL_BARS)

    def median(name: str) -> pl.Expr:
        return pl.col(name).rolling_median(USUAL_BARS, min_samples=few).shift(1).over(by)

    most = pl.col("volume").rolling_max(USUAL_BARS + 1, min_samples=few).over(by)
    least = pl.col("volume").rolling_min(USUAL_BARS + 1, min_samples=few).over(by)
    silent = (most == least).fill_null(False)

    recent = pl.col("true_range").rolling_mean(TURMOIL_BARS, min_samples=few).shift(1).over(by)
    bars = bars.with_columns(
        pl.max_horizontal(median("true_range"), recent).clip(MIN_USUAL_RANGE).alias("usual_range"),
        *(
            pl.when(silent).then(1.0).otherwise(pl.col(name) / median(name)).alias(f"{name}_ratio")
            for name in ("volume", "turnover")
        ),
        (~silent).alias("sighted"),
        median("gap_size").alias("usual_gap"),
    )
    return bars.join(market_moves(bars), on="timestamp", how="left", maintain_order="left")


def market_moves(bars: pl.DataFrame) -> pl.DataFrame:
    """`market_gap` and `market_range` by timestamp; 0 and 1 where there are too few symbols for a market."""
    market = bars.group_by("timestamp").agg(
        pl.len().alias("symbols"),
        pl.col("gap").median().alias("market_gap"),
        (pl.col("true_range") / pl.col("usual_range")).median().alias("market_range"),
    )
    enough = pl.col("symbols") >= MIN_MARKET_SYMBOLS
    gap = pl.when(enough & _believable("market_gap")).then(pl.col("market_gap")).otherwise(0.0)
    ranged = pl.when(enough).then(pl.col("market_range")).otherwise(1.0)
    return market.select(
        "timestamp",
        gap.fill_null(0.0).alias("market_gap"),
        ranged.fill_nan(1.0).fill_null(1.0).alias("market_range"),
    )


def market_levels(bars: pl.DataFrame) -> pl.DataFrame:
    """`market_level` by timestamp, in order: the sum of the market's moves from close to close (log); those
    of too few symbols count as 0. `bars` as from `usual`.
    """
    moves = (
        bars.group_by("timestamp")
        .agg(pl.len().alias("symbols"), (pl.col("close") / pl.col("previous")).log().median().alias("move"))
        .sort("timestamp")
    )
    counts = (pl.col("symbols") >= MIN_MARKET_SYMBOLS) & _believable("move")
    move = pl.when(counts).then(pl.col("move")).otherwise(0.0)
    return moves.select("timestamp", move.fill_null(0.0).cum_sum().alias("market_level"))


def _believable(move: str) -> pl.Expr:
    return pl.col(move).abs() < float(np.log(MAX_MARKET_RATIO))
