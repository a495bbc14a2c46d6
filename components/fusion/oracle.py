"""Joins a sample of the panel's rows again, one by one in plain Python from the rows as the files have them,
and compares: a second opinion on the fast join.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from components.fusion.config import ColumnSettings, TableSettings
from components.fusion.errors import FusionError
from components.fusion.feed import MARKET, ROW
from components.fusion.read import SlowTable

TOLERANCE = 1e-9
Owners = dict[str, list[tuple[date, str]]]


def verify_sample(
    panel: pl.DataFrame, tables: Sequence[SlowTable], fused: pl.DataFrame, n: int, seed: int
) -> int:
    """Join `n` rows of the panel, drawn with `seed`, again and compare all their slow columns.

    Returns how many values were compared.

    Raises
    ------
    FusionError
        For the first value that differs; the message names row, column and both values.
    """
    if len(panel) == 0 or n == 0:
        return 0
    picked = sorted(random.Random(seed).sample(range(len(panel)), min(n, len(panel))))
    bars, found = (
        panel[picked].select("timestamp", "symbol", "known_time").to_dicts(),
        fused[picked].to_dicts(),
    )
    compared = 0
    first = dict(panel.group_by("symbol").agg(pl.col("timestamp").min()).iter_rows())
    for table in tables:
        by_series = _by_series(table)
        symbols = {bar["symbol"] for bar in bars}
        owners = _owners(table)
        since = (
            {symbol: moment for symbol, moment in first.items() if moment > min(first.values())}
            if table.settings.before_first_bar == "refuse"
            else {}
        )
        records = {
            (column.name, key): rows
            for column in table.settings.columns
            for key, rows in _records(
                by_series.get(_series(column, table.settings), []),
                column,
                table.settings,
                symbols,
                owners,
                since,
            ).items()
        }
        for bar, row in zip(bars, found, strict=True):
            for column in table.settings.columns:
                key = MARKET if table.settings.key == "market" else bar["symbol"]
                expected = value_at(bar, records.get((column.name, key), []), column, table.settings, owners)
                _compare(bar, row, column.name, table.settings, expected)
                compared += 1
    return compared


def _compare(
    bar: Mapping[str, Any], row: Mapping[str, Any], name: str, table: TableSettings, expected: float | None
) -> None:
    value = row[name]
    same = value is None and expected is None
    same = same or (
        value is not None
        and expected is not None
        and math.isclose(value, expected, rel_tol=TOLERANCE, abs_tol=1e-12)
    )
    if not same:
        raise FusionError(
            f"The fused table does not hold at {bar['symbol']}, {bar['timestamp']} (known"
            f" {bar['known_time']}): {name} of table {table.name!r} is {value}, but joining that row by hand"
            f" gives {expected}. The table was changed after the join, or made with other settings: run"
            " fusion again."
        )


def value_at(
    bar: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    column: ColumnSettings,
    table: TableSettings,
    owners: Owners | None,
) -> float | None:
    """The value that a bar may see, by going through all records of its symbol in the order in which they
    became known.

    `records` as `_records` gives them, sorted by known time; `bar` has timestamp, symbol, known_time.
    """
    moment = bar["known_time"]
    visible = records[: bisect_right(records, moment, key=lambda record: record["known"])]
    if owners is not None:
        episode = _company_number(bar["symbol"], bar["timestamp"].date(), owners)
        visible = [record for record in visible if record["episode"] == episode]
    companies = [record["company"] for record in visible if record["company"] is not None]
    if companies:
        newest_company = list(dict.fromkeys(companies))[-1]
        arrived = next(k for k, record in enumerate(visible) if record["company"] == newest_company)
        visible = [record for record in visible[arrived:] if record["company"] in (newest_company, None)]
    values: dict[datetime, float] = {}
    for record in visible:
        if record["value"] is not None:
            values[record["ends"]] = record["value"]
    if not values:
        return None
    newest = max(values)
    if (moment - newest) / timedelta(days=1) > (column.max_age_days or table.max_age_days):
        return None
    if column.transform == "level":
        return values[newest]
    earlier = sorted(values)
    if len(earlier) <= column.observations:
        return None
    base = values[earlier[-1 - column.observations]]
    if column.transform == "change":
        return values[newest] - base
    return (values[newest] - base) / abs(base) if base else None


def _series(column: ColumnSettings, table: TableSettings) -> str:
    return column.source_column if table.layout == "long" else ""


def _by_series(table: SlowTable) -> dict[str, list[dict[str, Any]]]:
    """The file's rows by the name of their series; those of a wide table under an empty name."""
    long, rows = table.settings.layout == "long", {}
    for raw in table.raw.iter_rows(named=True):
        rows.setdefault(raw[table.settings.series] if long else "", []).append(raw)
    return rows


