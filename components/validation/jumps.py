"""Jumps of a symbol's price from one bar to its next, with what came before and after them."""

import numpy as np
import polars as pl

from components.validation.usual import USUAL_BARS, market_levels, usual

# Ratios of splits; the last ones are those of units.
SPLIT_RATIOS = (
    *(3 / 2, 2, 5 / 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100),
    *(1e3, 1e4, 1e5, 1e6, 1e8),
)
# Ratios of bonus and rights issues: 10 shares become 12, 13 ...
BONUS_RATIOS = (6 / 5, 5 / 4, 13 / 10, 4 / 3, 7 / 5, 8 / 5, 9 / 5)
# A step below this ratio may be a spin-off, however exactly it meets a ratio.
SMALL_STEP = 1.45
# Bars after which a change of level counts as lasting.
CONFIRM_BARS = 3
# What counts as trading; a split leaves turnover alone.
TRADING_RATIOS = {"volume": "volume_ratio", "turnover": "turnover_ratio"}
# From here on to the low a bar has a range.
ONE_PRICE = 1e-6
LOOKED_AHEAD = ("close", "timestamp", "span", "volume", "turnover")


def overnight_gaps(
    bars: pl.DataFrame, calendar: pl.DataFrame, prints: pl.DataFrame, *, ranged: bool
) -> pl.DataFrame:
    """`bars` with what is usual for them and, of the way from the bar before:

    `jump` (log, less the market's over the same bars), `market_way` (the market's), `span_ratio`, `step`
    (bars of the calendar), `sighted` (volume and range tell trading from faults), `after_print`,
    `one_price_share` (of the usual bars, those without a range).
    """
    bars = usual(bars)
    market = calendar.select("timestamp", "bar").join(market_levels(bars), on="timestamp", how="left")
    market = market.sort("bar").with_columns(
        pl.col("market_level").fill_null(strategy="forward").fill_null(0.0)
    )
    bars = bars.join(
        market.with_columns(pl.col("market_level").shift(1).alias("level_before")),
        on="timestamp",
        how="left",
        maintain_order="left",
    )
    missed = pl.col("level_before") - pl.col("market_level").shift(1).over("symbol")
    bars = bars.with_columns(
        (pl.col("market_gap") + missed.fill_null(0.0)).alias("market_way"),
        (pl.col("span") / pl.col("usual_range")).alias("span_ratio"),
        pl.col("bar").cast(pl.Int64).diff().over("symbol").alias("step"),
        (pl.col("sighted") & ranged).alias("sighted"),
        (pl.col("span") <= ONE_PRICE)
        .cast(pl.Float64)
        .rolling_mean(USUAL_BARS, min_samples=1)
        .shift(1)
        .over("symbol")
        .alias("one_price_share"),
    ).with_columns((pl.col("gap") - pl.col("market_way")).alias("jump"))
    printed = calendar.join(prints.select("symbol", "timestamp"), on="timestamp")
    next_bars = printed.select("symbol", pl.col("bar") + 1, pl.lit(True).alias("after_print"))
    return bars.join(next_bars, on=["symbol", "bar"], how="left", maintain_order="left")


def confirmed_jumps(gaps: pl.DataFrame, possible: pl.Expr) -> pl.DataFrame:
    """The possible jumps with what came before and after them, over `CONFIRM_BARS`:

    `size` (|log|), its `distance` to the ratio of a split and its `bonus_distance` to that of a bonus issue,
    `move` (log of close over close, less the market's way), `earlier_close`, `later_close`,
    `later_volume_ratio`, `later_turnover_ratio`, `later_span_ratio` and `confirmed_at`.
    """
    aheads = range(1, CONFIRM_BARS + 1)
    later = [
        pl.col(name).shift(-ahead).over("symbol").alias(f"{name}_{ahead}")
        for name in LOOKED_AHEAD
        for ahead in aheads
    ]
    earlier = [pl.col("close").shift(back).over("symbol").alias(f"close_before_{back}") for back in aheads]
    symbols = gaps.filter(possible).select("symbol").unique()
    jumps = (
        gaps.join(symbols, on="symbol", how="semi", maintain_order="left")
        .with_columns(later + earlier)
        .filter(possible)
    )
    size = jumps["jump"].abs()
    return jumps.with_columns(
        size.alias("size"),
        _distance(size, SPLIT_RATIOS).alias("distance"),
        _distance(size, BONUS_RATIOS).alias("bonus_distance"),
        ((pl.col("close") / pl.col("previous")).log() - pl.col("market_way")).alias("move"),
        _last_of("close", aheads).alias("later_close"),
        _last_of("timestamp", aheads).alias("confirmed_at"),
        pl.concat_list(f"close_before_{back}" for back in aheads).list.median().alias("earlier_close"),
        *(
            pl.when("sighted")
            .then(_median_from_here(name, aheads) / pl.col(name) * pl.col(ratio))
            .otherwise(pl.col(ratio))
            .alias(f"later_{ratio}")
            for name, ratio in TRADING_RATIOS.items()
        ),
        (_median_from_here("span", aheads) / pl.col("usual_range")).alias("later_span_ratio"),
    )


def _last_of(name: str, aheads: range) -> pl.Expr:
    """The value furthest ahead that there is."""
    return pl.coalesce(*(f"{name}_{ahead}" for ahead in reversed(aheads)), name)


def _median_from_here(name: str, aheads: range) -> pl.Expr:
    return pl.concat_list(name, *(f"{name}_{ahead}" for ahead in aheads)).list.median()


def _distance(size: pl.Series, ratios: tuple[float, ...]) -> pl.Series:
    """Log distance of each jump's size to the nearest of `ratios`."""
    wanted = np.log(ratios)
    return pl.Series(np.abs(size.to_numpy()[:, None] - wanted[None, :]).min(axis=1))
