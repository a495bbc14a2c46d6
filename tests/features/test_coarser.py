"""Factors of coarser periods at the panel's own bars: as a loop over rows would find them, never earlier than
they were known, and the same where rows of new bars are added.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from components.contracts import PANEL
from components.features import build as of_features
from components.features.build import build_factors, build_supported
from components.features.catalog import STALE_BARS, catalog
from components.features.coarser import gathered, seen_bars
from components.features.config import DeclaredFormula, Groups, Settings, SlowColumn
from components.features.errors import FeatureError
from components.features.incremental import append_factors
from components.features.library import GROUPS
from components.features.support import unsupported
from components.timeline.periods import LENGTHS

NONE = dict.fromkeys(GROUPS, False)
FEW = Settings(
    groups=Groups(**NONE | {"trend": True, "regime": True, "bars": True}),
    window_bars=5,
    coarser=("1d", "4h"),
)
OWN = FEW.model_copy(update={"coarser": ()})
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def panel(random_panel) -> pl.DataFrame:
    """50 days of hours, begun in the middle of a day; some bars known late, some by more than an hour."""
    found = random_panel(3, bars=1210, symbols=8, period="1h", missing=0.1)
    found = found.filter(pl.col("timestamp") > datetime(2020, 1, 1, 10, tzinfo=UTC))
    rng = np.random.default_rng(1)
    late = pl.Series(rng.choice([0, 20, 90, 1500], len(found), p=[0.96, 0.02, 0.01, 0.01]))
    return found.with_columns(pl.col("known_time") + pl.duration(minutes=late))


@pytest.fixture(scope="module")
def table(panel) -> pl.DataFrame:
    return build_factors(panel, FEW)


def end_of(moment: datetime, length: timedelta) -> datetime:
    """The first whole multiple of the length since midnight at or after a moment."""
    midnight = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    end = midnight
    while end < moment:
        end += length
    return end


def bars_by_hand(panel: pl.DataFrame, period: str) -> pl.DataFrame:
    """The coarser bars, row by row."""
    length, found = LENGTHS[period], {}
    for row in panel.sort(PANEL.key).iter_rows(named=True):
        found.setdefault((end_of(row["timestamp"], length), row["symbol"]), []).append(row)
    first = min(end for end, _ in found)
    made = [
        {
            "timestamp": end,
            "symbol": symbol,
            "period": period,
            "event_time": rows[0]["event_time"],
            "known_time": max(end, *(row["known_time"] for row in rows)),
            "open": rows[0]["open"],
            "high": max(row["high"] for row in rows),
            "low": min(row["low"] for row in rows),
            "close": rows[-1]["close"],
            "volume": float(np.sum([row["volume"] for row in rows])),
            "sector": rows[-1]["sector"],
        }
        for (end, symbol), rows in found.items()
        if end > first
    ]
    return pl.DataFrame(made, schema=dict(PANEL.columns)).sort(PANEL.key)


@pytest.mark.parametrize("period", ["4h", "1d"])
def test_bars_are_gathered_as_by_hand(panel, period):
    found = gathered(panel, period, {"open", "high", "low", "close", "volume"})
    expected = bars_by_hand(panel, period)
    assert_frame_equal(found.select(expected.columns), expected, rel_tol=1e-12)


@pytest.mark.parametrize("period", ["4h", "1d"])
def test_each_row_sees_the_newest_bar_that_was_complete_and_known(panel, table, period):
    bars = gathered(panel, period, {"open", "high", "low", "close", "volume"})
    values = build_factors(bars, OWN)
    ends = sorted(set(bars["timestamp"]))
    seen = seen_bars(table, values).to_list()
    stands = {}
    for place, row in enumerate(values.select("timestamp", "symbol", "known_time").iter_rows()):
        stands.setdefault(row[1], []).append((row[0], row[2], place))
    wanted = []
    for moment, symbol, known in table.select("timestamp", "symbol", "known_time").iter_rows():
        passed = [end for end in ends if end <= moment]
        fresh = set(passed[-STALE_BARS - 1 :])
        at = [p for end, since, p in stands.get(symbol, ()) if end in fresh and since <= known]
        wanted.append(at[-1] if at else None)
    assert seen == wanted
    assert any(place is None for place in seen)


def test_columns_are_the_factors_of_the_gathered_bars(random_panel):
    panel = random_panel(5, bars=700, symbols=7, period="1h", missing=0.05)
    found = build_factors(panel, FEW)
    for period in FEW.coarser:
        entries = [entry for entry in catalog(FEW, "1h") if entry.period == period]
        values = build_factors(bars_by_hand(panel, period), OWN)
        seen = seen_bars(found, values)
        assert entries
        for entry in entries:
            own = values[entry.column.removesuffix(f"_{period}")].gather(seen)
            assert found[entry.column].equals(own, check_names=False), entry.column
    assert found.select("timestamp", "symbol", "known_time").equals(
        build_factors(panel, OWN).select("timestamp", "symbol", "known_time")
    )
    assert found["momentum_20_rank_1d"].drop_nulls().n_unique() > 5
    assert found["market_trend_zscore_4h"].drop_nulls().n_unique() > 5


def test_nothing_after_a_bar_moves_its_row(panel, table):
    times = panel["timestamp"].unique().sort()
    for moment in times.filter(times.dt.hour().is_in([23, 0, 3, 4, 13]))[-14:-4].to_list():
        cut = build_factors(panel.filter(pl.col("timestamp") <= moment), FEW)
        assert_frame_equal(
            cut.filter(pl.col("timestamp") == moment),
            table.filter(pl.col("timestamp") == moment),
            check_exact=True,
        )


def test_rows_of_new_bars_in_a_day_and_at_its_end_have_the_bits_of_a_full_build(panel, table):
    times = panel["timestamp"].unique().sort().to_list()
    ends = [moment for moment in times[-200:] if moment.hour == 0]
    middle = [moment for moment in times[-200:] if moment.hour == 13]
    for moment in (ends[0], middle[0], ends[3], times[-1]):
        before = pl.col("timestamp") < moment
        got = append_factors(panel.filter(~(pl.col("timestamp") > moment)), table.filter(before), FEW)
        expected = table.filter(pl.col("timestamp") == moment)
        assert_frame_equal(got, expected, check_exact=True)
    assert expected["momentum_20_rank_1d"].null_count() < len(expected)


def test_rows_of_new_bars_from_the_panels_newest_bars_alone(random_panel):
    few = Settings(
        groups=Groups(**NONE),
        window_bars=5,
        coarser=("4h",),
        slow=(SlowColumn(name="rate"),),
        formulas=(DeclaredFormula(name="mixed", formula="mul(rate, close)"),),
    )
    panel = random_panel(7, bars=4200, symbols=6, period="1h", missing=0.02)
    panel = panel.with_columns(rate=pl.col("close") / 20)
    whole = build_supported(panel, few)[0]
    last = whole["timestamp"].unique().sort()[-30]
    tail = panel.filter(pl.col("timestamp") > panel["timestamp"].max() - 3200 * HOUR)
    got = append_factors(tail, whole.filter(pl.col("timestamp") <= last), few)
    assert_frame_equal(got, whole.filter(pl.col("timestamp") > last), check_exact=True)
    assert whole["mixed_rank_4h"].null_count() < len(whole) / 10


def test_a_symbol_that_is_late_by_hours_keeps_no_day_from_the_others(random_panel):
    few = FEW.model_copy(update={"groups": Groups(**NONE | {"bars": True}), "coarser": ("1d",)})
    panel = random_panel(13, bars=24 * 12, symbols=5, period="1h", missing=0.0)
    late = (pl.col("symbol") == "S03") & (pl.col("timestamp") == datetime(2020, 1, 10, tzinfo=UTC))
    known = pl.when(late).then(pl.col("known_time") + 3 * HOUR).otherwise("known_time")
    found, punctual = (
        build_factors(rows, few).filter(
            pl.col("symbol") != "S03", pl.col("timestamp").dt.day().is_between(9, 10)
        )
        for rows in (panel.with_columns(known.alias("known_time")), panel)
    )
    assert found["bar_close_1d"].n_unique() > 4
    assert found["bar_close_1d"].equals(punctual["bar_close_1d"])


def stocks() -> pl.DataFrame:
    """Three weeks of seven bars a day, a half day on the second Wednesday, a holiday on the Thursday after;
    B lists in the middle of a day, C stops trading after the first week.
    """
    rows = []
    for day in range(21):
        date = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day)
        if date.weekday() > 4 or day == 10:
            continue
        for bar in range(3 if day == 9 else 7):
            end = date + timedelta(hours=15 + bar, minutes=30)
            for symbol in ("A", "B", "C"):
                if (symbol == "B" and (day, bar) < (2, 3)) or (symbol == "C" and day > 4):
                    continue
                price = 100.0 + day + bar / 10
                rows.append(
                    (end, symbol, "1h", end - HOUR, end, price, price + 1, price - 1, price, 10.0, "x")
                )
    return pl.DataFrame(rows, schema=dict(PANEL.columns), orient="row")


def test_sessions_half_days_holidays_and_listings_in_a_day():
    panel = stocks()
    days = gathered(panel, "1d", ("open", "high", "low", "close", "volume"))
    own = days.filter(pl.col("symbol") == "A")
    # The first day is left out; weekend and holiday have no bar.
    assert own["timestamp"].dt.day().to_list() == [3, 4, 5, 6, 9, 10, 11, 13, 16, 17, 18, 19, 20]
    half = own.filter(pl.col("timestamp").dt.day() == 11).row(0, named=True)
    assert (half["volume"], half["open"], half["close"]) == (30.0, 109.0, 109.2)
    assert half["event_time"] == datetime(2024, 1, 10, 14, 30, tzinfo=UTC)
    listed = days.filter(pl.col("symbol") == "B").row(0, named=True)
    assert (listed["timestamp"].day, listed["volume"], listed["open"]) == (4, 40.0, 102.3)

    seen = panel.with_columns(place=seen_bars(panel, days))
    seen = seen.with_columns(end=days["timestamp"].gather(seen["place"]))
    a = seen.filter(pl.col("symbol") == "A")
    # The last bar of a session does not see its day, the first of the next session does, over a weekend too.
    friday, monday = datetime(2024, 1, 5, 21, 30, tzinfo=UTC), datetime(2024, 1, 8, 15, 30, tzinfo=UTC)
    at = dict(zip(a["timestamp"], a["end"], strict=True))
    assert (at[friday].day, at[monday].day) == (5, 6)


def test_a_bar_is_forgotten_when_the_market_has_had_many_since():
    panel = stocks()
    days = gathered(panel, "1d", ("close",))
    # C comes back after a long halt.
    back = panel.filter((pl.col("symbol") == "A") & (pl.col("timestamp").dt.day() > 5))
    rows = back.with_columns(symbol=pl.lit("C"))
    seen = rows.select("timestamp", place=seen_bars(rows, days))
    since = [
        days.filter((pl.col("timestamp") <= moment) & (pl.col("timestamp").dt.day() > 6))[
            "timestamp"
        ].n_unique()
        for moment in seen["timestamp"]
    ]
    assert seen["place"].is_null().to_list() == [bars > STALE_BARS for bars in since]
    assert (min(since), max(since) > STALE_BARS) == (0, True)


def test_a_day_that_is_not_over_gives_nothing():
    panel = stocks()
    early = panel.filter(pl.col("timestamp") < datetime(2024, 1, 2, 23, tzinfo=UTC))
    days = gathered(early, "1d", ("close",))
    assert set(days["timestamp"].dt.day()) == {3}
    assert seen_bars(early, days).is_null().all()
    one_day = early.filter(pl.col("timestamp").dt.day() == 1)
    made = build_factors(one_day, FEW.model_copy(update={"coarser": ("1d",)}))
    assert made["momentum_20_rank_1d"].is_null().all()


def test_numbers_that_are_not_known_or_not_traded():
    panel = (
        stocks()
        .filter(pl.col("symbol") == "A")
        .with_columns(
            volume=pl.when(pl.col("timestamp") == datetime(2024, 1, 3, 16, 30, tzinfo=UTC))
            .then(None)
            .otherwise("volume"),
            vwap=pl.col("close") + pl.when(pl.col("timestamp").dt.hour() > 18).then(2.0).otherwise(0.0),
            funding_rate=pl.col("timestamp").dt.hour().cast(pl.Float64),
            earnings=pl.col("timestamp").dt.hour().cast(pl.Float64),
        )
    )
    read = ("close", "volume", "vwap", "funding_rate", "earnings")
    days = gathered(panel, "1d", read)
    first, second, third = days.head(3).iter_rows(named=True)
    assert (first["volume"], second["volume"], third["volume"]) == (70.0, None, 70.0)
    hours = [15, 16, 17, 18, 19, 20, 21]
    assert first["funding_rate"] == pytest.approx(np.mean(hours))
    assert first["earnings"] == 21
    prices = [101 + bar / 10 + (2 if hour > 18 else 0) for bar, hour in enumerate(hours)]
    assert first["vwap"] == pytest.approx(np.mean(prices))


def test_what_the_panel_lacks_is_left_out_of_the_coarser_periods_too(random_panel):
    panel = random_panel(1, bars=200, symbols=6, period="1h")
    settings = FEW.model_copy(update={"groups": Groups(**NONE | {"derivatives": True}), "coarser": ("1d",)})
    assert unsupported(panel, settings)["funding_1d"] == "funding_rate"
    table, entries, _ = build_supported(panel, settings)
    assert not [name for name in table.columns if name.startswith("funding")]
    assert [entry.column for entry in entries] == table.columns[3:]


def test_a_period_that_is_not_coarser_and_a_name_that_is_taken_are_refused(random_panel):
    panel = random_panel(1, bars=60, symbols=6)
    with pytest.raises(FeatureError, match=r"features.coarser names 4h, which is not coarser than .* 1d"):
        build_factors(panel, FEW)
    with pytest.raises(ValidationError, match="'momentum_20_rank_1d' is taken"):
        Settings(slow=(SlowColumn(name="momentum_20_rank_1d"),))


def test_a_bar_that_became_known_weeks_later_moves_no_row_that_was_known_before(random_panel, monkeypatch):
    panel = random_panel(9, bars=1000, symbols=7, period="1h", missing=0.0)
    late = (pl.col("symbol") == "S03") & (pl.col("timestamp") == datetime(2020, 1, 20, 11, tzinfo=UTC))
    known = datetime(2020, 2, 9, tzinfo=UTC)
    panel = panel.with_columns(pl.when(late).then(known).otherwise("known_time").alias("known_time"))
    other = panel.with_columns(
        pl.when(late).then(pl.col(name) * 3).otherwise(name).alias(name)
        for name in ("high", "close", "volume")
    )
    few = FEW.model_copy(update={"groups": Groups(**NONE | {"bars": True, "trend": True})})

    def before() -> list[pl.DataFrame]:
        return [build_factors(rows, few).filter(pl.col("known_time") < known) for rows in (panel, other)]

    one, two = before()
    assert_frame_equal(one, two, check_exact=True)
    again = one.filter(pl.col("symbol") == "S03", pl.col("timestamp") > datetime(2020, 2, 1, tzinfo=UTC))
    assert again["bar_close"].null_count() == 0
    assert again["bar_close_1d"].is_null().all()

    def blind(rows: pl.DataFrame, bars: pl.DataFrame) -> pl.Series:
        return seen_bars(rows, bars.with_columns(known_time=pl.col("timestamp")))

    monkeypatch.setattr(of_features, "seen_bars", blind)
    one, two = before()
    moved = [name for name in one.columns if not one[name].equals(two[name])]
    assert moved
    assert all(name.endswith(few.coarser) for name in moved)
