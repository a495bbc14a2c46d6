"""Daily bars and industries of China A shares from a Wind terminal through WindPy."""

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from components.market.bars import Bars
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.fetched import ask, late_starts, package, refuse_failures
from components.market.stamps import bar_times
from components.timeline.periods import is_daily

ZONE = "Asia/Shanghai"
FIELDS = ("open", "high", "low", "close", "volume")
ADJUSTMENTS = {"none": "", "forward": "PriceAdj=F", "backward": "PriceAdj=B"}
TIMED_OUT, NO_DATA = -40521010, -40520007
CODES_AT_ONCE = 1000


class _TimedOut(Exception):
    """Wind's answer that it had no time."""


def fetch_wind(settings: Settings, now: datetime) -> Bars:
    """Daily bars of `settings.symbols` (600000.SH) or of the members of `wind.sector_id`, with the industry
    as of each year's first look.

    Industries are looked up on the first day and on each January 1st; a label counts from the day after its
    look on.

    Raises
    ------
    MarketError
        For another period or clock than China's days, a missing terminal, a refusal (with Wind's code and
        words), an unknown symbol or an empty answer.
    """
    if not is_daily(settings.period) or settings.exchange_timezone != ZONE:
        raise MarketError(
            "market.source: wind gives daily bars of China. Set market.period: 1d, market.exchange_timezone:"
            f" {ZONE}, market.session_open: 09:30 and market.session_close: 15:00."
        )
    terminal = package(
        "WindPy",
        "wind",
        "It comes with the Wind terminal: install the terminal, then its Python interface from the terminal's"
        " own menu.",
    ).w
    _answer(
        lambda: terminal.start(waitTime=int(settings.fetch.timeout_s)),
        settings,
        "the start of the terminal (log in to it first)",
    )
    last = settings.end or now.astimezone(ZoneInfo(ZONE)).date()
    codes, notes = (settings.symbols, ()) if settings.symbols else _members(terminal, last, settings)
    frames, failed = [], {}
    for code in codes:
        frame = _code_bars(terminal, code, last, settings)
        if frame.is_empty():
            failed[code] = "an empty answer"
        else:
            frames.append(frame)
    refuse_failures(failed, "Wind")
    rows = bar_times(pl.concat(frames), settings.model_copy(update={"stamp": "session_date"}), "Wind")
    if settings.wind.industry:
        rows = _with_industry(rows, _industries(terminal, codes, last, settings))
    prices = {
        "none": "as traded",
        "forward": "adjusted to the newest price as of the fetch",
        "backward": "adjusted to the oldest price",
    }[settings.wind.adjusted]
    return Bars(rows, notes=(f"Wind's prices are {prices}.", *notes, *late_starts(rows, settings)))


def _answer(question: Any, settings: Settings, what: str) -> Any:
    """Wind's answer with ErrorCode 0; None where it has no data."""

    def asked() -> Any:
        answer = question()
        if answer.ErrorCode == TIMED_OUT:
            raise _TimedOut(_words(answer))
        return answer

    answer = ask(asked, settings, (_TimedOut, OSError), f"Wind, {what}")
    if answer.ErrorCode == NO_DATA:
        return None
    if answer.ErrorCode != 0:
        raise MarketError(
            f"Wind refused {what}: code {answer.ErrorCode}, {_words(answer)}. Look the code up in the"
            " terminal's help. Nothing was written."
        )
    return answer


def _words(answer: Any) -> str:
    data = getattr(answer, "Data", None) or [[]]
    return str(data[0][0])[:200] if data[0] else "no words"


def _members(terminal: Any, last: date, settings: Settings) -> tuple[list[str], tuple[str, ...]]:
    answer = _answer(
        lambda: terminal.wset("sectorconstituent", f"date={last};sectorid={settings.wind.sector_id}"),
        settings,
        f"the members of {settings.wind.sector_id}",
    )
    fields = [name.lower() for name in answer.Fields] if answer else []
    if "wind_code" not in fields or not answer.Data[fields.index("wind_code")]:
        raise MarketError(
            f"Wind names no members of market.wind.sector_id={settings.wind.sector_id} on {last}. Check the"
            " id, or list market.symbols."
        )
    codes = list(answer.Data[fields.index("wind_code")])
    return codes, (
        f"The {len(codes)} symbols are the members of {settings.wind.sector_id} on {last}: survivors only.",
    )


def _code_bars(terminal: Any, code: str, last: date, settings: Settings) -> pl.DataFrame:
    options = ADJUSTMENTS[settings.wind.adjusted]
    answer = _answer(
        lambda: terminal.wsd(code, ",".join(FIELDS), str(settings.start), str(last), options),
        settings,
        f"the bars of {code}",
    )
    schema = {"timestamp": pl.Date(), "symbol": pl.String(), **{name: pl.Float64() for name in FIELDS}}
    if answer is None:
        return pl.DataFrame(schema=schema)
    fields = [name.lower() for name in answer.Fields]
    lengths = {len(column) for column in answer.Data}
    if sorted(fields) != sorted(FIELDS) or lengths != {len(answer.Times)}:
        raise MarketError(
            f"Wind's answer for {code} is incomplete: fields {', '.join(fields)}, {len(answer.Times)} days,"
            f" columns of {sorted(lengths)} values. Fetch again."
        )
    days = [moment.date() if isinstance(moment, datetime) else moment for moment in answer.Times]
    frame = pl.DataFrame(
        {"timestamp": days, "symbol": [code] * len(days), **dict(zip(fields, answer.Data, strict=True))},
        schema_overrides=schema,
        strict=False,
    )
    frame = frame.select(*schema).with_columns(pl.col(*FIELDS).fill_nan(None))
    return frame.filter(pl.any_horizontal(pl.col("open", "high", "low", "close").is_not_null()))


def _industries(terminal: Any, codes: list[str], last: date, settings: Settings) -> pl.DataFrame:
    """Columns `symbol`, `day` from which on it counts, `sector`."""
    looks = [settings.start, *(date(year, 1, 1) for year in range(settings.start.year + 1, last.year + 1))]
    parts = []
    for look in looks:
        for first in range(0, len(codes), CODES_AT_ONCE):
            some = codes[first : first + CODES_AT_ONCE]
            options = f"tradeDate={look:%Y%m%d};industryType={settings.wind.industry_level}"
            answer = _answer(
                lambda some=some, options=options: terminal.wss(some, settings.wind.industry, options),
                settings,
                f"{settings.wind.industry} on {look}",
            )
            if answer is not None:
                parts.append(
                    pl.DataFrame(
                        {"symbol": answer.Codes, "sector": answer.Data[0]},
                        schema={"symbol": pl.String(), "sector": pl.String()},
                    ).with_columns(day=look + timedelta(days=1))
                )
    return (
        pl.concat(parts)
        if parts
        else pl.DataFrame(schema={"symbol": pl.String(), "sector": pl.String(), "day": pl.Date()})
    )


def _with_industry(rows: pl.DataFrame, industries: pl.DataFrame) -> pl.DataFrame:
    dated = rows.with_row_index("place").with_columns(pl.col("timestamp").dt.date().alias("day")).sort("day")
    joined = dated.join_asof(
        industries.drop_nulls().sort("day"),
        on="day",
        by="symbol",
        strategy="backward",
        check_sortedness=False,
    )
    return joined.sort("place").drop("place", "day")
