"""Row checks of a raw panel: which rows are faulty, why, and from when on that could be known.

A check that looks at later bars (a bad print is known as one only when the price comes back) says so:
`detected_at` is the timestamp at which the finding could first have been made, and health counts the findings
whose `detected_at` lies after the row's own timestamp. Removing such rows cleans history with hindsight; a
live run would have seen them first. A column that a panel does not have at all (null in every row) is judged
by no check, and takes no part in the others.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
import polars as pl

from components.timeline.periods import LENGTHS
from components.validation.config import Settings

PRICES = ("open", "high", "low", "close")
SPLIT_RATIOS = (5 / 4, 4 / 3, 3 / 2, 2, 5 / 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)
MIN_MARKET_SYMBOLS = 5
MIN_USUAL_BARS = 5
MIN_USUAL_RANGE = 0.002
MAX_SPLIT_SLACK = 0.05
MAX_JUMP_STEP = 3
BIG_SPLIT = 3
SPARE = ("open", "high", "low", "volume")
LEAST_BLIND_JUMP = 2.0
MEMORY_STRETCH = 1.4
MIN_MEMORY = timedelta(days=4)
RATIOS = {"volume": "volume_ratio", "turnover": "turnover_ratio"}
TYPICAL_FAULT_MULTIPLE = 20
REGULAR_STEP_SHARE = 0.95


# When a finding can be made: with the bar and those before it; when another version of the bar arrives; only
# with later bars.
Known = Literal["at the bar", "on arrival", "with later bars"]


@dataclass(frozen=True)
class Rule:
    """One reason why a row is found: when that can be known, what it means, and what a person should do.

    Notices are not quarantined.
    """

    reason: str
    severity: Literal["quarantine", "notice"]
    known: Known
    says: str
    remedy: str


RULES = (
    Rule(
        "missing_key",
        "quarantine",
        "at the bar",
        "timestamp or symbol is null",
        "give every row a timestamp and a symbol",
    ),
    Rule(
        "not_finite",
        "quarantine",
        "at the bar",
        "a price or the volume is null, NaN or infinite",
        "ask the source for these bars again",
    ),
    Rule(
        "not_positive",
        "quarantine",
        "at the bar",
        "a price is zero or negative",
        "ask the source for these bars again",
    ),
    Rule(
        "ohlc_order",
        "quarantine",
        "at the bar",
        "low <= open, close <= high does not hold",
        "ask the source for these bars again; on the newest bar it may just not be final",
    ),
    Rule(
        "negative_volume",
        "quarantine",
        "at the bar",
        "volume is negative",
        "ask the source for these bars again",
    ),
    Rule(
        "impossible_times",
        "quarantine",
        "at the bar",
        "a bar ends before it begins or was known before it ended",
        "check market.timezone and how the source stamps its bars",
    ),
    Rule(
        "zero_volume_moving",
        "quarantine",
        "at the bar",
        "the price moves within a bar in which nothing was traded",
        "for a source without volume set validation.zero_volume: keep",
    ),
    Rule(
        "duplicate_identical",
        "quarantine",
        "on arrival",
        "the same bar is there more than once; the one known first is kept",
        "remove the repeats at the source",
    ),
    Rule(
        "revision",
        "quarantine",
        "on arrival",
        "another version of this bar was known earlier; that one is kept",
        "nothing: what was known first is what could be traded on",
    ),
    Rule(
        "duplicate_conflicting",
        "quarantine",
        "on arrival",
        "versions of one bar disagree and were known at the same time, so none is believed",
        "find out which version is right and remove the others",
    ),
    Rule(
        "stale_price",
        "quarantine",
        "at the bar",
        "the bar repeats its predecessors (from the stale_bars-th on)",
        "check whether the symbol still trades",
    ),
    Rule(
        "dead_cross_section",
        "quarantine",
        "at the bar",
        "no symbol has volume: the exchange was closed or down",
        "nothing: such bars are placeholders",
    ),
    Rule(
        "bad_print",
        "quarantine",
        "with later bars",
        "a price far from its neighbours, on ordinary volume, that comes straight back",
        "compare with another source",
    ),
    Rule(
        "unadjusted_split",
        "quarantine",
        "with later bars",
        "before an overnight jump to a simple ratio on ordinary trading; later prices have another scale",
        "adjust the prices for the split at the source",
    ),
    Rule(
        "currency_jump",
        "quarantine",
        "with later bars",
        "before a lasting change of level on ordinary trading; later prices have another unit",
        "convert the whole history to one currency and unit",
    ),
    Rule(
        "unconfirmed_jump",
        "quarantine",
        "at the bar",
        "a jump on ordinary trading in the symbol's newest bar; only later bars can say what it is",
        "run again when the next bar is there",
    ),
    Rule(
        "recycled_ticker",
        "quarantine",
        "with later bars",
        "before a long gap with another price level after it: another instrument",
        "give the older instrument a symbol of its own",
    ),
    Rule(
        "last_bar_not_final",
        "quarantine",
        "at the bar",
        "the newest cross-section looks like bars that were read before they ended",
        "run again after the bar has ended",
    ),
    Rule(
        "thin_cross_section",
        "quarantine",
        "at the bar",
        "fewer than min_coverage of the symbols that were listed just before have a sound bar here (judged"
        " from five symbols on)",
        "fetch the missing bars, or leave the date out",
    ),
    Rule(
        "low_coverage",
        "quarantine",
        "with later bars",
        "the symbol has fewer than min_coverage of the bars between its first and last",
        "fetch the missing bars, or leave the symbol out",
    ),
    Rule(
        "ended_together",
        "notice",
        "with later bars",
        "the symbol's last bar, on a date before the panel's end with which many others end too",
        "find out whether the source was cut off or stitched together there, or chose its symbols anew",
    ),
    Rule(
        "known_late",
        "notice",
        "on arrival",
        "the bar became known max_known_lag_days or more after it ended: filled in afterwards, so nobody"
        " could trade on it",
        "nothing, if known_time is right: later stages use the row from then on only",
    ),
    Rule(
        "time_reversal",
        "notice",
        "at the bar",
        "time runs backwards within the symbol, in the order of the source; rows were sorted",
        "nothing, unless the order means something to the source",
    ),
)
RULE_BY_REASON = {rule.reason: rule for rule in RULES}
NOTICES = tuple(rule.reason for rule in RULES if rule.severity == "notice")
FINDING_SCHEMA = {"row": pl.Int64(), "reason": pl.String(), "detected_at": pl.Datetime("us", "UTC")}


@dataclass(frozen=True)
class Examination:
    """What the checks found.

    `findings`: columns `row` (position in the raw table, from 0), `reason`, `detected_at`; a row may have
    several. `clean`: the rows without a finding that quarantines, sorted by (timestamp, symbol), with their
    `row`. `gaps`: columns `symbol`, `before`, `after` (timestamps), `missing_bars`; only bars that most
    listed symbols have count. `source_gaps`: the same before any row was set aside: bars that the source
    itself does not have. `outages`: columns `before`, `after`, `missing_bars`: steps of a regular calendar
    that no symbol has. `coverage`: columns `symbol`, `bars`, `expected_bars`, `coverage`, `first`, `last`,
    before symbols fall out. `absent`: columns that the panel does not have; they are null throughout `clean`
    too.
    """

    findings: pl.DataFrame
    clean: pl.DataFrame
    gaps: pl.DataFrame
    source_gaps: pl.DataFrame
    outages: pl.DataFrame
    coverage: pl.DataFrame
    thin_dates: pl.DataFrame
    frozen_symbols: tuple[str, ...]
    absent: tuple[str, ...]


def examine(raw: pl.DataFrame, settings: Settings) -> Examination:
    """Run all row checks on a raw panel (columns and types of RAW_PANEL, any order of rows)."""
    absent = absent_columns(raw)
    numbered = filled(raw, absent).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"))
    local = concat([row_faults(numbered, settings), time_reversals(numbered)])
    whole = without(numbered, local.filter(~pl.col("reason").is_in(NOTICES)))
    repeats = duplicates(whole)
    bars = without(whole, repeats).sort("symbol", "timestamp")
    calendar = cross_sections(bars, settings)
    together = ended_together(
        whole.unique(["timestamp", "symbol"], keep="first", maintain_order=True), settings
    )
    thin_dates = calendar.filter(
        (pl.col("listed") >= MIN_MARKET_SYMBOLS)
        & (pl.col("present") < settings.min_coverage * pl.col("listed"))
    )
    thin = _found(bars.join(thin_dates, on="timestamp", how="semi"), "thin_cross_section")
    stale = stale_prices(bars, settings)
    frozen = frozen_symbols(bars, stale)
    dead = dead_cross_sections(bars)
    bars = without(bars, concat([thin, stale, dead]))
    ohlc = local.filter(pl.col("reason") == "ohlc_order")
    unfinished = last_bar(bars, numbered.join(ohlc, on="row", how="semi"), settings)
    bars = without(bars, unfinished)
    prints = bad_prints(bars, settings)
    bars = without(bars, prints)
    closed = dead.select(pl.col("detected_at").alias("timestamp"))
    traded = (
        whole.select(pl.col("timestamp").unique())
        .join(closed, on="timestamp", how="anti")
        .sort("timestamp")
        .with_row_index("bar")
    )
    calendar = (
        calendar.join(pl.concat([closed, thin_dates.select("timestamp")]), on="timestamp", how="anti")
        .sort("timestamp")
        .with_row_index("bar")
    )
    recycled = recycled_tickers(bars, calendar, settings)
    bars = without(bars, recycled)
    judged = traded.join(
        numbered.join(prints, on="row", how="semi").select("symbol", "timestamp"), on="timestamp"
    ).select("symbol", "bar")
    seen = pl.concat([bars, witnesses(whole, repeats), whole.join(thin, on="row", how="semi")]).sort(
        "symbol", "timestamp"
    )
    breaks = level_breaks(seen, traded, judged, not {"high", "low", "volume"} & set(absent), settings).join(
        bars.select("row"), on="row", how="semi"
    )
    bars = without(bars, breaks)
    coverage = symbol_coverage(bars, calendar)
    uncovered = low_coverage(bars, coverage, settings)
    findings = concat(
        [local, repeats, thin, stale, dead, unfinished, prints, breaks, recycled, uncovered, together]
    )
    clean = without(bars, uncovered).sort("timestamp", "symbol")
    return Examination(
        findings=findings,
        clean=clean.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in absent),
        gaps=symbol_gaps(bars, calendar),
        source_gaps=symbol_gaps(
            numbered.drop_nulls(["timestamp", "symbol"]).unique(["timestamp", "symbol"]), calendar
        ),
        outages=outages(traded["timestamp"]),
        coverage=coverage,
        thin_dates=thin_dates,
        frozen_symbols=frozen,
        absent=absent,
    )


def absent_columns(raw: pl.DataFrame) -> tuple[str, ...]:
    """The prices and volume that the panel does not have: null in every row. A close there must be."""
    return tuple(name for name in SPARE if len(raw) and raw[name].null_count() == len(raw))


def filled(raw: pl.DataFrame, absent: tuple[str, ...]) -> pl.DataFrame:
    """`raw` with neutral values in absent columns: prices that add no range to the bar, and a volume that
    never changes.
    """
    raw = raw.with_columns(pl.col("close").alias("open")) if "open" in absent else raw
    neutral = {
        "high": pl.max_horizontal("open", "close"),
        "low": pl.min_horizontal("open", "close"),
        "volume": pl.lit(1.0),
    }
    return raw.with_columns(value.alias(name) for name, value in neutral.items() if name in absent)


def row_faults(numbered: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Faults that one row shows by itself; a row may have several."""
    numbers = [*PRICES, "volume"]
    finite = pl.all_horizontal(*(pl.col(name).is_finite().fill_null(False) for name in numbers))
    top, bottom, slack = (
        pl.max_horizontal("open", "close", "low"),
        pl.min_horizontal("open", "close", "high"),
        1 + settings.price_tolerance,
    )
    moves = (pl.col("high") > pl.col("low") * slack) | (pl.col("open") != pl.col("close"))
    conditions = {
        "missing_key": pl.col("timestamp").is_null() | pl.col("symbol").is_null(),
        "not_finite": ~finite,
        "not_positive": pl.any_horizontal(
            *((pl.col(name) <= 0) & pl.col(name).is_finite() for name in PRICES)
        ),
        "ohlc_order": finite & ((top > pl.col("high") * slack) | (bottom * slack < pl.col("low"))),
        "negative_volume": finite & (pl.col("volume") < 0),
        "impossible_times": (
            (pl.col("event_time") >= pl.col("timestamp")) | (pl.col("known_time") < pl.col("timestamp"))
        ),
        "zero_volume_moving": (
            finite & (pl.col("volume") == 0) & moves & pl.lit(settings.zero_volume == "quarantine_moving")
        ),
    }
    conditions["known_late"] = pl.col("known_time") - pl.col("timestamp") >= timedelta(
        days=settings.max_known_lag_days
    )
    flags = numbered.select(
        "row",
        "timestamp",
        "known_time",
        **{name: condition.fill_null(False) for name, condition in conditions.items()},
    )
    moment = {"known_late": pl.col("known_time")}
    return concat([_found(flags.filter(pl.col(name)), name, moment.get(name)) for name in conditions])


