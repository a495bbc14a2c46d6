"""Bars off the panel's calendar are found as what they are; honest markets with strange calendars lose
nothing.
"""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import RAW_PANEL
from components.validation.config import Settings
from components.validation.examine import examine
from components.validation.validate import validate_panel

FIRST = date(2019, 1, 7)
PRICES = ["open", "high", "low", "close"]


def days(count: int, first: date = FIRST, weekdays: str = "12345") -> list[date]:
    """The first `count` days from `first` on that fall on `weekdays` (Monday 1)."""
    found, day = [], first
    while len(found) < count:
        if str(day.isoweekday()) in weekdays:
            found.append(day)
        day += timedelta(days=1)
    return found


def bars(dates: list[date], symbols: list[str] | int, seed: int = 0, close_hour: int = 21) -> pl.DataFrame:
    """A random walk of each symbol with one bar on each of `dates`."""
    names = [f"S{number:02}" for number in range(symbols)] if isinstance(symbols, int) else symbols
    rng = np.random.default_rng([seed, len(dates), len(names)])
    size = len(dates)
    frames = []
    for name in names:
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, size)))
        opened = close * np.exp(rng.normal(0, 0.005, size))
        wick = np.abs(rng.normal(0, 0.004, (2, size)))
        ends = [
            datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=close_hour) for day in dates
        ]
        frames.append(
            pl.DataFrame(
                {
                    "timestamp": ends,
                    "symbol": name,
                    "period": "1d",
                    "event_time": [end - timedelta(hours=6) for end in ends],
                    "known_time": ends,
                    "open": opened,
                    "high": np.maximum(opened, close) * np.exp(wick[0]),
                    "low": np.minimum(opened, close) / np.exp(wick[1]),
                    "close": close,
                    "volume": np.round(1e6 * np.exp(rng.normal(0, 0.3, size))),
                    "sector": "all",
                }
            )
        )
    return panel(*frames)


def panel(*frames: pl.DataFrame) -> pl.DataFrame:
    return pl.concat(frames).cast(dict(RAW_PANEL.columns)).sort("timestamp", "symbol")


def reasons(frame: pl.DataFrame, **overrides) -> dict[str, int]:
    findings = examine(frame, Settings(**overrides)).findings
    return dict(findings.group_by("reason").len().sort("reason").rows())


def moved(frame: pl.DataFrame, symbol: str, at: int, to: date) -> pl.DataFrame:
    """The `at`-th bar of a symbol with another date; its place in the file stays."""
    nth = pl.int_range(pl.len()).over("symbol") == at
    hit = (pl.col("symbol") == symbol) & nth
    end = pl.lit(datetime(to.year, to.month, to.day, 21, tzinfo=UTC)).cast(frame.schema["timestamp"])
    return frame.with_columns(
        pl.when(hit).then(end).otherwise("timestamp").alias("timestamp"),
        pl.when(hit).then(end - timedelta(hours=6)).otherwise("event_time").alias("event_time"),
        pl.when(hit).then(end).otherwise("known_time").alias("known_time"),
    )


def copies(
    frame: pl.DataFrame, dates: list[date], *, volume: float | None, flat: bool = False
) -> pl.DataFrame:
    """Friday's row of each symbol on `dates` (weekends), as files have them that fill every day."""
    wanted = pl.DataFrame({"date": dates}).with_columns(
        pl.col("date").cast(pl.Datetime("us", "UTC")).dt.offset_by("21h").alias("filled")
    )
    rows = frame.sort("timestamp").group_by("symbol", maintain_order=True).agg(pl.all())
    rows = rows.select("symbol").join(wanted, how="cross").sort("filled")
    rows = rows.join_asof(
        frame.sort("timestamp"), left_on="filled", right_on="timestamp", by="symbol", check_sortedness=False
    )
    rows = rows.drop_nulls("close").with_columns(
        pl.col("filled").alias("timestamp"),
        (pl.col("filled") - timedelta(hours=6)).alias("event_time"),
        pl.col("filled").alias("known_time"),
    )
    if volume is not None:
        rows = rows.with_columns(pl.lit(volume).alias("volume"))
    if flat:
        rows = rows.with_columns(pl.col("close").alias(name) for name in PRICES)
    return rows.select(frame.columns)


