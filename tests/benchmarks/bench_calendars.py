"""How often bars off the calendar are found, and honest ones taken for them, over simulated markets; whether
bars on changing clocks get their true moments; how wrong bars a year are.

python -m tests.benchmarks.bench_calendars [--markets 200]
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from components.contracts import TIME
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.simulator import simulate
from components.market.stamps import bar_times
from components.metrics import bars_per_year
from components.validation.calendars import off_calendar
from components.validation.rows import absent_columns, filled

SYMBOLS, BARS = 20, 400
PRICES = ("open", "high", "low", "close")
ZONES = ("America/New_York", "Europe/London", "Europe/Berlin", "Australia/Sydney", "America/Santiago")
Rng = np.random.Generator


@dataclass(frozen=True)
class Rate:
    """Of `planted` rows `found` with the right reason, and of `honest` rows `falsely` set aside."""

    planted: int
    found: int
    honest: int
    falsely: int


def market(seed: int) -> pl.DataFrame:
    """A simulated market of business days; every third one has no volume, every fifth many missing bars."""
    simulator = {"symbols": SYMBOLS, "bars": BARS, "sectors": 4}
    panel = simulate(Settings(simulator=simulator), seed).panel.with_columns(pl.lit("").alias("planted"))
    rng = np.random.default_rng([seed, 1])
    if seed % 3 == 0:
        panel = panel.with_columns(volume=pl.lit(None, dtype=pl.Float64))
    if seed % 5 == 0:
        panel = _some(panel, 0.7, rng)
    return panel


def far_date(panel: pl.DataFrame, rng: Rng) -> pl.DataFrame:
    """One to five rows of other years."""
    hit = rng.choice(len(panel), int(rng.integers(1, 6)), replace=False)
    years = rng.choice([1900, 1969, 1970, 2011, 2029, 2062], len(hit))
    stamps = [
        datetime(int(year), 1, 1, 21, tzinfo=UTC) + timedelta(days=int(rng.integers(365))) for year in years
    ]
    moved = panel[hit].with_columns(
        pl.Series("timestamp", stamps, dtype=TIME), pl.lit("far_date").alias("planted")
    )
    return pl.concat([_without(panel, hit), moved])


def other_calendar(panel: pl.DataFrame, rng: Rng) -> pl.DataFrame:
    """One to eight symbols trade on every day of the week."""
    coins = pl.Series(
        rng.choice(panel["symbol"].unique().sort().to_numpy(), int(rng.integers(1, 9)), replace=False)
    )
    first = panel["timestamp"].min()
    mine = panel.filter(pl.col("symbol").is_in(coins.implode())).sort("symbol", "timestamp")
    begun = (pl.col("timestamp").min().over("symbol") - first).dt.total_days()
    day = begun + pl.int_range(pl.len()).over("symbol")
    mine = mine.with_columns(
        (pl.lit(first) + pl.duration(days=day)).cast(TIME).alias("timestamp"),
        pl.lit("other_calendar").alias("planted"),
    )
    return pl.concat([panel.filter(~pl.col("symbol").is_in(coins.implode())), mine])


def weekend_row(panel: pl.DataFrame, rng: Rng) -> pl.DataFrame:
    """Fridays copied to Saturdays and Sundays, all or a few of them, as they are, flat, or without volume."""
    fridays = panel.filter(pl.col("timestamp").dt.weekday() == 5)
    copies = pl.concat([fridays.with_columns(pl.col("timestamp") + timedelta(days=day)) for day in (1, 2)])
    flat = rng.random() < 0.5
    if flat:
        copies = copies.with_columns(pl.col("close").alias(name) for name in PRICES)
    if panel["volume"].null_count() < len(panel) and rng.random() < 0.5:
        copies = copies.with_columns(volume=pl.lit(0.0))
    copies = _some(copies, float(rng.choice([0.02, 0.2, 1.0])), rng)
    return pl.concat([panel, copies.with_columns(pl.lit("weekend_row").alias("planted"))])


def weekend_trade(panel: pl.DataFrame, rng: Rng) -> pl.DataFrame:
    """Two rows in a hundred of Friday or Monday are dated on the weekend."""
    ends = pl.col("timestamp").dt.weekday()
    shift = pl.when(ends == 5).then(1).when(ends == 1).then(-1)
    chosen = pl.Series(rng.random(len(panel)) < 0.02) & panel["timestamp"].dt.weekday().is_in([1, 5])
    astray = panel.filter(chosen).with_columns(
        pl.col("timestamp") + pl.duration(days=shift), pl.lit("weekend_trade").alias("planted")
    )
    return pl.concat([panel.filter(~chosen), astray])


def unfinished_bar(panel: pl.DataFrame, rng: Rng) -> pl.DataFrame:
    """The newest one to three bars lie beyond the clock."""
    dates = panel["timestamp"].unique().sort()
    ahead = pl.col("timestamp") > dates[-1 - int(rng.integers(1, 4))]
    return panel.with_columns(
        ahead.alias("unfinished"),
        pl.when(ahead).then(pl.lit("unfinished_bar")).otherwise("planted").alias("planted"),
    )


def clean(panel: pl.DataFrame, rng: Rng) -> pl.DataFrame:
    """The market as it is."""
    return panel


def special_sessions(panel: pl.DataFrame, rng: Rng) -> pl.DataFrame:
    """Up to one Saturday or Sunday in twelve on which most symbols trade."""
    fridays = panel.filter(pl.col("timestamp").dt.weekday() == 5)
    dates = fridays["timestamp"].unique().sort()
    held = pl.Series(rng.choice(dates.to_numpy(), len(dates) // 12, replace=False)).cast(pl.Datetime("us"))
    sessions = fridays.filter(
        pl.col("timestamp").dt.replace_time_zone(None).is_in(held.implode())
    ).with_columns(
        pl.col("timestamp") + timedelta(days=int(rng.integers(1, 3))),
        *((pl.col(name) * float(rng.uniform(0.98, 1.02))).alias(name) for name in PRICES),
        pl.col("volume") * 0.13,
    )
    return pl.concat([panel, _some(sessions, 0.7, rng)])


def every_day(panel: pl.DataFrame, rng: Rng) -> pl.DataFrame:
    """Coins, on every day of the week, fewer of them at weekends."""
    first = panel["timestamp"].min()
    number = pl.col("timestamp").rank("dense").cast(pl.Int64) - 1
    coins = panel.with_columns((pl.lit(first) + pl.duration(days=number)).cast(TIME).alias("timestamp"))
    weekend = coins["timestamp"].dt.weekday() > 5
    return coins.filter(~weekend | pl.Series(rng.random(len(coins)) < rng.uniform(0.5, 1)))


def two_exchanges(panel: pl.DataFrame, rng: Rng) -> pl.DataFrame:
    """Half of the symbols have other holidays."""
    dates = panel["timestamp"].unique().sort().to_numpy()
    half = pl.col("symbol") < panel["symbol"].unique().sort()[SYMBOLS // 2]
    for side in (half, ~half):
        shut = pl.Series(rng.choice(dates, len(dates) // 25, replace=False)).cast(pl.Datetime("us"))
        closed = pl.col("timestamp").dt.replace_time_zone(None).is_in(shut.implode())
        panel = panel.filter(~(side & closed))
    return panel


def long_history(panel: pl.DataFrame, rng: Rng) -> pl.DataFrame:
    """One symbol is ten years older than the others; half of the others are listed late."""
    symbols = panel["symbol"].unique().sort()
    old = panel.filter(pl.col("symbol") == symbols[0])
    years = [old.with_columns(pl.col("timestamp") - timedelta(weeks=weeks)) for weeks in range(80, 520, 80)]
    late = pl.col("symbol") > symbols[SYMBOLS // 2]
    begun = panel["timestamp"].unique().sort()[int(rng.integers(100, 390))]
    return pl.concat([*years, panel.filter(~late | (pl.col("timestamp") >= begun))]).unique(
        ["symbol", "timestamp"], keep="last", maintain_order=True
    )


def closed_for_months(panel: pl.DataFrame, rng: Rng) -> pl.DataFrame:
    """The exchange is shut for two to ten months and has been open again for one to thirty days."""
    dates = panel["timestamp"].unique().sort()
    again = dates[-int(rng.integers(1, 31))]
    later = pl.col("timestamp") + timedelta(weeks=int(rng.integers(9, 44)))
    return panel.with_columns(
        pl.when(pl.col("timestamp") >= again).then(later).otherwise("timestamp").alias("timestamp")
    )


FAULTS = (far_date, other_calendar, weekend_row, weekend_trade, unfinished_bar)
HONEST = (clean, special_sessions, every_day, two_exchanges, long_history, closed_for_months)


def rates(markets: int) -> dict[str, Rate]:
    """The rate of each fault and each honest market."""
    return {made.__name__: _rate(made, markets) for made in (*FAULTS, *HONEST)}


def _rate(made: Callable[[pl.DataFrame, Rng], pl.DataFrame], markets: int) -> Rate:
    planted = found = honest = falsely = 0
    for seed in range(markets):
        panel = made(market(seed), np.random.default_rng([seed, 2])).with_row_index("row")
        rows = filled(panel, absent_columns(panel)).with_columns(pl.col("row").cast(pl.Int64))
        findings = off_calendar(rows)
        marked = rows.join(findings, on="row", how="left")
        faulty = pl.col("planted") != ""
        planted += marked.filter(faulty).height
        found += marked.filter(faulty & (pl.col("reason") == pl.col("planted"))).height
        honest += marked.filter(~faulty).height
        falsely += marked.filter(~faulty & pl.col("reason").is_not_null()).height
    return Rate(planted, found, honest, falsely)


def clocks(files: int) -> dict[str, int]:
    """Files on changing clocks whose bars all got their true moments (`right`), that were `refused` because
    the order left a moment open, and that came out `wrong`.
    """
    outcomes = {"right": 0, "refused": 0, "wrong": 0}
    for seed in range(files):
        rng = np.random.default_rng([seed, 3])
        stamps, settings, truth = _file(rng)
        try:
            placed = bar_times(stamps, settings, "made")
        except MarketError:
            outcomes["refused"] += 1
            continue
        same = placed.select("event_time", "timestamp").equals(truth)
        outcomes["right" if same else "wrong"] += 1
    return outcomes


def _file(rng: Rng) -> tuple[pl.DataFrame, Settings, pl.DataFrame]:
    """Bars of a few symbols over a year in local time, in one of four orders, some with missing bars."""
    zone, period = str(rng.choice(ZONES)), str(rng.choice(["1h", "4h", "1d"]))
    hours = {"1h": 1, "4h": 4, "1d": 24}[period]
    count = 366 * 24 // hours
    first = datetime(2022, int(rng.integers(1, 13)), 1)
    if period != "1h" and rng.random() < 0.5:
        local = [first + timedelta(hours=hours * bar) for bar in range(count + 1)]
        edges = [moment.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for moment in local]
    else:
        edges = [first.replace(tzinfo=UTC) + timedelta(hours=hours * bar) for bar in range(count + 1)]
    bars = pl.DataFrame(
        {"event_time": edges[:-1], "timestamp": edges[1:]}, schema={"event_time": TIME, "timestamp": TIME}
    )
    bars = bars.join(pl.DataFrame({"symbol": ["A", "B", "C"]}), how="cross")
    if rng.random() < 0.3:
        bars = _some(bars, 0.98, rng)
    order = int(rng.integers(4))
    bars = bars.sort(
        *(("symbol", "event_time") if order < 2 else ("event_time", "symbol")), descending=order % 2 == 1
    )
    local = bars["event_time"].dt.convert_time_zone(zone).dt.replace_time_zone(None)
    settings = Settings(source="parquet", path="made", period=period, stamp="bar_open", timezone=zone)
    return (
        pl.DataFrame({"timestamp": local, "symbol": bars["symbol"]}),
        settings,
        bars.select("event_time", "timestamp"),
    )


def yearly_errors(calendars: int) -> dict[str, float]:
    """Largest relative error of bars a year, by kind of calendar: 4 to 150 weeks with gaps and far dates."""
    kinds = {
        "coins 1d": (365.25, "1d"),
        "coins 1h": (8766, "1h"),
        "stocks 1d": (252, "1d"),
        "stocks 1h": (1764, "1h"),
    }
    return {name: max(_error(name, *of, seed) for seed in range(calendars)) for name, of in kinds.items()}


def _error(name: str, expected: float, period: str, seed: int) -> float:
    rng = np.random.default_rng([seed, 4])
    days = [date(2019, 1, 1) + timedelta(days=day) for day in range(7 * int(rng.integers(4, 150)))]
    if name.startswith("stocks"):
        days = [day for day in days if day.weekday() < 5 and rng.random() > 9 / 261]
    hours = {"coins 1d": [24], "coins 1h": range(1, 25), "stocks 1d": [21], "stocks 1h": range(15, 22)}[name]
    lost = int(rng.integers(len(days)))
    kept = [*days[:lost], *days[lost + int(rng.integers(len(days) // 4)) :]]
    ends = [
        datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour)
        for day in kept
        for hour in hours
    ]
    far = [datetime(int(rng.choice([1970, 2062])), 5, 2, 21, tzinfo=UTC)] if rng.random() < 0.5 else []
    return abs(bars_per_year(period, pl.Series(sorted([*ends, *far]), dtype=TIME)) / expected - 1)


def _some(panel: pl.DataFrame, share: float, rng: Rng) -> pl.DataFrame:
    return panel.filter(pl.Series(rng.random(len(panel)) < share))


def _without(panel: pl.DataFrame, rows: np.ndarray) -> pl.DataFrame:
    kept = np.ones(len(panel), dtype=bool)
    kept[rows] = False
    return panel.filter(pl.Series(kept))


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markets", type=int, default=200, help="simulated markets of each kind")
    markets = parser.parse_args().markets
    print(f"{markets} markets of {SYMBOLS} symbols x {BARS} bars of each kind, seeds from 0 on")
    print(f"{'kind':<20}{'planted':>10}{'found':>10}{'honest rows':>14}{'falsely':>10}")
    for name, rate in rates(markets).items():
        share = f"{rate.found / rate.planted:.2%}" if rate.planted else ""
        print(f"{name:<20}{rate.planted:>10,}{share:>10}{rate.honest:>14,}{rate.falsely:>10,}")
    print(f"files on changing clocks: {clocks(markets)}")
    print(
        {name: f"{error:.2%}" for name, error in yearly_errors(markets).items()},
        "largest error of bars a year",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
