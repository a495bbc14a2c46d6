"""Bars on clocks that change: the hour that occurs twice, the one that never comes, bars that last until a
time of day, and sessions over midnight.
"""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from components.market.config import Settings
from components.market.errors import MarketError
from components.market.load import load_panel

BERLIN = ZoneInfo("Europe/Berlin")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def rows(stamps: list, symbols: list[str] | str = "AAA") -> pl.DataFrame:
    size = len(stamps)
    names = [symbols] * size if isinstance(symbols, str) else symbols
    prices = {name: [1.0] * size for name in ("open", "high", "low", "close", "volume")}
    return pl.DataFrame({"timestamp": stamps, "symbol": names, **prices})


def load(folder: Path, frame: pl.DataFrame, **changes) -> pl.DataFrame:
    frame.write_parquet(folder / "bars.parquet")
    asked = {"source": "parquet", "path": "bars.parquet", "period": "1h", "stamp": "bar_open", **changes}
    return load_panel(Settings(**asked), data_folder=folder, seed=0).panel


def wall(moments: list[datetime], zone: str) -> list[datetime]:
    """What `zone`'s clock says at `moments`."""
    return [moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for moment in moments]


def hours(first: datetime, count: int, step: int = 1) -> list[datetime]:
    return [first + timedelta(hours=step * hour) for hour in range(count)]


# Clocks went back in Berlin on October 29 at 01:00 UTC, in Sydney on April 1 at 16:00 UTC.
CHANGES = [("Europe/Berlin", utc(2023, 10, 28, 20)), ("Australia/Sydney", utc(2023, 4, 1, 12))]


@pytest.mark.parametrize(("zone", "first"), CHANGES)
@pytest.mark.parametrize("order", ["by symbol", "by time", "newest first", "newest first by symbol"])
def test_the_hour_that_occurs_twice_is_told_by_the_order_of_rows(tmp_path, zone, first, order):
    truth = [(symbol, moment) for moment in hours(first, 10) for symbol in ("AAA", "BBB", "CCC")]
    truth.sort(key=lambda pair: pair[1], reverse=order.startswith("newest"))
    if order.endswith("by symbol"):
        truth.sort(key=lambda pair: pair[0])
    symbols, moments = zip(*truth, strict=True)
    frame = rows(wall(list(moments), zone), list(symbols))
    for ambiguous in ("infer", "earliest", "latest"):
        panel = load(tmp_path, frame, timezone=zone, ambiguous=ambiguous)
        assert panel["event_time"].to_list() == list(moments)
    with pytest.raises(MarketError, match=r"6 stamps, .* occurs twice in .*market\.ambiguous to infer"):
        load(tmp_path, frame, timezone=zone, ambiguous="raise")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_symbol_that_lacks_one_of_the_two_hours_is_placed_by_the_others(tmp_path, lost):
    moments = hours(utc(2023, 10, 28, 20), 10)
    truth = [
        (symbol, moment)
        for moment in moments
        for symbol in ("AAA", "BBB", "CCC")
        if not (symbol == "BBB" and moment == utc(2023, 10, 29, lost))
    ]
    symbols, times = zip(*truth, strict=True)
    panel = load(tmp_path, rows(wall(list(times), "Europe/Berlin"), list(symbols)), timezone="Europe/Berlin")
    assert panel["event_time"].to_list() == list(times)


def test_an_order_that_leaves_doubt_is_an_error_that_names_the_setting(tmp_path):
    moments = [moment for moment in hours(utc(2023, 10, 28, 20), 10) if moment != utc(2023, 10, 29, 1)]
    frame = rows(wall(moments, "Europe/Berlin"))
    with pytest.raises(MarketError, match=r"1 stamps.*02:00.*occurs twice.*market\.ambiguous to earliest or"):
        load(tmp_path, frame, timezone="Europe/Berlin")
    assert (
        load(tmp_path, frame, timezone="Europe/Berlin", ambiguous="earliest")["event_time"].to_list()
        == moments
    )
    shuffled = rows(wall(hours(utc(2023, 10, 28, 20), 10), "Europe/Berlin")).sample(
        fraction=1.0, shuffle=True, seed=3
    )
    with pytest.raises(MarketError, match="out of order"):
        load(tmp_path, shuffled, timezone="Europe/Berlin")
    thrice = wall([*hours(utc(2023, 10, 28, 23), 3), *hours(utc(2023, 10, 29, 1), 3)], "Europe/Berlin")
    with pytest.raises(MarketError, match="occurs twice"):
        load(tmp_path, rows(thrice), timezone="Europe/Berlin")