@pytest.mark.parametrize("to", [date(2062, 10, 11), date(1970, 1, 1), date(1900, 6, 1), date(2021, 4, 10)])
@pytest.mark.parametrize("symbols", [1, 3, 12])
def test_one_date_far_from_all_others_is_set_aside_and_stretches_nothing(to, symbols):
    clean = bars(days(300), symbols)
    spoiled = moved(clean, "S00", 120, to)
    found = examine(spoiled, Settings())
    assert found.findings.select("reason").to_series().to_list() == ["far_date"]
    assert found.clean["timestamp"].n_unique() == (300 if symbols > 1 else 299)
    assert found.clean["timestamp"].max() == clean["timestamp"].max()
    assert found.clean["timestamp"].min() == clean["timestamp"].min()
    assert found.coverage["coverage"].min() > 0.99
    assert found.source_gaps["missing_bars"].sum() == (1 if symbols > 1 else 0)
    later = to > date(2020, 6, 1)
    at = found.findings["detected_at"][0]
    assert at == (datetime(to.year, to.month, to.day, 21, tzinfo=UTC) if later else clean["timestamp"].min())


def test_a_date_of_the_epoch_in_every_symbol_is_set_aside():
    clean = bars(days(300), 10)
    epoch = moved(clean, "S00", 0, date(1970, 1, 1))
    for number in range(1, 10):
        epoch = moved(epoch, f"S{number:02}", 0, date(1970, 1, 1))
    assert reasons(epoch) == {"far_date": 10}


def test_a_date_years_from_its_own_symbols_is_set_aside_inside_the_panel():
    old, young = bars(days(1500), 8), bars(days(400, date(2023, 1, 2)), ["Y0", "Y1"])
    assert reasons(panel(old, young)) == {}
    spoiled = moved(panel(old, young), "Y1", 200, date(2019, 5, 6))
    assert reasons(spoiled) == {"far_date": 1}
    delisted = panel(old, bars(days(200), ["D0"]))
    assert reasons(moved(delisted, "D0", 100, date(2023, 5, 8))) == {"far_date": 1}


def test_a_longer_history_of_one_symbol_is_no_far_date():
    long = bars(days(3800, date(2010, 1, 4), "1234567"), ["BTC"])
    short = bars(days(300, date(2020, 3, 2), "1234567"), 8)
    assert reasons(panel(long, short)) == {}
    halted = long.filter(~pl.col("timestamp").dt.date().is_between(date(2014, 2, 1), date(2015, 1, 20)))
    assert "far_date" not in reasons(panel(halted, short))


def test_an_exchange_that_was_closed_for_months_and_has_just_opened_again_keeps_its_newest_bars():
    open_days = days(300)
    after = days(2, open_days[-1] + timedelta(days=130))
    assert "far_date" not in reasons(bars([*open_days, *after], 10))


def test_a_symbol_that_is_back_after_a_halt_of_years_keeps_its_newest_bars():
    all_days = days(1200)
    back = bars([*all_days[:300], *all_days[-3:]], ["H0"])
    assert "far_date" not in reasons(panel(bars(all_days, 10), back))


@pytest.mark.parametrize("lag", [timedelta(0), timedelta(hours=2)])
def test_a_bar_that_had_not_ended_is_set_aside_and_stretches_nothing(lag):
    clean = bars(days(200), 8).with_columns(pl.col("known_time") + lag)
    newest = pl.col("timestamp") == pl.col("timestamp").max()
    found = examine(clean.with_columns(newest.alias("unfinished")), Settings())
    assert found.findings["reason"].to_list() == ["unfinished_bar"] * 8
    assert (found.findings["detected_at"] == clean["timestamp"].max()).all()
    assert found.clean.drop("row", "unfinished").equals(clean.filter(~newest))
    assert found.gaps.is_empty()
    assert found.coverage["coverage"].min() == 1
    judged = validate_panel(clean.with_columns(newest.alias("unfinished")), Settings())
    assert not judged.failures
    assert judged.quarantine["reason"].unique().to_list() == ["unfinished_bar"]


