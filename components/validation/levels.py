"""Lasting changes of a symbol's price level that trading and the market do not explain.

Without the corporate action nobody may rescale the past, and a factor or label across the jump would be
wrong, so the older part goes: live, one would have to start over as well. History is dropped because of
something learned later; `detected_at` is the bar that confirmed the jump. What stays open is only told
(`OPEN_STEPS`): the rows stay, and no label is learned across the step.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.validation.findings import concat, finding
from components.validation.jumps import (
    BONUS_RATIOS,
    ONE_PRICE,
    SMALL_STEP,
    confirmed_jumps,
    overnight_gaps,
)
from components.validation.units import FOUND as OTHER_UNIT
from components.validation.units import excursions
from components.validation.usual import PRINT_VOLUME_RATIO, REVERT_SHARE

# Reasons for which what lies before a jump goes, and for which the step is only told.
CUTS = ("unadjusted_split", "currency_jump", "recycled_ticker")
OPEN_STEPS = ("bonus_issue", "unexplained_step")
# A split from here on may come with lively trading: news of that size brings far more.
BIG_SPLIT = 3
# The smallest ratio of two units of one currency; a split is rarely as large.
PENCE = 100
# From here on a simple ratio is that of a unit or a currency, not of a split.
UNIT_RATIO = 150
# Missing bars in a row after which a changed price level means another instrument under the same symbol.
MAX_GAP_BARS = 20
# Median volume in usual volumes, from a jump until it is confirmed, up to which trading counts as
# ordinary.
QUIET_VOLUME_RATIO = 2.0
# Bar range in usual ranges, likewise.
QUIET_RANGE_RATIO = 2.0
# Likewise for a step that only a busy day of a corporate action explains: its value traded, its range in
# usual ranges, and its range as a share of the step.
BUSY_VOLUME_RATIO = 4.5
BUSY_RANGE_RATIO = 2.5
SMALL_RANGE_SHARE = 0.2
# A wider day will do where it is less busy, or where its range is next to nothing against the step.
WIDE_VOLUME_RATIO = 2.5
WIDE_RANGE_RATIO = 3.5
TINY_RANGE_SHARE = 0.025
# News makes steps below this ratio often enough to meet a simple one by chance: there no busy day will do.
LEAST_BUSY_SPLIT = 1.9
# A large step to a simple ratio whose range is as small stays open up to these.
OPEN_VOLUME_RATIO = 8.0
OPEN_RANGE_RATIO = 4.0
# Smallest overnight jump that counts as a change of level, in usual bar ranges and the root of the bars that
# it took.
LEVEL_SIGMA = 5.0
# Smaller ones count where they meet the ratio of a bonus issue: in usual ranges, and in usual overnight gaps.
BONUS_SIGMA = 3.0
BONUS_GAPS = 12.0
# Relative distance from a simple ratio such as 2:1 that an unadjusted split may have, besides half a
# usual range; that on a busy day, besides a quarter; and that of a bonus issue, whose ratios lie closer.
SPLIT_TOLERANCE = 0.03
BUSY_TOLERANCE = 0.02
BONUS_TOLERANCE = 0.012
# Usual ranges above this one make a ratio no easier to meet.
MAX_RATIO_SLACK = 0.05
# Smallest lasting change of level, up or down, that counts as a change of currency or unit.
CURRENCY_JUMP_RATIO = 1.5
# A rise beyond this over missing bars is another instrument or unit whatever its trading: no coin or share
# that went on trading somewhere did that.
BEYOND_BELIEF_RATIO = 20
# A day at one price is a habit where this share of the symbol's bars has one; elsewhere it is a limit's.
ONE_PRICE_HABIT = 0.2
# How far the number of shares may be from what the price says of it (log), as the noise of a few volumes.
SHARES_TOLERANCE = 0.7
# Bars of the calendar up to which what lies between two bars is one night.
MAX_NIGHT_STEP = 3
# Smallest change of level across more bars than that: a slow move may have made a smaller one.
LEAST_JUMP_OVER_GAP = 2.0
# Symbols with an unadjusted split, and their share of the panel, from which on bonus issues are believed too:
# elsewhere one may be a spin-off.
UNADJUSTED_SYMBOLS = 2
UNADJUSTED_SHARE = 0.02


@dataclass(frozen=True)
class Levels:
    """`findings` as every check returns them; `steps`: `row`, `reason`, `ratio` (new price over old) of each
    change of level, at the first bar of the new level.
    """

    findings: pl.DataFrame
    steps: pl.DataFrame


@dataclass(frozen=True)
class Jump:
    """What is asked of a jump before it counts as a change of scale.

    Each field is one boolean expression over a row of `confirmed_jumps`.
    """

    lasts: pl.Expr  # the price is still near the new level some bars later
    stands_out: pl.Expr  # far above the symbol's usual range
    calm: pl.Expr  # value traded and range stayed ordinary until then, so it was no news
    calm_in_shares: pl.Expr  # the same, of the number of shares: a currency does not change that
    contained: pl.Expr  # a busy day perhaps, but its range is small against the jump
    doubtful: pl.Expr  # busier still, and its range is small against the jump
    at_ratio: pl.Expr  # 2:1, 3:2 ... within the bar's own noise
    at_ratio_exactly: pl.Expr  # the same, nearer
    at_bonus_ratio: pl.Expr  # 12:10, 13:10 ... nearer still
    in_shares_too: pl.Expr  # far, and the number of shares went as far the other way: a split of any ratio
    in_value: pl.Expr  # as far as pence, and for all that volume says the price alone has another unit
    locked: pl.Expr  # small, and a day at one price: a price limit, or hardly any trading
    small: pl.Expr  # as small as a spin-off or a bonus issue
    as_news: pl.Expr  # no larger than news often makes
    large_as_currency: pl.Expr  # as far as from one currency or unit to another
    large_as_unit: pl.Expr  # further than any split
    beyond_belief: pl.Expr  # so far up over missing bars that no trading explains it
    another: pl.Expr  # another instrument: over a long gap, or to a level that no unit explains


def kind(jump: Jump) -> pl.Expr:
    """One of `CUTS` or `OPEN_STEPS`, or null where trading or the market explain the jump."""
    lasting = jump.lasts & jump.stands_out & ~jump.locked
    at_ratio = jump.at_ratio | jump.at_bonus_ratio | jump.in_shares_too
    exactly = jump.at_ratio_exactly | jump.at_bonus_ratio
    large = ~jump.small
    split = lasting & large & ((jump.calm & at_ratio) | (jump.contained & exactly & ~jump.as_news))
    other_scale = lasting & jump.large_as_currency & (jump.calm_in_shares | jump.beyond_belief)
    return (
        pl.when((split | other_scale) & jump.another)
        .then(pl.lit("recycled_ticker"))
        .when(split & ~jump.large_as_unit & ~jump.in_value)
        .then(pl.lit("unadjusted_split"))
        .when(split | other_scale)
        .then(pl.lit("currency_jump"))
        .when(lasting & jump.small & jump.calm & jump.at_bonus_ratio)
        .then(pl.lit("bonus_issue"))
        .when(lasting & (jump.calm | jump.contained | (jump.doubtful & large & exactly)))
        .then(pl.lit("unexplained_step"))
    )


def asked_of_jumps() -> Jump:
    """The conditions, with the limits above."""
    size, span, bars = pl.col("size"), pl.col("span_ratio"), pl.col("step").cast(pl.Float64)
    moved = (pl.col("later_close") / pl.col("earlier_close")).log() * pl.col("jump").sign()
    on_the_day = pl.min_horizontal("volume_ratio", "turnover_ratio")
    until_confirmed = pl.min_horizontal("later_volume_ratio", "later_turnover_ratio")
    widest = pl.max_horizontal(span, "later_span_ratio")

    big = size > float(np.log(BIG_SPLIT)) - SPLIT_TOLERANCE
    as_news = size < float(np.log(LEAST_BUSY_SPLIT))
    ordinary = pl.when(big).then(PRINT_VOLUME_RATIO).otherwise(QUIET_VOLUME_RATIO)
    # A step as small as news makes is calm only where its own day is.
    calm_day = on_the_day <= pl.when(as_news).then(QUIET_VOLUME_RATIO).otherwise(PRINT_VOLUME_RATIO)
    calm = calm_day & (until_confirmed <= ordinary) & (widest <= QUIET_RANGE_RATIO)
    most_shares = pl.max_horizontal("volume_ratio", "later_volume_ratio")
    busy = pl.max_horizontal(on_the_day, until_confirmed)
    narrow = (pl.col("span") <= SMALL_RANGE_SHARE * size) & pl.col("sighted")
    wider = (busy <= WIDE_VOLUME_RATIO) & (widest <= WIDE_RANGE_RATIO)
    ranged = (widest <= BUSY_RANGE_RATIO) | wider | (pl.col("span") <= TINY_RANGE_SHARE * size)

    slack = pl.col("usual_range").clip(0.0, MAX_RATIO_SLACK)
    drift = bars.sqrt()
    room = float(np.log1p(SPLIT_TOLERANCE))
    at_once = (pl.col("move") - pl.col("jump")).abs() <= 2 * (room + slack)
    up_over_gap = (pl.col("jump") > 0) & (pl.col("step") > 1)
    as_unit = size > float(np.log(UNIT_RATIO))
    at_ratio = (pl.col("distance") <= (room + slack / 2) * drift) & at_once

    at_bonus_ratio = (pl.col("bonus_distance") <= BONUS_TOLERANCE) & at_once
    over_gaps = (size > BONUS_SIGMA * pl.col("usual_range") * drift) & (
        size > BONUS_GAPS * pl.col("usual_gap") * drift
    )

    # Of steps as far as this the volumes, noisy as they are, tell a split from another unit.
    far = pl.col("sighted") & big
    shares, value = pl.col("later_volume_ratio").log(), pl.col("later_turnover_ratio").log()
    rescaled = (shares + pl.col("jump")).abs() <= SHARES_TOLERANCE
    as_pence = size > float(np.log(PENCE)) - SPLIT_TOLERANCE
    no_habit = pl.col("one_price_share") < ONE_PRICE_HABIT

    return Jump(
        lasts=moved >= (1 - REVERT_SHARE) * size,
        stands_out=(size > LEVEL_SIGMA * pl.col("usual_range") * drift) | (at_bonus_ratio & over_gaps),
        calm=calm,
        calm_in_shares=calm & (most_shares <= PRINT_VOLUME_RATIO),
        contained=narrow & ranged & (busy <= BUSY_VOLUME_RATIO),
        doubtful=narrow & (widest <= OPEN_RANGE_RATIO) & (busy <= OPEN_VOLUME_RATIO),
        at_ratio=at_ratio,
        at_ratio_exactly=(pl.col("distance") <= BUSY_TOLERANCE + slack / 4) & at_once,
        at_bonus_ratio=at_bonus_ratio,
        in_shares_too=(far & rescaled & at_once).fill_null(False),
        in_value=(as_pence & (~pl.col("sighted") | (2 * shares.abs() < value.abs()))).fill_null(False),
        locked=(as_news & (pl.col("span") <= ONE_PRICE) & no_habit).fill_null(False),
        small=size < float(np.log(SMALL_STEP)),
        as_news=as_news,
        large_as_currency=size > float(np.log(CURRENCY_JUMP_RATIO)),
        large_as_unit=as_unit,
        beyond_belief=up_over_gap & (size > float(np.log(BEYOND_BELIEF_RATIO))),
        another=(bars > MAX_GAP_BARS + 1) | ((bars > MAX_NIGHT_STEP) & as_unit & ~at_ratio),
    )


def possible_jump() -> pl.Expr:
    """Whether a row of `overnight_gaps` is worth a look: far enough, and trading does not explain it at
    once.
    """
    size = pl.col("jump").abs()
    trading = pl.min_horizontal("volume_ratio", "turnover_ratio")
    quiet = (trading <= OPEN_VOLUME_RATIO) & (pl.col("span_ratio") <= OPEN_RANGE_RATIO)
    up_over_gap = (pl.col("step") > 1) & (pl.col("jump") > float(np.log(BEYOND_BELIEF_RATIO)))
    over_gap = pl.col("step") > MAX_NIGHT_STEP
    wide = over_gap | ~pl.col("sighted")
    least = pl.when(wide).then(LEAST_JUMP_OVER_GAP).otherwise(min(BONUS_RATIOS)).log() - SPLIT_TOLERANCE
    return (quiet | up_over_gap) & (size > least) & ~pl.col("after_print").fill_null(False)


def level_changes(
    bars: pl.DataFrame, calendar: pl.DataFrame, prints: pl.DataFrame, *, ranged: bool
) -> Levels:
    """All bars of a symbol before its last lasting jump of level that trading and the market do not explain,
    the bars that are quoted in another unit for a while, and the steps that stay open.

    Ordinary volume (or turnover, which a split leaves alone) and ordinary ranges, in the jump's bar and until
    it is confirmed, tell it from news, over missing bars as well, however many: a halt that ends with news
    ends with volume and wide ranges. A jump to a simple ratio needs no quiet where the day's range is small
    against it. After a bad print (`prints`: their bars) no jump is looked for. Where volume says nothing, or
    the panel lacks ranges (not `ranged`), only jumps of 2:1 or more are judged.
    """
    gaps = overnight_gaps(bars.sort("symbol", "timestamp"), calendar, prints, ranged=ranged)
    jumps = confirmed_jumps(gaps, possible_jump())
    if jumps.is_empty():
        return Levels(concat([]), steps_of(jumps.with_columns(reason=pl.lit(None, dtype=pl.String))))
    for_a_while, jumps = excursions(gaps, jumps)
    jumps = jumps.with_columns(kind(asked_of_jumps()).alias("reason")).drop_nulls("reason")
    jumps = in_unadjusted_panel(jumps, gaps["symbol"].n_unique())
    in_newest_bar = pl.col("confirmed_at") == pl.col("timestamp")
    settled, newest = jumps.filter(~in_newest_bar), jumps.filter(in_newest_bar)
    found = concat(
        [
            before_last(gaps, settled.filter(pl.col("reason").is_in(CUTS))),
            finding(for_a_while, OTHER_UNIT, pl.col("back_at")),
            finding(newest.filter(pl.col("reason").is_in(CUTS)), "unconfirmed_jump"),
            *(
                finding(settled.filter(pl.col("reason") == name), name, pl.col("confirmed_at"))
                for name in OPEN_STEPS
            ),
        ]
    )
    return Levels(found, pl.concat([steps_of(settled), steps_of(for_a_while.filter("begins"))]))


def steps_of(jumps: pl.DataFrame) -> pl.DataFrame:
    return jumps.select("row", "reason", pl.col("jump").exp().alias("ratio"))


def in_unadjusted_panel(jumps: pl.DataFrame, symbols: int) -> pl.DataFrame:
    """Bonus issues become splits where the panel shows by enough symbols that its prices are not adjusted."""
    split = jumps.filter(pl.col("reason") == "unadjusted_split")["symbol"].n_unique()
    if split < max(UNADJUSTED_SYMBOLS, UNADJUSTED_SHARE * symbols):
        return jumps
    return jumps.with_columns(pl.col("reason").replace("bonus_issue", "unadjusted_split"))


def before_last(bars: pl.DataFrame, jumps: pl.DataFrame) -> pl.DataFrame:
    """Findings for all bars before a symbol's last jump, by its reason, known when it was confirmed."""
    last = (
        jumps.sort("timestamp")
        .group_by("symbol")
        .agg(pl.col("timestamp", "confirmed_at", "reason").last().name.prefix("jump_"))
    )
    older = (
        bars.select("row", "timestamp", "symbol")
        .join(last, on="symbol")
        .filter(pl.col("timestamp") < pl.col("jump_timestamp"))
    )
    return concat(
        [
            finding(older.filter(pl.col("jump_reason") == name), name, pl.col("jump_confirmed_at"))
            for name in CUTS
        ]
    )
