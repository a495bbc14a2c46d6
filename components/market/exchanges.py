"""Bars from a crypto exchange through ccxt, page by page; a bar is known one period after it opened."""

import difflib
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from components.market.bars import Bars
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.fetched import ask, late_starts, package, refuse_failures
from components.market.stamps import bar_times
from components.timeline.periods import LENGTHS

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")


def fetch_ccxt(settings: Settings, now: datetime) -> Bars:
    """Bars of `settings.symbols` (in ccxt's form, such as BTC/USDT), prices as traded, volume in the base
    currency.

    Raises
    ------
    MarketError
        For a missing package, an exchange, period or symbol that is not there, no answer, or an exchange's
        refusal.
    """
    ccxt = package("ccxt", "ccxt", "Install it with: pip install 'alphaloop[exchanges]'")
    exchange = _exchange(ccxt, settings)
    where = settings.ccxt.exchange
    try:
        ask(exchange.load_markets, settings, (ccxt.NetworkError,), where)
        _refuse_unknown(exchange, settings)
        frames, failed = [], {}
        for symbol in settings.symbols:
            frame = _symbol_bars(exchange, ccxt, symbol, settings, now)
            if frame.is_empty():
                failed[symbol] = f"no bar from {settings.start} on"
            else:
                frames.append(frame)
    except ccxt.BaseError as error:
        raise MarketError(
            f"{where} refused: {type(error).__name__}: {str(error).splitlines()[0][:200]}. Nothing was"
            " written."
        ) from error
    refuse_failures(failed, where)
    rows = bar_times(pl.concat(frames), settings.model_copy(update={"stamp": "bar_open"}), where)
    return Bars(rows, notes=late_starts(rows, settings))


def _exchange(ccxt: Any, settings: Settings) -> Any:
    name = settings.ccxt.exchange
    if name not in ccxt.exchanges:
        close = difflib.get_close_matches(name, ccxt.exchanges, n=3)
        raise MarketError(
            f"ccxt knows no exchange {name!r} (market.ccxt.exchange). "
            + (f"Close: {', '.join(close)}." if close else "ccxt.exchanges lists them.")
        )
    exchange = getattr(ccxt, name)({"enableRateLimit": True, "timeout": int(settings.fetch.timeout_s * 1000)})
    if exchange.has.get("fetchOHLCV") is not True:
        raise MarketError(f"{name} gives no bars (ccxt: fetchOHLCV). Choose another market.ccxt.exchange.")
    if settings.period not in exchange.timeframes:
        raise MarketError(
            f"{name} has no bars of {settings.period}. It has {', '.join(exchange.timeframes)}. Set"
            " market.period or market.ccxt.exchange."
        )
    return exchange


def _refuse_unknown(exchange: Any, settings: Settings) -> None:
    unknown = [symbol for symbol in settings.symbols if symbol not in exchange.markets]
    if unknown:
        close = difflib.get_close_matches(unknown[0], exchange.markets, n=3)
        raise MarketError(
            f"{settings.ccxt.exchange} has no market {', '.join(unknown[:5])} (market.symbols). "
            + (f"Close: {', '.join(close)}." if close else "Write them as ccxt does: BTC/USDT.")
        )


def _symbol_bars(exchange: Any, ccxt: Any, symbol: str, settings: Settings, now: datetime) -> pl.DataFrame:
    """All pages of one symbol.

    Every page moves on by a bar or more, also an empty one (before the listing), so it ends.
    """
    period_ms = int(LENGTHS[settings.period].total_seconds() * 1000)
    stop = (
        now
        if settings.end is None
        else min(now, datetime.combine(settings.end + timedelta(days=1), datetime.min.time(), UTC))
    )
    since, stop_ms = (
        _milliseconds(datetime.combine(settings.start, datetime.min.time(), UTC)),
        _milliseconds(stop),
    )
    bars: list[list[float]] = []
    while since < stop_ms:
        page = ask(
            lambda since=since: exchange.fetch_ohlcv(
                symbol, settings.period, since=since, limit=settings.ccxt.page_bars
            ),
            settings,
            (ccxt.NetworkError,),
            f"{settings.ccxt.exchange}, {symbol}",
        )
        fresh = sorted(bar for bar in page or [] if since <= bar[0] < stop_ms)
        bars += fresh
        since = int(fresh[-1][0]) + period_ms if fresh else since + period_ms * settings.ccxt.page_bars
    schema = {name: pl.Int64() if name == "timestamp" else pl.Float64() for name in COLUMNS}
    frame = pl.DataFrame([bar[: len(COLUMNS)] for bar in bars], schema=schema, orient="row", strict=False)
    return frame.select(
        pl.from_epoch("timestamp", time_unit="ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        pl.lit(symbol).alias("symbol"),
        *COLUMNS[1:],
    )


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