def time_reversals(numbered: pl.DataFrame) -> pl.DataFrame:
    """Rows whose timestamp lies before that of the same symbol's row above them in the source."""
    back = (pl.col("timestamp") < pl.col("timestamp").shift(1).over("symbol")).fill_null(False)
    return _found(numbered.filter(back), "time_reversal")


def duplicates(numbered: pl.DataFrame) -> pl.DataFrame:
    """Rows that repeat a (timestamp, symbol).

    Identical repeats: the one known first stays. Conflicting ones: if a single version was known before the
    others it stays, because it is what could be traded on, and the others are revisions; otherwise none is
    believed.
    """
    key = ["timestamp", "symbol"]
    values = [*PRICES, "volume"]
    repeated = numbered.filter(pl.len().over(key) > 1).sort(*key, "known_time", "row")
    if repeated.is_empty():
        return concat([])
    repeated = repeated.with_columns(
        pl.struct(values).n_unique().over(key).alias("versions"),
        pl.int_range(pl.len()).over(key).alias("place"),
        (pl.col("known_time") == pl.col("known_time").min().over(key)).alias("first_known"),
    ).with_columns(
        pl.struct(values).filter("first_known").n_unique().over(key).alias("first_versions"),
        pl.all_horizontal(*(pl.col(name) == pl.col(name).first().over(key) for name in values)).alias(
            "same_as_first"
        ),
    )
    identical = (pl.col("place") > 0) & (pl.col("first_versions") == 1) & pl.col("same_as_first")
    revision = (pl.col("first_versions") == 1) & ~pl.col("same_as_first")
    conflicting = pl.col("first_versions") > 1
    at = pl.max_horizontal("timestamp", "known_time")
    return concat(
        [
            _found(repeated.filter(identical), "duplicate_identical", at),
            _found(repeated.filter(revision), "revision", at),
            _found(repeated.filter(conflicting), "duplicate_conflicting", at),
        ]
    )