def test_a_panel_that_lies_ahead_as_a_whole_stops_with_the_reason():
    judged = validate_panel(bars(days(60), 6).with_columns(pl.lit(True).alias("unfinished")), Settings())
    assert any("unfinished_bar" in failure["found"] for failure in judged.health["failures"])
    assert "market.as_of" in judged.health["reasons"][0]["remedy"]


@pytest.mark.parametrize(("stocks", "coins"), [(10, 5), (4, 30), (30, 1), (1, 30), (6, 6)])
@pytest.mark.parametrize("rest", ["67", "56"])
def test_two_calendars_in_one_panel_are_said(stocks, coins, rest):
    weekdays = "".join(sorted(set("1234567") - set(rest)))
    mixed = panel(
        bars(days(200, weekdays=weekdays), [f"E{number}" for number in range(stocks)]),
        bars(days(280, weekdays="1234567"), [f"C{number}" for number in range(coins)], seed=1),
    )
    found = examine(mixed, Settings())
    assert set(found.findings["reason"]) == {"other_calendar"}
    fewer = mixed[found.findings["row"]]
    assert set(fewer["symbol"].str.head(1)) == (
        {"E"} if stocks < coins else {"C"} if coins < stocks else {"E"}
    )
    judged = validate_panel(mixed, Settings())
    if len(fewer) > 0.1 * len(mixed):
        assert "other_calendar" in judged.health["failures"][0]["found"]
    assert "market.symbols" in judged.health["reasons"][0]["remedy"]


def test_weeks_that_rest_on_other_days_are_two_calendars():
    mixed = panel(bars(days(200), 12), bars(days(200, weekdays="12347"), ["T0", "T1", "T2"], seed=1))
    assert reasons(mixed) == {"other_calendar": 600}


def test_coins_and_stocks_of_hours_are_two_calendars():
    hours = [(day, hour) for day in days(120) for hour in range(15, 22)]
    stock = bars([day for day, _ in hours], 6)
    stock = stock.sort("symbol", "timestamp", maintain_order=True).with_columns(
        pl.Series("timestamp", [datetime(d.year, d.month, d.day, h, tzinfo=UTC) for d, h in hours] * 6)
    )
    clock = [datetime(2019, 1, 7, tzinfo=UTC) + timedelta(hours=hour) for hour in range(1, 168 * 20)]
    coin = bars([moment.date() for moment in clock], 3).with_columns(
        pl.concat_str(pl.lit("C"), "symbol").alias("symbol")
    )
    coin = coin.sort("symbol", "timestamp", maintain_order=True).with_columns(
        pl.Series("timestamp", clock * 3)
    )
    mixed = panel(stock, coin).with_columns(
        pl.lit("1h").alias("period"),
        (pl.col("timestamp") - timedelta(hours=1)).alias("event_time"),
        known_time="timestamp",
    )
    assert set(reasons(mixed)) == {"other_calendar"}


def random_part(frame: pl.DataFrame, keep: pl.Expr | float, seed: int = 3) -> pl.DataFrame:
    """A random part of the rows, each kept with its probability `keep`."""
    chance = pl.Series(np.random.default_rng(seed).random(len(frame)))
    return frame.filter(chance < keep)


def test_honest_calendars_are_not_taken_for_two():
    saturdays = [day for day in days(400, weekdays="6") if day.day < 8 and day.month in (2, 6, 9)][:14]
    made_up = sorted([*days(700), *[day for day in saturdays if day < days(700)[-1]]])
    assert reasons(bars(made_up, 12)) == {}

    with_illiquid = panel(bars(made_up, 12), bars(days(700), [f"I{number}" for number in range(8)], seed=1))
    assert set(reasons(with_illiquid)) <= {"thin_cross_section"}

    weekend = pl.col("timestamp").dt.weekday() > 5
    coins = bars(days(400, weekdays="1234567"), 12)
    thin = random_part(coins, pl.when(weekend).then(0.75).otherwise(1.0))
    assert not {"other_calendar", "weekend_row", "weekend_trade"} & set(reasons(thin))

    america, europe = days(500), days(500)
    mixed = panel(
        bars([day for number, day in enumerate(america) if number % 29], 10),
        bars(
            [day for number, day in enumerate(europe) if number % 31],
            [f"E{number}" for number in range(8)],
            1,
        ),
    )
    assert not {"other_calendar", "weekend_row", "weekend_trade"} & set(reasons(mixed))

    young = panel(bars(days(500), 10), bars(days(500)[380:], [f"Y{number}" for number in range(10)], 1))
    assert reasons(young) == {}

    until = days(400, weekdays="123456")
    six_days = panel(
        bars([*until, *days(400, until[-1] + timedelta(days=2))], 6),
        bars(until[200:], [f"O{number}" for number in range(4)], 1),
        bars(days(300, until[-1] + timedelta(days=2)), [f"Y{number}" for number in range(6)], 2),
    )
    assert not {"other_calendar", "weekend_row", "weekend_trade"} & set(reasons(six_days))

    rare = random_part(bars(days(500), 20), 0.45)
    assert not {"other_calendar", "weekend_row", "weekend_trade"} & set(reasons(rare, min_coverage=0.1))