def _records(
    raws: Sequence[Mapping[str, Any]],
    column: ColumnSettings,
    settings: TableSettings,
    symbols: set[str],
    owners: Owners | None,
    since: Mapping[str, datetime],
) -> dict[str, list[dict[str, Any]]]:
    """The usable rows of one column by symbol, from the file's rows:

    `ends`, `known`, `value`, `company`, `episode`; in the order in which they became known.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for raw in raws:
        key = _symbol(raw, settings)
        if key is None or (key not in symbols and settings.key == "symbol"):
            continue
        ends, known = _ends(raw[settings.observed], column, settings), _known(raw, column, settings)
        if ends is None or known is None or known < ends or (key in since and known < since[key]):
            continue
        company = raw[settings.company] if settings.company else None
        episode = _episode_of_row(key, company, ends, known, settings, owners)
        if episode != -1:
            found.setdefault(key, []).append(
                {
                    "row": raw[ROW],
                    "ends": ends,
                    "known": known,
                    "value": _value(raw, column, settings),
                    "company": company,
                    "episode": episode,
                }
            )
    for rows in found.values():
        rows.sort(key=lambda record: (record["known"], record["row"]))
        if settings.conflicts == "missing":
            _drop_contradicted(rows)
    return found


def _drop_contradicted(records: Sequence[dict[str, Any]]) -> None:
    """Take away the values on which records of the same company, observation and known time disagree."""
    said: dict[tuple, set[float]] = {}
    for record in records:
        if record["value"] is not None:
            said.setdefault((record["company"], record["ends"], record["known"]), set()).add(record["value"])
    for record in records:
        if len(said.get((record["company"], record["ends"], record["known"]), ())) > 1:
            record["value"] = None


def _symbol(raw: Mapping[str, Any], table: TableSettings) -> str | None:
    if table.key == "market":
        return MARKET
    symbol = (raw[table.symbol] or "").strip()
    symbol = symbol.upper() if table.upper_case else symbol
    return table.symbols.get(symbol, symbol) or None


def _value(raw: Mapping[str, Any], column: ColumnSettings, table: TableSettings) -> float | None:
    value = raw[table.value if table.layout == "long" else column.source_column]
    divisor = raw[column.divide_by] if column.divide_by else 1.0
    if value is None or not divisor or not math.isfinite(value) or not math.isfinite(divisor):
        return None
    value = value / divisor * column.scale
    if (column.lowest is not None and value < column.lowest) or (
        column.highest is not None and value > column.highest
    ):
        return None
    return value


def _last_day(stamp: date | datetime, frequency: str) -> date:
    day = stamp.date() if isinstance(stamp, datetime) else stamp
    if frequency in ("day", "week"):
        return day + timedelta(days={"day": 0, "week": 6}[frequency])
    months = {"month": 1, "quarter": 3, "year": 12}[frequency]
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    last_of_month = (date(year + (month == 11), (month + 1) % 12 + 1, 1) - timedelta(days=1)).day
    return date(year, month + 1, min(day.day, last_of_month)) - timedelta(days=1)


def _ends(stamp: date | datetime | None, column: ColumnSettings, table: TableSettings) -> datetime | None:
    frequency = column.frequency or table.frequency
    if stamp is None:
        return None
    if frequency in ("instant", "hour"):
        return _moment(stamp) + timedelta(hours=frequency == "hour")
    return _at(_last_day(stamp, frequency), table.observed_clock, table.timezone)


def _known(raw: Mapping[str, Any], column: ColumnSettings, table: TableSettings) -> datetime | None:
    if table.known:
        stamp = raw[table.known]
        return (
            None
            if stamp is None
            else (
                _moment(stamp)
                if isinstance(stamp, datetime)
                else _at(stamp, table.known_clock, table.timezone)
            )
        )
    stamp = raw[table.observed]
    if stamp is None:
        return None
    frequency = column.frequency or table.frequency
    lag = column.release_lag_days if column.release_lag_days is not None else table.release_lag_days
    if frequency in ("instant", "hour"):
        return _moment(stamp) + timedelta(hours=frequency == "hour") + timedelta(days=lag)
    return _at(_last_day(stamp, frequency) + timedelta(days=int(lag)), table.known_clock, table.timezone)


def _moment(stamp: date | datetime) -> datetime:
    return stamp if isinstance(stamp, datetime) else datetime(stamp.year, stamp.month, stamp.day, tzinfo=UTC)


def _at(day: date, clock: time | str, timezone: str) -> datetime:
    """A local clock of a day, in UTC: the later of two, the one before the change where there is none (which
    is an hour later on the changed clock).
    """
    if clock == "end":
        day, clock = day + timedelta(days=1), time(0)
    local = datetime.combine(day, clock, tzinfo=ZoneInfo(timezone))
    late = local.replace(fold=1).astimezone(UTC)
    exists = late.astimezone(ZoneInfo(timezone)).replace(tzinfo=None) == datetime.combine(day, clock)
    return late if exists else local.replace(fold=0).astimezone(UTC)


def _owners(table: SlowTable) -> Owners | None:
    """By ticker, the first day and the name of each company that used it; None where tickers are taken for
    companies.
    """
    if table.identity is None or table.settings.key == "market" or not table.settings.identity.apply:
        return None
    owners: Owners = {}
    for row in table.identity.sort("symbol", "starts").iter_rows(named=True):
        owners.setdefault(row["symbol"], []).append((row["starts"], row["company"]))
    return owners


def _company_number(symbol: str, day: date, owners: Owners) -> int:
    return max(sum(starts <= day for starts, _ in owners.get(symbol, [])) - 1, 0)


def _episode_of_row(
    symbol: str,
    company: str | None,
    ends: datetime,
    known: datetime,
    table: TableSettings,
    owners: Owners | None,
) -> int | None:
    """Number of the company that the row counts to; -1 where the row names another one than the ticker
    belonged to; None without identity.
    """
    if owners is None:
        return None
    if not (table.company and table.identity.company):
        return _company_number(
            symbol, (ends - timedelta(microseconds=1)).astimezone(ZoneInfo(table.timezone)).date(), owners
        )
    number = _company_number(symbol, known.date(), owners)
    return -1 if symbol in owners and company is not None and owners[symbol][number][1] != company else number
