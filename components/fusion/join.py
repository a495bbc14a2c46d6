"""The point-in-time join: at each bar the newest value of every slow column that was known by the bar's
known_time.

A factor row may be used from its bar's known_time on, so what was known by then (at that very moment
included) may stand in it; for a bar that came late this is the late moment. Newest is the value of the latest
observation, see `replay`; nothing known later than the bar can change it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from components.contracts import FUSED, check_table
from components.fusion.columns import age_limit_days
from components.fusion.errors import FusionError
from components.fusion.feed import COMPANY, ENDS, KEY, KNOWN, ROW, Feed
from components.fusion.panel_keys import NEVER_US, PanelKeys, panel_keys
from components.fusion.read import SlowTable
from components.fusion.times import end_day

DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Joined:
    """What one feed gives the panel's rows.

    `values` by column, shape (rows,), NaN where missing. `row`: the newest of the feed's usable rows that
    each bar could see, -1 where none; `known_us` when these became known and, by column, `ends_us` the end of
    the observation that was newest then (NEVER_US at the last place, for -1). `other_company`: bars that get
    another value, or none, where companies are told apart; None without identity. `early`: rows of the
    panel's symbols that became known before the first bar of their symbol.
    """

    feed: Feed
    values: dict[str, np.ndarray]
    row: np.ndarray
    known_us: np.ndarray
    ends_us: dict[str, np.ndarray]
    early: pl.DataFrame
    other_company: int | None = None

    def age_days(self, name: str, bars: PanelKeys) -> np.ndarray:
        """Days from the end of the observation to each bar that has a value of this column."""
        has = ~np.isnan(self.values[name])
        return (bars.known_us[has] - self.ends_us[name][self.row[has]]) / DAY_US

    def late_bars(self, bars: PanelKeys) -> np.ndarray:
        """Rows of the panel that saw what became known after them; there must be none."""
        return np.flatnonzero(self.known_us[self.row] > bars.known_us)


def join_tables(panel: pl.DataFrame, tables: Sequence[SlowTable]) -> tuple[pl.DataFrame, list[Joined]]:
    """FUSED: the panel's rows with a column for each slow column of `tables`, and what each feed gave.

    Raises
    ------
    FusionError
        If the joined table has not exactly the panel's rows, or holds anything that became known after its
        bar.
    """
    bars = panel_keys(panel)
    joined = [join_feed(feed, bars, table.identity) for table in tables for feed in table.feeds]
    columns = [
        pl.Series(name, values, nan_to_null=True) for part in joined for name, values in part.values.items()
    ]
    fused = check_table(bars.keys.with_columns(columns), FUSED)
    require_aligned(fused, panel)
    require_known(joined, bars)
    return fused, joined


def join_feed(feed: Feed, bars: PanelKeys, identity: pl.DataFrame | None = None) -> Joined:
    """The newest known values of one feed at each bar."""
    if feed.table.key == "market":
        return _for_all_symbols(feed, bars)
    plain = _joined(feed, bars, None)
    if identity is None:
        return plain
    parted = _joined(feed, bars, _episodes(feed, bars, identity))
    differs = np.zeros(len(bars.known_us), dtype=bool)
    for name in feed.names:
        differs |= ~np.isnan(plain.values[name]) & (plain.values[name] != parted.values[name])
    return replace(parted if feed.table.identity.apply else plain, other_company=int(differs.sum()))


def _for_all_symbols(feed: Feed, bars: PanelKeys) -> Joined:
    """A series for the market: looked up once for each moment, then given to all bars known at it."""
    moments, moment = bars.moments
    group = np.zeros(len(feed.rows), dtype=np.int64)
    joined = _looked_up(
        feed, feed.rows, group, np.zeros(len(moments), dtype=np.int64), moments, feed.rows.clear()
    )
    return replace(
        joined,
        values={name: values[moment] for name, values in joined.values.items()},
        row=joined.row[moment],
    )


def _joined(feed: Feed, bars: PanelKeys, episodes: tuple[np.ndarray, np.ndarray] | None) -> Joined:
    rows, row_group, bar_group, early = _grouped(feed, bars, episodes)
    return _looked_up(feed, rows, row_group, bar_group, bars.known_us, early)


def _looked_up(
    feed: Feed,
    rows: pl.DataFrame,
    row_group: np.ndarray,
    bar_group: np.ndarray,
    bar_known: np.ndarray,
    early: pl.DataFrame,
) -> Joined:
    known = rows[KNOWN].to_physical().to_numpy()
    found = newest_row(row_group, known, bar_group, bar_known)
    values, ends = _values(feed, rows, row_group, found, bar_known)
    return Joined(feed, values, found, np.append(known, NEVER_US), ends, early)


def _grouped(
    feed: Feed, bars: PanelKeys, episodes: tuple[np.ndarray, np.ndarray] | None
) -> tuple[pl.DataFrame, np.ndarray, np.ndarray, pl.DataFrame]:
    """Rows of the panel's symbols sorted by group and known time, their groups, the groups of the bars, and
    the rows older than their symbol's first bar.

    A group is a symbol, or a company under a symbol.
    """
    rows = feed.rows.with_columns(
        pl.Series("_episode", episodes[0] if episodes else np.zeros(len(feed.rows), dtype=np.int64))
    )
    rows = rows.filter(pl.col(KEY).is_in(bars.symbols), pl.col("_episode") >= 0)
    symbol = rows[KEY].cast(pl.Enum(bars.symbols)).to_physical().cast(pl.Int64).to_numpy()
    young = rows[KNOWN].to_physical().to_numpy() < bars.first_us[symbol]
    early = rows.filter(young).select(feed.rows.columns)
    if feed.table.before_first_bar == "refuse":
        rows, symbol = rows.filter(~young), symbol[~young]
    width = 1 + max((int(part.max()) for part in episodes or () if len(part)), default=0)
    group = symbol * width + rows["_episode"].to_numpy()
    order = np.lexsort((rows[ROW].to_numpy(), rows[KNOWN].to_physical().to_numpy(), group))
    return rows[order], group[order], bars.symbol * width + (episodes[1] if episodes else 0), early


def newest_row(
    row_group: np.ndarray, row_known: np.ndarray, bar_group: np.ndarray, bar_known: np.ndarray
) -> np.ndarray:
    """For each bar the last row of its group that was known by its moment or at it; -1 where there is none.

    Rows sorted by group, then known time.
    """
    moments = np.unique(row_known)
    place = row_group * (len(moments) + 1) + np.searchsorted(moments, row_known, side="right")
    wanted = bar_group * (len(moments) + 1) + np.searchsorted(moments, bar_known, side="right")
    found = np.searchsorted(place, wanted, side="right") - 1
    return (
        np.where((found >= 0) & (row_group[found] == bar_group), found, -1)
        if len(row_group)
        else np.full(len(bar_group), -1)
    )


def _values(
    feed: Feed, rows: pl.DataFrame, row_group: np.ndarray, found: np.ndarray, known_us: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    from components.fusion.replay import TRANSFORMS, replay

    starts = np.append(np.flatnonzero(np.diff(row_group, prepend=-1)), len(row_group))
    ends, company = rows[ENDS].to_physical().to_numpy(), _company_numbers(rows)
    limits = age_limit_days(feed.table)
    values, newest_ends = {}, {}
    for column in feed.columns:
        current, newest = replay(
            starts,
            ends,
            company,
            rows[column.name].fill_null(np.nan).to_numpy(),
            TRANSFORMS[column.transform],
            column.observations,
        )
        last_moment = np.where(newest == NEVER_US, NEVER_US, newest + int(limits[column.name] * DAY_US))
        seen = np.append(current, np.nan)[found]
        seen[known_us > np.append(last_moment, NEVER_US)[found]] = np.nan
        values[column.name], newest_ends[column.name] = seen, np.append(newest, NEVER_US)
    return values, newest_ends


def _company_numbers(rows: pl.DataFrame) -> np.ndarray:
    """Number of each row's company in the order in which the companies of a symbol first appear; -1 where the
    row does not say.
    """
    if rows[COMPANY].null_count() == len(rows):
        return np.full(len(rows), -1, dtype=np.int64)
    numbered = rows.select(KEY, COMPANY).with_row_index("position")
    first = pl.when(pl.col(COMPANY).is_not_null()).then(
        pl.col("position").min().over(KEY, COMPANY).cast(pl.Int64)
    )
    return numbered.select(first.fill_null(-1).alias("number"))["number"].to_numpy()


def _episodes(feed: Feed, bars: PanelKeys, identity: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Which company of its ticker each row and each bar belongs to, counted from 0; a row of a named other
    company gets -1.
    """
    days = feed.rows.select(
        pl.col(KEY).alias("symbol"),
        end_day(pl.col(ENDS), feed.table.timezone).alias("day"),
        pl.col(KNOWN).dt.date().alias("known"),
        COMPANY,
    )
    named = feed.table.identity.company and feed.table.company
    row = _company_at(days.select("symbol", pl.col("known" if named else "day").alias("day")), identity)
    episode = row["episode"].to_numpy()
    if named:
        other = days.select((pl.col(COMPANY) != row["company"]).fill_null(False).alias("other"))[
            "other"
        ].to_numpy()
        episode = np.where(other, -1, episode)
    return (
        episode,
        _company_at(bars.keys.select("symbol", pl.col("timestamp").dt.date().alias("day")), identity)[
            "episode"
        ].to_numpy(),
    )