@pytest.mark.parametrize(("period", "step"), [("4h", 4), ("1d", 24)])
def test_a_bar_cut_in_utc_that_begins_in_the_hour_that_occurs_twice_is_told_by_the_others(
    tmp_path, period, step
):
    moments = hours(utc(2023, 10, 20), 20 * 24 // step, step)
    for zone in ("Europe/London", "Europe/Berlin"):
        panel = load(tmp_path, rows(wall(moments, zone)), period=period, timezone=zone)
        assert panel["event_time"].to_list() == moments


def test_a_bar_cut_on_the_local_clock_in_the_hour_that_occurs_twice_is_left_open(tmp_path):
    stamps = [datetime(2023, 10, 20, 2) + timedelta(hours=4 * bar) for bar in range(100)]
    with pytest.raises(MarketError, match=r"market\.ambiguous"):
        load(tmp_path, rows(stamps), period="4h", timezone="Europe/Berlin")
    panel = load(tmp_path, rows(stamps), period="4h", timezone="Europe/Berlin", ambiguous="earliest")
    assert (panel["timestamp"][:-1] == panel["event_time"][1:]).all()


def test_half_hours_out_of_step_elsewhere_do_not_disturb_the_order(tmp_path):
    moments = hours(utc(2023, 10, 27, 20), 60)
    moments[3], moments[4] = moments[4], moments[3]
    panel = load(tmp_path, rows(wall(moments, "Europe/Berlin")), timezone="Europe/Berlin")
    assert panel["event_time"].to_list() == moments


def test_a_local_time_that_never_came_is_named(tmp_path):
    frame = rows([datetime(2023, 3, 26, hour, 30) for hour in (1, 2, 3)])
    with pytest.raises(
        MarketError, match=r"1 stamps.*02:30:00.*does not exist in Europe/Berlin.*market\.timezone"
    ):
        load(tmp_path, frame, timezone="Europe/Berlin")


@pytest.mark.parametrize("stamp", ["bar_open", "bar_close"])
@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("day", [date(2023, 3, 25), date(2023, 10, 28)])
@pytest.mark.parametrize("period", ["4h", "1d"])
def test_bars_cut_on_a_local_clock_end_at_its_next_boundary(tmp_path, stamp, aware, day, period):
    step = 4 if period == "4h" else 24
    edges = [datetime.combine(day, time(0)) + timedelta(hours=step * bar) for bar in range(20)]
    true = [edge.replace(tzinfo=BERLIN).astimezone(UTC) for edge in edges]
    stamps = edges[:-1] if stamp == "bar_open" else edges[1:]
    frame = rows(stamps)
    if aware:
        frame = frame.with_columns(pl.col("timestamp").dt.replace_time_zone("Europe/Berlin"))
    zone = {} if aware else {"timezone": "Europe/Berlin"}
    panel = load(tmp_path, frame, period=period, stamp=stamp, **zone)
    assert panel["event_time"].to_list() == true[:-1]
    assert panel["timestamp"].to_list() == true[1:]
    lengths = set((panel["timestamp"] - panel["event_time"]).dt.total_hours())
    assert step in lengths
    assert lengths & {step - 1, step + 1}


@pytest.mark.parametrize(("period", "step"), [("1h", 1), ("4h", 4), ("1d", 24)])
def test_bars_cut_in_utc_and_written_in_local_time_last_as_long_as_ever(tmp_path, period, step):
    moments = hours(utc(2023, 10, 20), 20 * 24 // step, step)
    panel = load(
        tmp_path, rows(wall(moments, "America/New_York")), period=period, timezone="America/New_York"
    )
    assert panel["event_time"].to_list() == moments
    assert set((panel["timestamp"] - panel["event_time"]).dt.total_hours()) == {step}


def test_bars_cut_on_the_exchanges_clock_and_written_in_utc_end_on_that_clock(tmp_path):
    edges = [datetime(2023, 10, 28) + timedelta(hours=4 * bar) for bar in range(30)]
    true = [edge.replace(tzinfo=BERLIN).astimezone(UTC) for edge in edges]
    panel = load(tmp_path, rows(true[:-1]), period="4h", exchange_timezone="Europe/Berlin")
    assert panel["timestamp"].to_list() == true[1:]
    plain = hours(utc(2023, 10, 20), 300, 4)
    panel = load(tmp_path, rows(plain), period="4h", exchange_timezone="Europe/Berlin")
    assert panel["timestamp"].to_list() == [moment + timedelta(hours=4) for moment in plain]


def test_a_day_without_midnight_begins_with_its_first_moment(tmp_path):
    days = [datetime(2018, 11, 3), datetime(2018, 11, 4), datetime(2018, 11, 5)]
    panel = load(tmp_path, rows(days), period="1d", timezone="America/Sao_Paulo")
    assert panel["event_time"].to_list() == [utc(2018, 11, 3, 3), utc(2018, 11, 4, 3), utc(2018, 11, 5, 2)]
    assert panel["timestamp"].to_list() == [utc(2018, 11, 4, 3), utc(2018, 11, 5, 2), utc(2018, 11, 6, 2)]
    twice = [datetime(2023, 11, 4), datetime(2023, 11, 5), datetime(2023, 11, 6)]
    panel = load(tmp_path, rows(twice), period="1d", timezone="America/Havana")
    assert panel["event_time"].to_list() == [utc(2023, 11, 4, 4), utc(2023, 11, 5, 4), utc(2023, 11, 6, 5)]


def sessions(folder: Path, dates: list[date], opens: str, closes: str, zone: str) -> list[tuple]:
    panel = load(
        folder,
        rows(dates),
        period="1d",
        stamp="session_date",
        session_open=opens,
        session_close=closes,
        exchange_timezone=zone,
    )
    assert panel["timestamp"].null_count() == 0
    return list(zip(panel["event_time"], panel["timestamp"], strict=True))


def test_a_session_over_midnight_is_dated_by_its_close_and_begins_the_evening_before(tmp_path):
    monday, change = date(2023, 11, 6), date(2023, 3, 13)
    found = sessions(tmp_path, [monday, change, date(2023, 7, 5)], "18:00", "17:00", "America/New_York")
    assert found == [
        (utc(2023, 11, 5, 23), utc(2023, 11, 6, 22)),
        (utc(2023, 3, 12, 22), utc(2023, 3, 13, 21)),
        (utc(2023, 7, 4, 22), utc(2023, 7, 5, 21)),
    ]
    night = sessions(tmp_path, [date(2024, 5, 7)], "21:00", "15:00", "Asia/Shanghai")
    assert night == [(utc(2024, 5, 6, 13), utc(2024, 5, 7, 7))]


def test_sessions_of_24_hours_can_be_said(tmp_path):
    days = [date(2023, 11, 3), date(2023, 11, 6)]
    assert sessions(tmp_path, days, "17:00", "17:00", "America/New_York") == [
        (utc(2023, 11, 2, 21), utc(2023, 11, 3, 21)),
        (utc(2023, 11, 5, 22), utc(2023, 11, 6, 22)),
    ]
    whole_days = sessions(tmp_path, [date(2023, 11, 4), date(2023, 11, 5)], "00:00", "00:00", "UTC")
    assert whole_days == [(utc(2023, 11, 4), utc(2023, 11, 5)), (utc(2023, 11, 5), utc(2023, 11, 6))]


def test_a_close_at_midnight_ends_the_day_of_its_date(tmp_path):
    assert sessions(tmp_path, [date(2023, 11, 3)], "09:00", "00:00", "Europe/Berlin") == [
        (utc(2023, 11, 3, 8), utc(2023, 11, 3, 23))
    ]


def test_a_session_whose_edge_never_came_or_came_twice_is_complete_at_the_later_moment(tmp_path):
    spring = sessions(tmp_path, [date(2023, 3, 26)], "02:30", "20:00", "Europe/Berlin")
    assert spring == [(utc(2023, 3, 26, 1, 30), utc(2023, 3, 26, 18))]
    autumn = sessions(tmp_path, [date(2023, 10, 29)], "00:00", "02:30", "Europe/Berlin")
    assert autumn == [(utc(2023, 10, 28, 22), utc(2023, 10, 29, 1, 30))]


def test_sessions_dated_by_their_evening_are_refused(tmp_path):
    days = [date(2023, 5, 1) + timedelta(days=day) for day in range(60)]
    by_opening = [day for day in days if day.weekday() not in (4, 5)]
    with pytest.raises(MarketError, match=r"8 Sundays and 0 Fridays.*by one day"):
        sessions(tmp_path, by_opening, "18:00", "17:00", "America/New_York")
    by_close = [day for day in days if day.weekday() < 5]
    assert len(sessions(tmp_path, by_close, "18:00", "17:00", "America/New_York")) == len(by_close)
    assert len(sessions(tmp_path, days, "17:00", "17:00", "America/New_York")) == len(days)
    assert len(sessions(tmp_path, by_opening, "09:45", "17:25", "Asia/Jerusalem")) == len(by_opening)
