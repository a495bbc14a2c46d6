"""Bars that the panel's own calendar does not have: dates far from all others, symbols that trade on other
days of the week than most, rows on days on which the market rests.
"""

from datetime import timedelta

import polars as pl

from components.validation.findings import PRICES, concat, finding, without

# Distance from which on a date counts as far from another.
FAR = timedelta(days=60)
# The same for dates that most symbols have, and for a symbol's own dates inside the panel's: exchanges have
# been closed for months, and halts may last as long.
VERY_FAR = timedelta(days=365)
# Dates that may lie far from the others, at most: five, or this share of the others.
FEW_DATES, FEW_SHARE = 5, 0.01
# Dates in one piece below which a panel or symbol has no calendar that others could be far from.
MIN_DATES = 20
# Share of a symbol's rate on its best day of the week from which on it trades on a day of the week, and up to
# which it rests.
TRADES_SHARE, RESTS_SHARE = 0.5, 0.1
# Share of the dates of its best day of the week on which a symbol must trade before it is said to rest on
# another: what is rarely traded misses days of the week by chance.
BUSY_SHARE = 0.5
# Weeks that a symbol must be seen for on a day of the week before it is said to rest there.
MIN_WEEKS = 8
# Days of the week in which two calendars differ at least; some currencies alone have a short Sunday.
MIN_OTHER_DAYS = 2
# Share of the weeks in which some symbol trades on a day of the week, from which on it is no special session.
USUAL_DAY_SHARE = 0.5
# Traded symbols, as a share of what is usual around it, from which on a day is a session of its own.
SESSION_SHARE = 0.3
# Sessions on a day of the week, as a share of those on the best one, up to which the market rests there:
# special sessions and Saturdays that make up for holidays are fewer.
REST_SHARE = 0.2
# Sessions on one day of the week below which a panel has no week.
MIN_SESSIONS = 4
# Days over which the usual number of traded symbols is taken: two weeks.
NEAR_DAYS = 15


def off_calendar(rows: pl.DataFrame) -> pl.DataFrame:
    """Every finding of this module; each looks at what those before it left.

    Parameters
    ----------
    rows : `row`, key, prices, volume and, where there, `unfinished`; absent columns filled, in any order
    """
    keyed = rows.drop_nulls(["timestamp", "symbol"]).sort("symbol", "timestamp")
    ahead = concat([])
    if "unfinished" in keyed.columns:
        ahead = finding(keyed.filter("unfinished"), "unfinished_bar")
    begun = without(keyed, ahead)
    far = far_dates(begun)
    days = dated(without(begun, far))
    others = other_calendars(days)
    return concat([ahead, far, others, weekend_rows(without(days, others))])


def far_dates(bars: pl.DataFrame) -> pl.DataFrame:
    """Rows whose date lies far from all others: of the panel, or of their own symbol.

    Few dates in one piece (`FEW_DATES`), `FAR` from the rest of the panel, or `VERY_FAR` where most symbols
    have them: markets have been closed for months. Of one symbol `VERY_FAR` from the rest of its own, unless
    it is back in the panel's newest bars. A later one shows at once, an earlier one when the others begin.

    Parameters
    ----------
    bars : `row`, `symbol`, `timestamp`, each bar once, sorted by (symbol, timestamp)
    """
    found = _far_from_the_panel(bars)
    return concat([found, _far_from_their_symbol(without(bars, found))])


def _far_from_the_panel(bars: pl.DataFrame) -> pl.DataFrame:
    dates = bars.group_by("timestamp").agg(pl.len().alias("symbols")).sort("timestamp")
    piece = (pl.col("timestamp").diff() > FAR).fill_null(False).cum_sum()
    pieces = _pieces(dates.with_columns(piece.alias("piece")), [])
    main = pieces.sort("dates", "piece").tail(1)
    if main.is_empty() or main["dates"][0] < MIN_DATES:
        return concat([])
    at_main = dates.filter(pl.col("timestamp").is_between(main["first"][0], main["last"][0]))
    crowded = pl.col("most_symbols") >= at_main["symbols"].median() / 2
    alone = pl.col("apart") > pl.when(crowded).then(VERY_FAR).otherwise(FAR)
    few = pl.col("dates") <= max(FEW_DATES, FEW_SHARE * main["dates"][0])
    strays = pieces.filter(few & alone & (pl.col("piece") != main["piece"][0]))
    rows = dates.with_columns(piece.alias("piece")).join(strays, on="piece")
    begun = pl.max_horizontal("timestamp", pl.lit(main["first"][0]))
    return finding(bars.join(rows.select("timestamp"), on="timestamp"), "far_date", begun)