@pytest.mark.parametrize("sunday_currencies", [6, 10])
def test_a_short_sunday_of_some_currencies_is_no_other_calendar(sunday_currencies):
    some = bars(days(240, weekdays="123457"), sunday_currencies)
    others = bars(days(200), [f"X{number}" for number in range(5)], 1)
    assert "other_calendar" not in reasons(panel(some, others))


@pytest.mark.parametrize(("volume", "flat"), [(0.0, True), (None, False), (None, True), (0.0, False)])
@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
@pytest.mark.parametrize("symbols", [1, 4, 12])
def test_weekends_filled_with_fridays_are_rows_and_no_bars(volume, flat, share, symbols):
    clean = bars(days(300), symbols)
    weekends = days(110, weekdays="67")
    filled = copies(clean, weekends, volume=volume, flat=flat)
    filled = filled if share == 1 else random_part(filled, share)
    found = examine(panel(clean, filled), Settings())
    assert set(found.findings["reason"]) <= {"weekend_row"}
    assert len(found.findings) == len(filled)
    assert found.clean.drop("row").equals(clean)
    assert found.gaps.is_empty()


def test_weekends_filled_with_fridays_stop_no_run_though_they_are_many():
    clean = bars(days(300), 12)
    filled = copies(clean, days(110, weekdays="67"), volume=0.0, flat=True)
    assert len(filled) > Settings().max_quarantine_share * (len(clean) + len(filled))
    found = validate_panel(panel(clean, filled), Settings())
    assert found.failures == ()
    assert len(found.panel) == len(clean)


def test_weekends_without_a_volume_column_are_found_too():
    clean = bars(days(300), 12).with_columns(volume=pl.lit(None, dtype=pl.Float64))
    filled = random_part(copies(clean, days(100, weekdays="67"), volume=None, flat=True), 0.5)
    assert reasons(panel(clean, filled)) == {"weekend_row": len(filled)}


def test_a_few_trades_on_weekends_are_dated_wrongly():
    clean = bars(days(300), 20)
    astray = random_part(bars(days(110, weekdays="67"), 20, seed=5), 0.02)
    assert len(astray) > 20
    assert reasons(panel(clean, astray)) == {"weekend_trade": len(astray)}


def test_special_sessions_pass_whole():
    clean = bars(days(700), 20)
    sundays = [day for day in days(130, weekdays="7") if day.month == 10 and day.day < 8]
    saturdays = [day for day in days(130, weekdays="6") if day.month in (2, 9) and day.day < 15]
    special = bars([*sundays, *saturdays], 20, seed=4)
    special = random_part(special, 0.72)
    assert not {"weekend_row", "weekend_trade", "other_calendar", "far_date"} & set(
        reasons(panel(clean, special))
    )


def test_a_market_that_rests_on_friday_and_saturday_keeps_its_sundays():
    assert reasons(bars(days(300, weekdays="12347"), 10)) == {}


@pytest.mark.parametrize("count", [3, 10, 19])
def test_short_panels_have_no_calendar_to_be_off(count):
    assert not {"weekend_row", "weekend_trade", "other_calendar", "far_date"} & set(
        reasons(bars(days(count, weekdays="1234567"), 6))
    )