def witnesses(whole: pl.DataFrame, repeats: pl.DataFrame) -> pl.DataFrame:
    """One version of each bar whose versions disagree: not believed, but enough to tell a jump of level from
    a slow move across the missing bars.
    """
    conflicting = repeats.filter(pl.col("reason") == "duplicate_conflicting")
    return whole.join(conflicting, on="row", how="semi").unique(
        ["timestamp", "symbol"], keep="first", maintain_order=True
    )


def stale_prices(bars: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Bars that repeat their predecessors, from the `stale_bars`-th of a run on: before that nobody could
    tell.
    """
    same = pl.all_horizontal(*((pl.col(name) == pl.col(name).shift(1)) for name in ("symbol", *PRICES)))
    quiet = (pl.col("volume") == 0) | (pl.col("volume") == pl.col("volume").shift(1))
    runs = bars.with_columns((same & quiet).fill_null(False).alias("repeats")).with_columns(
        (~pl.col("repeats")).cum_sum().alias("run")
    )
    length = pl.int_range(1, pl.len() + 1).over("run")
    return _found(runs.filter(pl.col("repeats") & (length >= settings.stale_bars)), "stale_price")


def frozen_symbols(bars: pl.DataFrame, stale: pl.DataFrame) -> tuple[str, ...]:
    """Symbols whose newest bar, at the end of the panel, is stale."""
    newest = bars.filter(pl.col("timestamp") == pl.col("timestamp").max())
    return tuple(newest.join(stale, on="row", how="semi")["symbol"].sort())


def dead_cross_sections(bars: pl.DataFrame) -> pl.DataFrame:
    """Timestamps at which two symbols or more have a bar and none has volume.

    A source without any volume has none of them.
    """
    if not (bars["volume"] > 0).any():
        return concat([])
    totals = bars.group_by("timestamp").agg(pl.len().alias("symbols"), pl.col("volume").max().alias("most"))
    return _found(
        bars.join(totals.filter((pl.col("symbols") > 1) & (pl.col("most") == 0)), on="timestamp", how="semi"),
        "dead_cross_section",
    )


def ended_together(bars: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Last bars of symbols that end on one date, before the panel's end, with `ended_share` or more of those
    listed then, five at least.

    Symbols are delisted one by one; where many stop at once, the source does: a download that was cut off,
    files of several years put together, a list of symbols that was chosen anew. Known when they have been
    gone for the listing's memory.
    """
    if bars.is_empty():
        return concat([])
    lasts = (
        bars.sort("symbol", "timestamp")
        .group_by("symbol", maintain_order=True)
        .agg(pl.col("row", "timestamp").last())
    )
    memory = listing_memory(bars, settings)
    ended = lasts.filter(pl.col("timestamp") + memory <= bars["timestamp"].max())
    counted = (
        ended.group_by("timestamp")
        .agg(pl.len().alias("ended"))
        .join(cross_sections(bars, settings), on="timestamp")
    )
    together = counted.filter(
        (pl.col("ended") >= MIN_MARKET_SYMBOLS) & (pl.col("ended") >= settings.ended_share * pl.col("listed"))
    )
    found = (
        ended.join(together, on="timestamp", how="semi")
        .with_columns((pl.col("timestamp") + memory).alias("forgotten"))
        .sort("forgotten")
    )
    moments = bars.select(pl.col("timestamp").unique().sort().alias("seen"))
    return _found(
        found.join_asof(moments, left_on="forgotten", right_on="seen", strategy="forward", coalesce=False),
        "ended_together",
        pl.col("seen"),
    )


def usual(bars: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Add to bars sorted by (symbol, timestamp) what is usual for each symbol, from bars before the one in
    question.

    Adds `previous` (close), `next_open`, `gap` (log of open over previous close), `market_gap` (median over
    symbols, 0 for fewer than five), `span` (log of high over low), `usual_range` (log; the larger of the
    median over `usual_bars` and the mean over ten, so that it follows a market in turmoil), `volume_ratio`
    and `turnover_ratio` (volume and close * volume in medians over `usual_bars`), `market_range` (median over
    symbols of true range in usual ranges).
    """
    by = "symbol"
    bars = bars.with_columns(
        pl.col("close").shift(1).over(by).alias("previous"),
        pl.col("open").shift(-1).over(by).alias("next_open"),
        (pl.col("high") / pl.col("low")).log().alias("span"),
        (pl.col("close") * pl.col("volume")).alias("turnover"),
    ).with_columns(
        (pl.col("open") / pl.col("previous")).log().alias("gap"),
        (pl.max_horizontal("high", "previous") / pl.min_horizontal("low", "previous"))
        .log()
        .alias("true_range"),
    )
    few = min(MIN_USUAL_BARS, settings.usual_bars)

    def median(name: str) -> pl.Expr:
        return pl.col(name).rolling_median(settings.usual_bars, min_samples=few).shift(1).over(by)

    bars = bars.with_columns(
        pl.max_horizontal(
            median("true_range"), pl.col("true_range").rolling_mean(10, min_samples=few).shift(1).over(by)
        )
        .clip(MIN_USUAL_RANGE)
        .alias("usual_range"),
        (pl.col("volume") / median("volume")).alias("volume_ratio"),
        (pl.col("turnover") / median("turnover")).alias("turnover_ratio"),
    )
    market = bars.group_by("timestamp").agg(
        pl.len().alias("symbols"),
        pl.col("gap").median().alias("market_gap"),
        (pl.col("true_range") / pl.col("usual_range")).median().alias("market_range"),
    )
    enough = pl.col("symbols") >= MIN_MARKET_SYMBOLS
    market = market.select(
        "timestamp",
        pl.when(enough).then(pl.col("market_gap")).otherwise(0.0).fill_null(0.0).alias("market_gap"),
        pl.when(enough)
        .then(pl.col("market_range"))
        .otherwise(1.0)
        .fill_nan(1.0)
        .fill_null(1.0)
        .alias("market_range"),
    )
    return bars.join(market, on="timestamp", how="left", maintain_order="left")


def last_bar(bars: pl.DataFrame, inconsistent: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """The newest cross-section, where it shows signs of bars read before they ended.

    Signs: volume and range of most symbols far below usual, or many more bars than ever before whose prices
    contradict each other (parts of such a bar come from different moments). A short session may be taken for
    one: it costs a bar.
    """
    if bars.is_empty():
        return concat([])
    newest = bars["timestamp"].max()
    recent = bars.filter(pl.int_range(pl.len(), 0, -1).over("symbol") <= settings.usual_bars + 1)
    now = usual(recent, settings).filter(pl.col("timestamp") == newest)
    unfinished = False
    if len(now) >= MIN_MARKET_SYMBOLS:
        volume, span = now["volume_ratio"].median(), (now["span"] / now["usual_range"]).median()
        unfinished = (
            volume is not None
            and span is not None
            and volume < settings.last_bar_volume_ratio
            and span < settings.last_bar_range_ratio
        )
    faulty = len(inconsistent.filter(pl.col("timestamp") == newest))
    share = faulty / (faulty + len(now)) if len(now) else 0.0
    usual_share = (len(inconsistent) - faulty) / max(len(bars), 1)
    contradicts = (
        faulty >= 3
        and share >= settings.last_bar_fault_share
        and share > TYPICAL_FAULT_MULTIPLE * usual_share
    )
    return _found(
        bars.filter((pl.col("timestamp") == newest) & pl.lit(bool(unfinished or contradicts))),
        "last_bar_not_final",
    )


def bad_prints(bars: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Prices far from their neighbours, on ordinary volume, that come straight back.

    A high, low or open that the bar itself contradicts is known when the bar ends; a close only when the next
    bar opens. Real crashes differ: volume is far above usual, and the next open lies beside the close.
    """
    bars = usual(bars, settings)
    threshold = pl.max_horizontal(
        settings.bad_print_sigma * pl.col("usual_range") * pl.col("market_range").clip(1.0),
        pl.lit(float(np.log1p(settings.bad_print_move))),
    )
    calm = (pl.min_horizontal("volume_ratio", "turnover_ratio") <= settings.print_volume_ratio).fill_null(
        False
    )
    before = pl.coalesce("previous", "open")
    up = (pl.col("high") / pl.max_horizontal("open", "close", before)).log()
    down = (pl.min_horizontal("open", "close", before) / pl.col("low")).log()
    wick = pl.max_horizontal(up, down)
    wick_print = (calm & (wick > threshold)) | (wick > float(np.log(settings.wick_ratio)))
    gap = pl.col("gap") - pl.col("market_gap")
    move = (pl.col("close") / pl.col("previous")).log()
    open_print = calm & (gap.abs() > threshold) & (move.abs() < settings.revert_share * gap.abs())
    after = (pl.col("next_open") / pl.col("previous")).log()
    spike = move - pl.col("market_gap")
    close_print = calm & (spike.abs() > threshold) & (after.abs() < settings.revert_share * spike.abs())
    flags = bars.select(
        "row",
        "timestamp",
        pl.col("timestamp").shift(-1).over("symbol").alias("next_timestamp"),
        (wick_print | open_print).fill_null(False).alias("within"),
        close_print.fill_null(False).alias("across"),
    )
    return concat(
        [
            _found(flags.filter("within"), "bad_print"),
            _found(flags.filter(pl.col("across") & ~pl.col("within")), "bad_print", pl.col("next_timestamp")),
        ]
    )


def level_breaks(
    bars: pl.DataFrame, calendar: pl.DataFrame, prints: pl.DataFrame, sighted: bool, settings: Settings
) -> pl.DataFrame:
    """All bars of a symbol before its last lasting jump of level that trading and the market do not explain.

    Without the corporate action nobody may rescale the past, and a factor or label across the jump would be
    wrong, so the older part goes: live, one would have to start over as well. Ordinary volume (or turnover,
    which a split leaves alone) and ordinary ranges, in the jump's bar and until it is confirmed, tell it from
    news; across more than two missing bars, after a bar without trading (a halt ends with news) or after a
    bad print (`prints`: columns `symbol`, `bar`) nothing does, so no jump is looked for there. A split of 3:1
    or more may come with up to `print_volume_ratio` of the usual trading: news of that size brings far more.
    Where the panel lacks volume or range (not `sighted`), only jumps of 2:1 or more are judged.
    This drops history because of something learned later; `detected_at` is the bar that confirmed the jump.
    """
    bars = usual(bars, settings).join(
        calendar.select("timestamp", "bar"), on="timestamp", how="left", maintain_order="left"
    )
    bars = bars.with_columns(
        (pl.col("gap") - pl.col("market_gap")).alias("jump"),
        (pl.col("span") / pl.col("usual_range")).alias("span_ratio"),
        pl.col("bar").cast(pl.Int64).diff().over("symbol").alias("step"),
        (pl.col("volume").shift(1).over("symbol") == 0).fill_null(False).alias("reopened"),
    )
    bars = bars.join(
        prints.select("symbol", pl.col("bar") + 1, pl.lit(True).alias("after_print")),
        on=["symbol", "bar"],
        how="left",
        maintain_order="left",
    )
    quiet = (pl.min_horizontal("volume_ratio", "turnover_ratio") <= settings.print_volume_ratio) & (
        pl.col("span_ratio") <= settings.quiet_range_ratio
    )
    floor = (
        float(np.log(min(*SPLIT_RATIOS, settings.currency_jump_ratio) if sighted else LEAST_BLIND_JUMP))
        - settings.split_tolerance
    )
    explained = pl.col("reopened") | pl.col("after_print").fill_null(False)
    possible = quiet & ~explained & (pl.col("jump").abs() > floor) & (pl.col("step") <= MAX_JUMP_STEP)
    aheads = range(1, settings.confirm_bars + 1)
    later = [
        pl.col(name).shift(-ahead).over("symbol").alias(f"{name}_{ahead}")
        for name in ("close", "timestamp", "span", "volume", "turnover")
        for ahead in aheads
    ]
    earlier = [pl.col("close").shift(back).over("symbol").alias(f"close_before_{back}") for back in aheads]
    symbols = bars.filter(possible).select("symbol").unique()
    jumps = (
        bars.join(symbols, on="symbol", how="semi", maintain_order="left")
        .with_columns(later + earlier)
        .filter(possible)
    )
    if jumps.is_empty():
        return concat([])
    jumps = jumps.with_columns(
        pl.col("jump").abs().alias("size"),
        _ratio_distance(jumps["jump"].abs()).alias("distance"),
        ((pl.col("close") / pl.col("previous")).log() - pl.col("market_gap")).alias("move"),
        pl.coalesce(*(f"close_{ahead}" for ahead in reversed(aheads)), "close").alias("later_close"),
        pl.coalesce(*(f"timestamp_{ahead}" for ahead in reversed(aheads)), "timestamp").alias("confirmed_at"),
        pl.concat_list(f"close_before_{back}" for back in aheads).list.median().alias("earlier_close"),
        *(
            (_median_from_here(name, aheads) / pl.col(name) * pl.col(ratio)).alias(f"later_{ratio}")
            for name, ratio in RATIOS.items()
        ),
        (_median_from_here("span", aheads) / pl.col("usual_range")).alias("later_span_ratio"),
    )
    remains = ((pl.col("later_close") / pl.col("earlier_close")).log() * pl.col("jump").sign()) >= (
        1 - settings.revert_share
    ) * pl.col("size")
    big = pl.col("size") > float(np.log(BIG_SPLIT)) - settings.split_tolerance
    trading = pl.when(big).then(settings.print_volume_ratio).otherwise(settings.quiet_volume_ratio)
    stays_quiet = (pl.min_horizontal("later_volume_ratio", "later_turnover_ratio") <= trading) & (
        pl.col("later_span_ratio") <= settings.quiet_range_ratio
    )
    slack = pl.col("usual_range").clip(0.0, MAX_SPLIT_SLACK)
    room = float(np.log1p(settings.split_tolerance))
    at_ratio = (pl.col("distance") <= room + slack / 2) & (
        (pl.col("move") - pl.col("jump")).abs() <= 2 * (room + slack)
    )
    large = pl.col("size") > settings.level_sigma * pl.col("usual_range")
    reason = (
        pl.when(large & at_ratio)
        .then(pl.lit("unadjusted_split"))
        .when(large & (pl.col("size") > float(np.log(settings.currency_jump_ratio))))
        .then(pl.lit("currency_jump"))
    )
    jumps = jumps.with_columns(reason.alias("reason")).filter(
        pl.col("reason").is_not_null() & remains & stays_quiet
    )
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
        _found(older.filter(pl.col("jump_reason") == name), name, pl.col("jump_confirmed_at"))
        for name in ("unadjusted_split", "currency_jump")
    ]
    return concat([*cut, _found(jumps.filter(in_newest_bar), "unconfirmed_jump")])


def recycled_tickers(bars: pl.DataFrame, calendar: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Bars before a gap of more than `max_gap_bars` after which the price level is another one."""
    placed = bars.join(calendar.select("timestamp", "bar"), on="timestamp", maintain_order="left").sort(
        "symbol", "timestamp"
    )
    step = pl.col("bar").cast(pl.Int64).diff().over("symbol")
    change = (pl.col("open") / pl.col("close").shift(1).over("symbol")).log().abs()
    returns = placed.filter(
        (step - 1 > settings.max_gap_bars) & (change > float(np.log(settings.currency_jump_ratio)))
    )
    last = returns.group_by("symbol").agg(pl.col("timestamp").max().alias("returned_at"))
    older = placed.join(last, on="symbol").filter(pl.col("timestamp") < pl.col("returned_at"))
    return _found(older, "recycled_ticker", pl.col("returned_at"))


def listing_memory(bars: pl.DataFrame, settings: Settings) -> timedelta:
    """How long after its last bar a symbol still counts as listed:

    `stale_bars` bars, weekends included, four days at least.
    """
    length = LENGTHS.get(bars["period"][0] if len(bars) else "", timedelta(days=1))
    return max(MEMORY_STRETCH * settings.stale_bars * length, MIN_MEMORY)


def cross_sections(bars: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """For each timestamp:

    `present`, the symbols that have it, and `listed`, those that have it or had a bar shortly before.

    Whether an absent symbol comes back is not known at the bar, so one that ended counts as listed for a
    while (`listing_memory`), and one that is gone for longer counts as new when it returns.
    """
    memory = listing_memory(bars, settings)
    moments = bars.select("symbol", "timestamp").sort("symbol", "timestamp")
    before = pl.col("timestamp") - pl.col("timestamp").shift(1).over("symbol")
    after = pl.col("timestamp").shift(-1).over("symbol") - pl.col("timestamp")
    starts = moments.filter((before > memory).fill_null(True))["timestamp"].sort()
    ends = (
        moments.filter((after > memory).fill_null(True))
        .select(pl.col("timestamp") + memory)["timestamp"]
        .sort()
    )
    present = bars.group_by("timestamp").agg(pl.len().cast(pl.Int64).alias("present")).sort("timestamp")
    begun = starts.search_sorted(present["timestamp"], side="right").cast(pl.Int64)
    ended = ends.search_sorted(present["timestamp"], side="left").cast(pl.Int64)
    return present.with_columns((begun - ended).alias("listed"))


def symbol_coverage(bars: pl.DataFrame, calendar: pl.DataFrame) -> pl.DataFrame:
    """Bars of each symbol against the calendar's bars between its first and last; worst first."""
    spans = bars.group_by("symbol").agg(
        pl.len().cast(pl.Int64).alias("bars"),
        pl.col("timestamp").min().alias("first"),
        pl.col("timestamp").max().alias("last"),
    )
    times = calendar["timestamp"]
    expected = (
        times.search_sorted(spans["last"], side="right").cast(pl.Int64)
        - times.search_sorted(spans["first"], side="left").cast(pl.Int64)
    ).alias("expected_bars")
    spans = spans.with_columns(expected).with_columns(
        (pl.col("bars") / pl.col("expected_bars")).alias("coverage")
    )
    return spans.select("symbol", "bars", "expected_bars", "coverage", "first", "last").sort(
        "coverage", "symbol"
    )


def low_coverage(bars: pl.DataFrame, coverage: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """All bars of symbols below `min_coverage`; judged over the whole span, so known only at the symbol's
    last bar.
    """
    poor = coverage.filter(pl.col("coverage") < settings.min_coverage).select("symbol", "last")
    return _found(bars.join(poor, on="symbol"), "low_coverage", pl.col("last"))


def symbol_gaps(bars: pl.DataFrame, calendar: pl.DataFrame) -> pl.DataFrame:
    """Runs of bars that most listed symbols have and one has not, longest first."""
    placed = (
        bars.select("symbol", "timestamp")
        .join(calendar.select("timestamp", "bar"), on="timestamp")
        .sort("symbol", "timestamp")
    )
    placed = placed.select(
        "symbol",
        pl.col("timestamp").shift(1).over("symbol").alias("before"),
        pl.col("timestamp").alias("after"),
        (pl.col("bar").cast(pl.Int64).diff().over("symbol") - 1).alias("missing_bars"),
    )
    return placed.filter(pl.col("missing_bars") > 0).sort(
        "missing_bars", "symbol", "before", descending=[True, False, False]
    )


def outages(times: pl.Series) -> pl.DataFrame:
    """Steps that no symbol has, where the calendar is regular enough (round the clock) to expect them."""
    steps = (
        pl.DataFrame({"before": times.shift(1), "after": times})
        .with_columns((pl.col("after") - pl.col("before")).alias("step"))
        .drop_nulls()
    )
    empty = steps.select("before", "after", pl.lit(0, dtype=pl.Int64).alias("missing_bars")).clear()
    if steps.is_empty():
        return empty
    usual_step = steps["step"].mode().sort()[0]
    if (steps["step"] == usual_step).mean() < REGULAR_STEP_SHARE:
        return empty
    missing = (pl.col("step").dt.total_microseconds() // int(usual_step.total_seconds() * 1e6) - 1).alias(
        "missing_bars"
    )
    return (
        steps.select("before", "after", missing)
        .filter(pl.col("missing_bars") > 0)
        .sort("missing_bars", "before", descending=[True, False])
    )


def without(bars: pl.DataFrame, findings: pl.DataFrame) -> pl.DataFrame:
    """The rows that have no finding, in their order."""
    if findings.is_empty():
        return bars
    return bars.join(findings, on="row", how="anti", maintain_order="left")


def concat(found: list[pl.DataFrame]) -> pl.DataFrame:
    """Findings one under the other."""
    return pl.concat([pl.DataFrame(schema=FINDING_SCHEMA), *found])


def _found(rows: pl.DataFrame, reason: str, detected_at: pl.Expr | None = None) -> pl.DataFrame:
    at = pl.col("timestamp") if detected_at is None else detected_at
    return rows.select("row", pl.lit(reason).alias("reason"), at.alias("detected_at")).cast(FINDING_SCHEMA)


def _ratio_distance(size: pl.Series) -> pl.Series:
    """Distance of each |log jump| to the log of the nearest simple ratio."""
    ratios = np.log(np.array(SPLIT_RATIOS))
    return pl.Series(np.abs(size.to_numpy()[:, None] - ratios[None, :]).min(axis=1))


def _median_from_here(name: str, aheads: range) -> pl.Expr:
    return pl.concat_list(name, *(f"{name}_{ahead}" for ahead in aheads)).list.median()