def _far_from_their_symbol(bars: pl.DataFrame) -> pl.DataFrame:
    piece = (pl.col("timestamp").diff() > VERY_FAR).fill_null(False).cum_sum().over("symbol")
    placed = bars.with_columns(piece.alias("piece"))
    pieces = _pieces(placed.with_columns(pl.lit(1).alias("symbols")), ["symbol"])
    main = pieces.filter(pl.col("dates") >= MIN_DATES).sort("dates", "piece").group_by("symbol").last()
    own = pieces.join(
        main.select("symbol", pl.col("first").alias("begun"), pl.col("dates").alias("main_dates")),
        on="symbol",
    )
    few = pl.col("dates") <= pl.max_horizontal(pl.lit(FEW_DATES), FEW_SHARE * pl.col("main_dates"))
    over = pl.col("last") + FAR < pl.lit(bars["timestamp"].max())
    strays = own.filter(few & over & (pl.col("first") != pl.col("begun")))
    rows = placed.join(strays.select("symbol", "piece", "begun"), on=["symbol", "piece"])
    return finding(rows, "far_date", pl.max_horizontal("timestamp", "begun"))


def _pieces(placed: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Each piece's `dates`, `first`, `last`, `most_symbols`, and how far `apart` the nearest other one is."""
    pieces = (
        placed.group_by(*by, "piece")
        .agg(
            pl.len().alias("dates"),
            pl.col("timestamp").min().alias("first"),
            pl.col("timestamp").max().alias("last"),
            pl.col("symbols").max().alias("most_symbols"),
        )
        .sort(*by, "piece")
    )
    before = pl.col("first") - pl.col("last").shift(1)
    after = pl.col("first").shift(-1) - pl.col("last")
    if by:
        before, after = before.over(by), after.over(by)
    return pieces.with_columns(pl.min_horizontal(before, after).alias("apart"))


def dated(bars: pl.DataFrame) -> pl.DataFrame:
    """`bars` with `date` and `weekday` (Monday 1) of their last moment, in UTC, and whether they `traded`.

    A copy of the bar before, or of its close and volume, did not trade, nor one without volume; where the
    symbol's volume says nothing, one whose price did not move.

    Parameters
    ----------
    bars : sorted by (symbol, timestamp); absent columns filled
    """

    def as_before(name: str) -> pl.Expr:
        return pl.col(name) == pl.col(name).shift(1).over("symbol")

    moved = (pl.col("high") > pl.col("low")) | ~as_before("close")
    copied = as_before("volume") & (pl.all_horizontal(*map(as_before, PRICES)) | ~moved)
    says_nothing = (pl.col("volume").max() == pl.col("volume").min()).over("symbol")
    volume = pl.col("volume").fill_nan(None)
    traded = pl.when(says_nothing).then(moved).otherwise(volume > 0)
    date = (pl.col("timestamp") - pl.duration(microseconds=1)).dt.date()
    return bars.with_columns(
        date.alias("date"),
        date.dt.weekday().alias("weekday"),
        (traded.fill_null(False) & ~copied.fill_null(False)).alias("traded"),
    )


def other_calendars(days: pl.DataFrame) -> pl.DataFrame:
    """All bars of symbols that trade on other days of the week than most, such as coins among stocks.

    A symbol trades on a day of the week where it has `TRADES_SHARE` of the bars that it has on its best one,
    and rests up to `RESTS_SHARE`; days of the week on which only special sessions were held, and weeks in
    which a symbol was not listed, tell nothing. Calendars are two where they differ in two days of the week.

    Parameters
    ----------
    days : what `dated` gives
    """
    habits = _habits(days)
    opposed = habits.group_by("weekday").agg(pl.col("trades").any() & pl.col("rests").any())
    at_odds = habits.join(opposed.filter("trades").select("weekday"), on="weekday", how="semi")
    if at_odds["weekday"].n_unique() < MIN_OTHER_DAYS:
        return concat([])
    told = at_odds.filter(pl.col("trades") | pl.col("rests")).sort("symbol", "weekday")
    weeks = told.group_by("symbol", maintain_order=True).agg(
        pl.col("weekday").filter("trades").alias("open"), pl.col("weekday").filter("rests").alias("shut")
    )
    sizes = days.group_by("symbol").agg(pl.len().alias("bars"))
    kinds = weeks.join(sizes, on="symbol").group_by("open", "shut").agg(pl.len(), pl.col("bars").sum())
    most = kinds.sort("len", "bars").tail(1).select(our_open="open", our_shut="shut")
    ours = weeks.join(most, how="cross")
    differs = (
        pl.col("open").list.set_intersection("our_shut").list.len()
        + pl.col("shut").list.set_intersection("our_open").list.len()
    )
    others = ours.filter(differs >= MIN_OTHER_DAYS)
    return finding(days.join(others, on="symbol", how="semi", maintain_order="left"), "other_calendar")


def _habits(days: pl.DataFrame) -> pl.DataFrame:
    """`symbol`, `weekday`, and whether the symbol `trades` or `rests` then: neither where nothing tells."""
    traded = days.filter("traded").select("symbol", "date", "weekday").unique()
    spans = traded.group_by("symbol").agg(
        pl.col("date").min().alias("first"), pl.col("date").max().alias("last")
    )
    seen = pl.concat(
        [_seen(traded.filter(pl.col("weekday") == weekday), spans, weekday) for weekday in range(1, 8)]
    )
    rate = pl.col("bars") / pl.col("dates")
    best = rate.filter(pl.col("dates") >= MIN_WEEKS).max().over("symbol")
    usual = pl.col("dates") >= USUAL_DAY_SHARE * pl.col("weeks")
    enough = (best >= BUSY_SHARE) & (best * pl.col("dates") >= MIN_WEEKS) & usual
    return seen.select(
        "symbol",
        "weekday",
        (enough & (rate >= TRADES_SHARE * best)).fill_null(False).alias("trades"),
        (enough & (rate <= RESTS_SHARE * best)).fill_null(False).alias("rests"),
    )


def _seen(traded: pl.DataFrame, spans: pl.DataFrame, weekday: int) -> pl.DataFrame:
    """For each symbol its `bars` on a weekday, the `dates` of it in its span that any symbol has, `weeks`."""
    dates = traded["date"].unique().sort()
    up_to_last = dates.search_sorted(spans["last"], side="right").cast(pl.Int64)
    before_first = dates.search_sorted(spans["first"], side="left").cast(pl.Int64)
    own = traded.group_by("symbol").agg(pl.len().cast(pl.Int64).alias("bars"))
    # While any symbol has the weekday: a coin that ended early tells of the weeks until then alone.
    since, until = (
        pl.max_horizontal("first", pl.lit(dates.min())),
        pl.min_horizontal("last", pl.lit(dates.max())),
    )
    weeks = (until - since).dt.total_days() / 7
    return (
        spans.select(
            "symbol",
            pl.lit(weekday).alias("weekday"),
            (up_to_last - before_first).alias("dates"),
            weeks.alias("weeks"),
        )
        .join(own, on="symbol", how="left")
        .with_columns(pl.col("bars").fill_null(0))
    )


def weekend_rows(days: pl.DataFrame) -> pl.DataFrame:
    """Rows on days of the week on which the market rests: `weekend_row` where nothing traded (a copy of the
    last session, a placeholder), `weekend_trade` where a few symbols did.

    The market rests where it held hardly any session (`REST_SHARE`); a day is a session where `SESSION_SHARE`
    of the usual number of symbols trade. Such a day passes whole: a special session, or a Saturday that makes
    up for a holiday.

    Parameters
    ----------
    days : what `dated` gives
    """
    dates = days.group_by("date", "weekday").agg(
        pl.col("symbol").filter("traded").n_unique().alias("symbols")
    )
    usual = pl.col("symbols").rolling_median(NEAR_DAYS, min_samples=1, center=True)
    held = (pl.col("symbols") > 0) & (pl.col("symbols") >= SESSION_SHARE * usual)
    dates = dates.sort("date").with_columns(held.alias("session"))
    week = dates.group_by("weekday").agg(pl.col("session").sum().alias("sessions"))
    best = week["sessions"].max() or 0
    if best < MIN_SESSIONS:
        return concat([])
    rests = week.filter(pl.col("sessions") <= REST_SHARE * best)
    at_rest = dates.filter(~pl.col("session")).join(rests, on="weekday", how="semi")
    rows = days.join(at_rest, on="date", how="semi", maintain_order="left")
    return concat(
        [
            finding(rows.filter(~pl.col("traded")), "weekend_row"),
            finding(rows.filter("traded"), "weekend_trade"),
        ]
    )
