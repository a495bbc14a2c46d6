"""Lasting changes of a symbol's price level that trading and the market do not explain.

Without the corporate action nobody may rescale the past, and a factor or label across the jump would be
wrong, so the older part goes: live, one would have to start over as well. History is dropped because of
something learned later; `detected_at` is the bar that confirmed the jump.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.validation.findings import concat, finding
from components.validation.usual import PRINT_VOLUME_RATIO, REVERT_SHARE, usual

SPLIT_RATIOS = (5 / 4, 4 / 3, 3 / 2, 2, 5 / 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)
# Usual ranges above this one make a split ratio no easier to meet.
MAX_SPLIT_SLACK = 0.05
# Bars from the one before the jump to the jump; across more, a slow move can't be told from a jump.
MAX_JUMP_STEP = 3
# A split from here on may come with lively trading: news of that size brings far more.
BIG_SPLIT = 3
# Smallest jump that is judged where the panel lacks volume or range.
LEAST_BLIND_JUMP = 2.0
# What counts as trading; a split leaves turnover alone.
TRADING_RATIOS = {"volume": "volume_ratio", "turnover": "turnover_ratio"}
LOOKED_AHEAD = ("close", "timestamp", "span", "volume", "turnover")
# Missing bars in a row after which a changed price level means another instrument under the same symbol.
MAX_GAP_BARS = 20
# Median volume in usual volumes, from a jump until it is confirmed, up to which trading counts as
# ordinary.
QUIET_VOLUME_RATIO = 2.0
# Bar range in usual ranges, likewise.
QUIET_RANGE_RATIO = 2.0
# Smallest overnight jump that counts as a change of level, in usual bar ranges.
LEVEL_SIGMA = 5.0
# Relative distance from a simple ratio such as 2:1 that an unadjusted split may have, besides half a
# usual range.
SPLIT_TOLERANCE = 0.03
# Smallest lasting change of level, up or down, that counts as a change of currency or unit.
CURRENCY_JUMP_RATIO = 1.4
# Bars after which a change of level counts as lasting.
CONFIRM_BARS = 3


@dataclass(frozen=True)
class Jump:
    """What must hold for a jump to count as a change of scale.

    Each field is one boolean expression over a row of `measured_jumps`.
    """

    lasts: pl.Expr  # the price is still near the new level `CONFIRM_BARS` later
    traded_calmly: pl.Expr  # volume and range stayed ordinary until then, so it was no news
    stands_out: pl.Expr  # far above the symbol's usual range
    at_simple_ratio: pl.Expr  # 2:1, 3:2 ... within the bar's own noise
    large_as_currency: pl.Expr  # as far as from one currency or unit to another


def kind(jump: Jump) -> pl.Expr:
    """`unadjusted_split`, `currency_jump`, or null where trading or the market explain the jump."""
    unexplained = jump.lasts & jump.traded_calmly & jump.stands_out
    return (
        pl.when(unexplained & jump.at_simple_ratio)
        .then(pl.lit("unadjusted_split"))
        .when(unexplained & jump.large_as_currency)
        .then(pl.lit("currency_jump"))
    )


def asked_of_jumps() -> Jump:
    """The conditions as the settings have them."""
    size = pl.col("size")
    moved = (pl.col("later_close") / pl.col("earlier_close")).log() * pl.col("jump").sign()

    big = size > float(np.log(BIG_SPLIT)) - SPLIT_TOLERANCE
    ordinary = pl.when(big).then(PRINT_VOLUME_RATIO).otherwise(QUIET_VOLUME_RATIO)
    trading = pl.min_horizontal("later_volume_ratio", "later_turnover_ratio")

    slack = pl.col("usual_range").clip(0.0, MAX_SPLIT_SLACK)
    room = float(np.log1p(SPLIT_TOLERANCE))
    near_ratio = pl.col("distance") <= room + slack / 2
    at_once = (pl.col("move") - pl.col("jump")).abs() <= 2 * (room + slack)

    return Jump(
        lasts=moved >= (1 - REVERT_SHARE) * size,
        traded_calmly=(trading <= ordinary) & (pl.col("later_span_ratio") <= QUIET_RANGE_RATIO),
        stands_out=size > LEVEL_SIGMA * pl.col("usual_range"),
        at_simple_ratio=near_ratio & at_once,
        large_as_currency=size > float(np.log(CURRENCY_JUMP_RATIO)),
    )


def level_breaks(
    bars: pl.DataFrame, calendar: pl.DataFrame, prints: pl.DataFrame, *, sighted: bool
) -> pl.DataFrame:
    """All bars of a symbol before its last lasting jump of level that trading and the market do not explain.

    Ordinary volume (or turnover, which a split leaves alone) and ordinary ranges, in the jump's bar and until
    it is confirmed, tell it from news; across more than two missing bars, after a bar without trading (a halt
    ends with news) or after a bad print (`prints`: their bars) nothing does, so no jump is looked for there.
    A split of 3:1 or more may come with up to `PRINT_VOLUME_RATIO` of the usual trading: news of that size
    brings far more. Where the panel lacks volume or range (not `sighted`), only jumps of 2:1 or more are
    judged.
    """
    bars = bars.sort("symbol", "timestamp")
    gaps = overnight_gaps(bars, calendar, prints)
    jumps = measured_jumps(gaps, possible_jump(sighted))
    if jumps.is_empty():
        return concat([])
    jumps = jumps.with_columns(kind(asked_of_jumps()).alias("reason")).drop_nulls("reason")
    in_newest_bar = pl.col("confirmed_at") == pl.col("timestamp")
    last = (
        jumps.filter(~in_newest_bar)
        .sort("timestamp")
        .group_by("symbol")
        .agg(pl.col("timestamp", "confirmed_at", "reason").last().name.prefix("jump_"))
    )
    older = (
        bars.select("row", "timestamp", "symbol")
        .join(last, on="symbol")
        .filter(pl.col("timestamp") < pl.col("jump_timestamp"))
    )
    cut = [
        finding(older.filter(pl.col("jump_reason") == name), name, pl.col("jump_confirmed_at"))
        for name in ("unadjusted_split", "currency_jump")
    ]
    return concat([*cut, finding(jumps.filter(in_newest_bar), "unconfirmed_jump")])


def overnight_gaps(bars: pl.DataFrame, calendar: pl.DataFrame, prints: pl.DataFrame) -> pl.DataFrame:
    """`bars` with what is usual for them and, of the way from the bar before:

    `jump` (log, less the market's), `span_ratio`, `step` (bars of the calendar), `reopened`, `after_print`.
    """
    bars = usual(bars).join(
        calendar.select("timestamp", "bar"), on="timestamp", how="left", maintain_order="left"
    )
    bars = bars.with_columns(
        (pl.col("gap") - pl.col("market_gap")).alias("jump"),
        (pl.col("span") / pl.col("usual_range")).alias("span_ratio"),
        pl.col("bar").cast(pl.Int64).diff().over("symbol").alias("step"),
        (pl.col("volume").shift(1).over("symbol") == 0).fill_null(False).alias("reopened"),
    )
    printed = calendar.join(prints.select("symbol", "timestamp"), on="timestamp")
    next_bars = printed.select("symbol", pl.col("bar") + 1, pl.lit(True).alias("after_print"))
    return bars.join(next_bars, on=["symbol", "bar"], how="left", maintain_order="left")


def possible_jump(sighted: bool) -> pl.Expr:
    """Whether a row of `overnight_gaps` is worth a look: far enough, on ordinary trading, and nothing
    explains it.
    """
    trading = pl.min_horizontal("volume_ratio", "turnover_ratio")
    quiet = (trading <= PRINT_VOLUME_RATIO) & (pl.col("span_ratio") <= QUIET_RANGE_RATIO)
    explained = pl.col("reopened") | pl.col("after_print").fill_null(False)
    least = min(*SPLIT_RATIOS, CURRENCY_JUMP_RATIO) if sighted else LEAST_BLIND_JUMP
    far = pl.col("jump").abs() > float(np.log(least)) - SPLIT_TOLERANCE
    return quiet & ~explained & far & (pl.col("step") <= MAX_JUMP_STEP)


def measured_jumps(gaps: pl.DataFrame, possible: pl.Expr) -> pl.DataFrame:
    """The possible jumps with what came before and after them, over `CONFIRM_BARS`:

    `size` (|log|), its `distance` to a simple ratio, `move` (log of close over close, less the market's gap),
    `earlier_close`, `later_close`, `later_volume_ratio`, `later_turnover_ratio`, `later_span_ratio` and
    `confirmed_at`.
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
        _ratio_distance(size).alias("distance"),
        ((pl.col("close") / pl.col("previous")).log() - pl.col("market_gap")).alias("move"),
        _last_of("close", aheads).alias("later_close"),
        _last_of("timestamp", aheads).alias("confirmed_at"),
        pl.concat_list(f"close_before_{back}" for back in aheads).list.median().alias("earlier_close"),
        *(
            (_median_from_here(name, aheads) / pl.col(name) * pl.col(ratio)).alias(f"later_{ratio}")
            for name, ratio in TRADING_RATIOS.items()
        ),
        (_median_from_here("span", aheads) / pl.col("usual_range")).alias("later_span_ratio"),
    )


def recycled_tickers(bars: pl.DataFrame, calendar: pl.DataFrame) -> pl.DataFrame:
    """Bars before a gap of more than `MAX_GAP_BARS` after which the price level is another one."""
    placed = bars.join(calendar.select("timestamp", "bar"), on="timestamp", maintain_order="left")
    placed = placed.sort("symbol", "timestamp")
    step = pl.col("bar").cast(pl.Int64).diff().over("symbol")
    change = (pl.col("open") / pl.col("close").shift(1).over("symbol")).log().abs()
    long_gap = step - 1 > MAX_GAP_BARS
    returns = placed.filter(long_gap & (change > float(np.log(CURRENCY_JUMP_RATIO))))
    last = returns.group_by("symbol").agg(pl.col("timestamp").max().alias("returned_at"))
    older = placed.join(last, on="symbol").filter(pl.col("timestamp") < pl.col("returned_at"))
    return finding(older, "recycled_ticker", pl.col("returned_at"))


def _ratio_distance(size: pl.Series) -> pl.Series:
    """Distance of each |log jump| to the log of the nearest simple ratio."""
    ratios = np.log(np.array(SPLIT_RATIOS))
    return pl.Series(np.abs(size.to_numpy()[:, None] - ratios[None, :]).min(axis=1))


def _last_of(name: str, aheads: range) -> pl.Expr:
    """The value furthest ahead that there is."""
    return pl.coalesce(*(f"{name}_{ahead}" for ahead in reversed(aheads)), name)


def _median_from_here(name: str, aheads: range) -> pl.Expr:
    return pl.concat_list(name, *(f"{name}_{ahead}" for ahead in aheads)).list.median()
