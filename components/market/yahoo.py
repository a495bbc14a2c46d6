"""Bars from Yahoo Finance through yfinance: days in the session of their exchange, hours by their opening
time.
"""

import json
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from components.market.bars import Bars
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.fetched import ask, late_starts, package, refuse_failures
from components.market.stamps import bar_times
from components.timeline.periods import is_daily

NAMES = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Volume": "volume"}


def fetch_yahoo(settings: Settings, now: datetime) -> Bars:
    """Bars of `settings.symbols` from `settings.start` on.

    Adjusted prices are scaled by today's splits and dividends: returns are as traded, levels are not. The
    last hour of a session may be shorter than an hour; it counts as known a full hour after its opening, late
    being the safe side.

    Raises
    ------
    MarketError
        For the period 4h, which Yahoo does not have, a missing package, no answer, an unknown symbol, or an
        exchange in another time zone.
    """
    if settings.period == "4h":
        raise MarketError("Yahoo has no bars of 4h. Set market.period to 1d, 1h, 15m or 1m.")
    yfinance = package("yfinance", "yahoo", "Install it with: pip install 'alphaloop[yahoo]'")
    frames, failed = [], {}
    for symbol in settings.symbols:
        try:
            answer = ask(
                lambda symbol=symbol: _history(yfinance, symbol, settings),
                settings,
                (OSError, RuntimeError, json.JSONDecodeError, yfinance.exceptions.YFRateLimitError),
                f"Yahoo, {symbol}",
            )
        except yfinance.exceptions.YFException as error:
            failed[symbol] = str(error).splitlines()[0][:100]
            continue
        if answer is None or len(answer) == 0:
            failed[symbol] = "an empty answer"
        else:
            frames.append(_bars(answer, symbol, settings))
    refuse_failures(failed, "Yahoo")
    rows = pl.concat(frames)
    prices = (
        "adjusted for splits and dividends as of the fetch"
        if settings.yahoo.adjusted
        else "adjusted for splits, not for dividends"
    )
    return Bars(rows, notes=(f"Yahoo's prices are {prices}.", *late_starts(rows, settings)))


def _history(yfinance: Any, symbol: str, settings: Settings) -> Any:
    """A pandas frame whose index carries the exchange's zone. Yahoo's end is exclusive, ours is not."""
    return yfinance.Ticker(symbol).history(
        start=settings.start.isoformat(),
        end=(settings.end + timedelta(days=1)).isoformat() if settings.end else None,
        interval=settings.period,
        auto_adjust=settings.yahoo.adjusted,
        actions=False,
        raise_errors=True,
        timeout=settings.fetch.timeout_s,
    )


def _bars(answer: Any, symbol: str, settings: Settings) -> pl.DataFrame:
    zone = getattr(answer.index, "tz", None)
    missing = [name for name in NAMES if name not in answer.columns]
    if zone is None or missing:
        lacks = f"the columns {', '.join(missing)}" if missing else "a time zone"
        raise MarketError(
            f"Yahoo's answer for {symbol} lacks {lacks}: the installed yfinance answers in another form."
            " Upgrade it: pip install -U 'alphaloop[yahoo]'"
        )
    sessions = is_daily(settings.period) and not settings.yahoo.round_the_clock
    expected = settings.exchange_timezone if sessions else "UTC" if is_daily(settings.period) else str(zone)
    if str(zone) != expected:
        for_coins = " (for coins market.yahoo.round_the_clock: true)" if str(zone) == "UTC" else ""
        raise MarketError(
            f"{symbol} trades in the zone {zone}, not {expected}: its days would be known at a wrong hour."
            f" Set market.exchange_timezone, session_open and session_close{for_coins}, or load it in a"
            " config of its own."
        )
    frame = pl.DataFrame(
        {
            "timestamp": (
                pl.Series(answer.index.tz_convert("UTC").tz_localize(None).to_numpy())
                .cast(pl.Datetime("us"))
                .dt.replace_time_zone("UTC")
            ),
            "symbol": symbol,
        }
        | {column: answer[name].to_numpy() for name, column in NAMES.items()}
    ).with_columns(pl.col(*NAMES.values()).cast(pl.Float64).fill_nan(None))
    clock = settings.model_copy(update={"stamp": "session_date" if sessions else "bar_open"})
    return bar_times(frame, clock, f"Yahoo, {symbol}")