def _company_at(days: pl.DataFrame, identity: pl.DataFrame) -> pl.DataFrame:
    """`episode` and `company` of (symbol, day), in the order of the rows.

    Before the first interval the first company counts, in a gap the one before.
    """
    numbered = identity.with_columns(
        (pl.col("starts").cum_count().over("symbol") - 1).cast(pl.Int64).alias("episode")
    )
    first = pl.date(1, 1, 1)
    numbered = numbered.with_columns(
        pl.when(pl.col("first")).then(first).otherwise(pl.col("starts")).alias("starts")
    ).select("symbol", "starts", "episode", "company")
    ordered = days.with_row_index("_order").sort("day")
    found = ordered.join_asof(
        numbered.sort("starts"),
        left_on="day",
        right_on="starts",
        by="symbol",
        strategy="backward",
        check_sortedness=False,
    )
    return found.sort("_order").select(pl.col("episode").fill_null(0), "company")


def require_aligned(fused: pl.DataFrame, panel: pl.DataFrame) -> None:
    """FusionError unless both have the same rows in the same order; the message says what fell out."""
    if fused.select("timestamp", "symbol").equals(panel.select("timestamp", "symbol")):
        return
    keys = ["timestamp", "symbol"]
    lost, added = (
        panel.select(keys).join(fused, on=keys, how="anti"),
        fused.select(keys).join(panel, on=keys, how="anti"),
    )
    raise FusionError(
        f"The fused table has {len(fused):,} rows, the panel {len(panel):,}: {len(lost):,} fell out"
        f" ({lost['symbol'].n_unique()} symbols, {lost['timestamp'].n_unique()} dates, first"
        f" {lost.head(3).rows()}), {len(added):,} are too many (first {added.head(3).rows()}). Join on the"
        " panel that the slow tables were fused with."
    )


def require_known(joined: Sequence[Joined], bars: PanelKeys) -> None:
    """FusionError if any bar saw a row that became known after it."""
    for part in joined:
        late = part.late_bars(bars)
        if len(late):
            row = bars.keys.row(int(late[0]), named=True)
            raise FusionError(
                f"Fusion table {part.feed.table.name!r}: {len(late):,} bars hold what became known after"
                f" them, first {row['symbol']} at {row['timestamp']}. This is a fault of the join: please"
                " report it with the table's settings."
            )
