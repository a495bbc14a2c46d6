"""Every reason for which a row is found: when that can be known, what it means, what a person should do."""

from dataclasses import dataclass
from typing import Literal

from components.validation.rows import MAX_KNOWN_LAG_DAYS
from components.validation.standstill import STALE_BARS

# When a finding can be made: with the bar and those before it; when another version of the bar arrives; only
# with later bars.
Known = Literal["at the bar", "on arrival", "with later bars"]


@dataclass(frozen=True)
class Rule:
    """One reason why a row is found: when that can be known, what it means, and what a person should do.

    Notices stay in the panel. Placeholders stand where a bar would: they are kept out of the panel, but are
    no faults, so they don't count in the quarantine.
    """

    reason: str
    known: Known
    says: str
    remedy: str
    severity: Literal["quarantine", "placeholder", "notice"] = "quarantine"


RULES = (
    Rule(
        "missing_key",
        "at the bar",
        "timestamp or symbol is null",
        "give every row a timestamp and a symbol",
    ),
    Rule(
        "unfinished_bar",
        "at the bar",
        "the bar ends, or is published, only after the moment at which the source was read",
        "nothing, the next run takes it; if the clock is right and the data is made up, set market.as_of",
    ),
    Rule(
        "far_date",
        "with later bars",
        "a date far from all others of the panel, or of its symbol",
        "look at the date of these rows in the source; a history that is really so thin needs a config of its"
        " own",
    ),
    Rule(
        "other_calendar",
        "at the bar",
        "the symbol trades on other days of the week than most, like coins among stocks: two calendars in one"
        " panel",
        "give each calendar a config of its own, with its symbols in market.symbols",
    ),
    Rule(
        "weekend_row",
        "at the bar",
        "nothing traded, on a day of the week on which this market rests: a copy of the last session or a"
        " placeholder",
        "nothing: such rows are no bars",
        severity="placeholder",
    ),
    Rule(
        "weekend_trade",
        "at the bar",
        "a bar on a day of the week on which this market rests, while hardly any other symbol traded",
        "look at the date of these rows in the source; market.timezone and market.stamp may shift it",
    ),
    Rule(
        "not_finite",
        "at the bar",
        "a price or the volume is null, NaN or infinite",
        "ask the source for these bars again; where they stand for days without a trade, leave them out or"
        " give them volume 0",
    ),
    Rule(
        "not_positive",
        "at the bar",
        "a price is zero or negative",
        "ask the source for these bars again",
    ),
    Rule(
        "ohlc_order",
        "at the bar",
        "low <= open, close <= high does not hold",
        "ask the source for these bars again; on the newest bar it may just not be final",
    ),
    Rule(
        "negative_volume",
        "at the bar",
        "volume is negative",
        "ask the source for these bars again",
    ),
    Rule(
        "impossible_times",
        "at the bar",
        "a bar ends before it begins or was known before it ended",
        "check market.timezone and how the source stamps its bars",
    ),
    Rule(
        "zero_volume_moving",
        "at the bar",
        "the price moves within a bar in which nothing was traded",
        "for a source without volume set validation.zero_volume: keep",
    ),
    Rule(
        "duplicate_identical",
        "on arrival",
        "the same bar is there more than once; the one known first is kept",
        "remove the repeats at the source",
    ),
    Rule(
        "revision",
        "on arrival",
        "another version of this bar was known earlier; that one is kept",
        "nothing: what was known first is what could be traded on",
    ),
    Rule(
        "duplicate_conflicting",
        "on arrival",
        "versions of one bar disagree and were known at the same time, so none is believed",
        "find out which version is right and remove the others",
    ),
    Rule(
        "stale_price",
        "at the bar",
        f"the bar repeats its predecessors (from the {STALE_BARS}th on)",
        "check whether the symbol still trades",
    ),
    Rule(
        "dead_cross_section",
        "at the bar",
        "no symbol has volume, or every bar repeats the one before: the exchange was closed or down",
        "nothing: such bars are placeholders",
    ),
    Rule(
        "bad_print",
        "with later bars",
        "a price far from its neighbours, on ordinary volume, that comes straight back",
        "compare with another source",
    ),
    Rule(
        "unadjusted_split",
        "with later bars",
        "before an overnight jump to a simple ratio that lasts in price and not in value traded; later prices"
        " have another scale",
        "adjust the prices for the split at the source",
    ),
    Rule(
        "currency_jump",
        "with later bars",
        "before a lasting change of level on ordinary trading; later prices have another unit, or a split of"
        " an odd ratio was not adjusted for",
        "convert the whole history to one currency and unit, or adjust it for the split or bonus issue",
    ),
    Rule(
        "unconfirmed_jump",
        "at the bar",
        "a jump on ordinary trading in the symbol's newest bar; only later bars can say what it is",
        "run again when the next bar is there",
    ),
    Rule(
        "recycled_ticker",
        "with later bars",
        "before a long gap with another price level after it: another instrument",
        "give the older instrument a symbol of its own",
    ),
    Rule(
        "other_unit",
        "with later bars",
        "the price is quoted in another unit or currency for some bars and then comes back",
        "convert these bars at the source",
    ),
    Rule(
        "no_trade",
        "at the bar",
        "a bar without a trade: volume 0, no high and low, the close as before; kept out of the prices",
        "nothing: rarely traded symbols have such bars, and they count as there",
        severity="placeholder",
    ),
    Rule(
        "last_bar_not_final",
        "at the bar",
        "the newest cross-section looks like bars that were read before they ended",
        "run again after the bar has ended",
    ),
    Rule(
        "thin_cross_section",
        "at the bar",
        "fewer than min_coverage of the symbols that were listed just before have a sound bar here (judged"
        " from five symbols on)",
        "fetch the missing bars, or leave the date out",
    ),
    Rule(
        "low_coverage",
        "with later bars",
        "the symbol has fewer than min_coverage of the bars between its first and last",
        "fetch the missing bars; where the source has no row for a bar without a trade, set"
        " validation.min_coverage lower; else leave the symbol out with market.symbols",
    ),
    Rule(
        "bonus_issue",
        "with later bars",
        "a small overnight step to the ratio of a bonus or rights issue, that lasts, on ordinary trading: not"
        " adjusted for, or a spin-off; no label is learned across it",
        "adjust the prices at the source",
        severity="notice",
    ),
    Rule(
        "unexplained_step",
        "with later bars",
        "an overnight step that lasts and that neither trading nor a simple ratio explains; no label is"
        " learned across it",
        "look for a corporate action on that day, and adjust the prices at the source",
        severity="notice",
    ),
    Rule(
        "silent_volume",
        "with later bars",
        "the symbol's volume is null or never changes: it counts as absent (told at the newest bar)",
        "nothing, unless the source has a real volume",
        severity="notice",
    ),
    Rule(
        "volume_unit",
        "with later bars",
        "volume is in another unit from here on, such as shares for lots; what lies before counts as unknown",
        "convert the older volume at the source",
        severity="notice",
    ),
    Rule(
        "volume_spell",
        "with later bars",
        "volume of several symbols is in another unit for a few bars, while prices move as ever; it counts as"
        " unknown there",
        "convert these volumes at the source",
        severity="notice",
    ),
    Rule(
        "ended_together",
        "with later bars",
        "the symbol's last bar, on a date before the panel's end with which many others end too",
        "find out whether the source was cut off or stitched together there, or chose its symbols anew",
        severity="notice",
    ),
    Rule(
        "not_tradable",
        "at the bar",
        "nothing was traded at the bar's one price, or it stood all day where it had jumped to: no order"
        " that way is filled there, and no label begins or ends there",
        "nothing; for a source whose volume says nothing leave volume out in market.columns",
        severity="notice",
    ),
    Rule(
        "one_price_jump",
        "with later bars",
        "one price all day, and as far from the day before as on most such days, as price limits make it",
        "market.price_limit names another limit: set the one they show, so that nothing is bought or sold"
        " there",
        severity="notice",
    ),
    Rule(
        "known_late",
        "on arrival",
        f"the bar became known {MAX_KNOWN_LAG_DAYS} days or more after it ended: filled in afterwards, so"
        " nobody could trade on it",
        "nothing, if known_time is right: later stages use the row from then on only",
        severity="notice",
    ),
    Rule(
        "time_reversal",
        "at the bar",
        "time runs backwards within the symbol, in the order of the source; rows were sorted",
        "nothing, unless the order means something to the source",
        severity="notice",
    ),
)
RULE_BY_REASON = {rule.reason: rule for rule in RULES}
NOTICES = tuple(rule.reason for rule in RULES if rule.severity == "notice")
PLACEHOLDERS = tuple(rule.reason for rule in RULES if rule.severity == "placeholder")
