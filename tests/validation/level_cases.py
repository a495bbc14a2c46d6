"""A small market, and what is planted into a symbol of it: faults of level, and honest events like them.

Each case changes one symbol from bar `at` on and says what must be found there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from components.contracts import RAW_PANEL, check_table

START = datetime(2020, 1, 6, 21, tzinfo=UTC)
PRICES = ("open", "high", "low", "close")
CUT = ("unadjusted_split", "currency_jump", "recycled_ticker")


@dataclass
class Bars:
    """One symbol's bars as arrays, (bars,); `there` says which of them the source has."""

    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    there: np.ndarray

    def scale(self, first: int, last: int | None, factor: float, volume: float = 1.0) -> None:
        """Another unit of prices and volume, from bar `first` up to before `last`."""
        for name in PRICES:
            getattr(self, name)[first:last] *= factor
        self.volume[first:last] *= volume

    def widen(self, first: int, last: int, ranges: float) -> None:
        """Ranges so many times as wide, about the open and close."""
        part = slice(first, last)
        top, bottom = np.maximum(self.open, self.close), np.minimum(self.open, self.close)
        span = np.log(self.high / self.low)[part]
        self.high[part] = top[part] * np.exp(span * (ranges - 1) / 2) * (self.high / top)[part]
        self.low[part] = bottom[part] / np.exp(span * (ranges - 1) / 2) * (self.low / bottom)[part]


def _walk(rng: np.random.Generator, market: np.ndarray, volatility: float) -> Bars:
    """A symbol: overnight and intraday moves, one of persistent volume that grows with the move."""
    bars = len(market)
    overnight = rng.standard_t(5, bars) * volatility * 0.35 + market * 0.4
    intraday = rng.standard_t(5, bars) * volatility * 0.65 + market * 0.6
    close = rng.uniform(5, 200) * np.exp(np.cumsum(overnight + intraday))
    opened = close / np.exp(intraday)
    wick = np.abs(rng.normal(0, volatility / 2, (2, bars)))
    noise = rng.normal(0, 0.25, bars)
    for bar in range(1, bars):
        noise[bar] += 0.6 * noise[bar - 1]
    size = np.abs(overnight + intraday) / volatility
    volume = np.round(rng.uniform(2e5, 5e6) * np.exp(noise + 0.25 * size))
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    return Bars(opened, top * np.exp(wick[0]), bottom / np.exp(wick[1]), close, volume, np.ones(bars, bool))


def market(seed: int, symbols: int, bars: int, *, wild: float = 0.0) -> list[Bars]:
    """Symbols of a market whose volatilities differ; with `wild` (share of the bars) some have news."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 0.008, bars)
    made = [_walk(rng, moves, rng.uniform(0.008, 0.03)) for _ in range(symbols)]
    for symbol in made:
        for at in np.flatnonzero(rng.random(bars) < wild):
            news(symbol, int(at), rng, rng.uniform(-0.4, 0.3))
    return made


def table(symbols: list[Bars]) -> pl.DataFrame:
    """The symbols S00, S01 ... as a raw panel."""
    bars = len(symbols[0].close)
    moments = [START + timedelta(days=bar) for bar in range(bars)]
    frames = [
        pl.DataFrame(
            {
                "timestamp": moments,
                "symbol": f"S{number:02}",
                "period": "1d",
                "event_time": [moment - timedelta(hours=7) for moment in moments],
                "known_time": moments,
                **{name: getattr(symbol, name) for name in (*PRICES, "volume")},
                "sector": "all",
            }
        ).filter(pl.Series(symbol.there))
        for number, symbol in enumerate(symbols)
    ]
    frame = pl.concat(frames).sort("timestamp", "symbol")
    types = {name: dtype for name, dtype in RAW_PANEL.columns.items() if name != "symbol"}
    return check_table(frame.cast(types), RAW_PANEL)


def news(symbol: Bars, at: int, rng: np.random.Generator, size: float, volume: float = 10.0) -> None:
    """An overnight gap on `volume` times the usual shares, which stay many for days, on a wide range."""
    symbol.scale(at, None, float(np.exp(size)))
    days = np.arange(len(symbol.volume) - at)
    symbol.volume[at:] *= 1 + (volume - 1) * np.exp(-days / 2) * rng.uniform(0.8, 1.25)
    symbol.widen(at, at + 1, 2 + 3 * abs(size))
    symbol.widen(at + 1, at + 3, 1.5)


def split(ratio: float, busy: float = 1.0) -> Callable:
    """`ratio` new shares for an old one, on `busy` times the usual value traded for two days."""

    def plant(symbol: Bars, at: int, rng: np.random.Generator) -> None:
        symbol.scale(at, None, 1 / ratio, ratio)
        symbol.volume[at : at + 2] *= busy
        symbol.widen(at, at + 1, 1 + 0.2 * (busy - 1))

    return plant


def unit(factor: float, bars: int | None = None, missing: int = 0, volume: float = 1.0) -> Callable:
    """Prices in another unit, for good or for so many `bars`, perhaps after `missing` bars."""

    def plant(symbol: Bars, at: int, rng: np.random.Generator) -> None:
        symbol.there[at : at + missing] = False
        symbol.scale(at, None if bars is None else at + bars, factor, volume)

    return plant


def lots(factor: float) -> Callable:
    """Volume in another unit from here on."""

    def plant(symbol: Bars, at: int, rng: np.random.Generator) -> None:
        symbol.volume[at:] *= factor

    return plant


def gap(size: float, volume: float) -> Callable:
    return lambda symbol, at, rng: news(symbol, at, rng, float(np.log(size)), volume)


def halt_and_crash(size: float, missing: int) -> Callable:
    """The exchange stops trading for some bars; what then trades is far lower, on many times the volume."""

    def plant(symbol: Bars, at: int, rng: np.random.Generator) -> None:
        symbol.there[at : at + missing] = False
        news(symbol, at + missing, rng, float(np.log(size)), 25.0)
        symbol.widen(at + missing, at + missing + 5, 2.0)

    return plant


def move(size: float, bars: int, volume: float, missing: int = 0) -> Callable:
    """A way over `bars` bars, on `volume` times the usual shares at its end; `missing` of them not there."""

    def plant(symbol: Bars, at: int, rng: np.random.Generator) -> None:
        share = np.clip((np.arange(len(symbol.close)) - at + 1) / bars, 0, 1)
        for name in PRICES:
            getattr(symbol, name)[:] *= size**share
        symbol.volume *= volume**share
        if volume > 2:
            symbol.widen(at, at + bars, 3.0)
        symbol.there[at : at + missing] = False

    return plant


def at_the_limit(limit: float, days: int, volume: float) -> Callable:
    """Days at one price each, a `limit` further every day, on `volume` times the usual shares."""

    def plant(symbol: Bars, at: int, rng: np.random.Generator) -> None:
        locked = symbol.close[at - 1] * (1 + limit) ** np.arange(1, days + 1)
        symbol.scale(at + days, None, locked[-1] / symbol.close[at + days - 1])
        for name in PRICES:
            getattr(symbol, name)[at : at + days] = locked
        symbol.volume[at : at + days] *= volume

    return plant


def spin_off(kept: float, busy: float) -> Callable:
    """Part of the value leaves overnight: a quiet new level on a busy day."""

    def plant(symbol: Bars, at: int, rng: np.random.Generator) -> None:
        symbol.scale(at, None, kept)
        symbol.volume[at : at + 4] *= np.array([1, 0.7, 0.5, 0.4]) * (busy - 1) + 1
        symbol.widen(at, at + 1, 1.6)

    return plant


def crowd(times: float, bars: int) -> Callable:
    """A month in which a crowd trades the share: many times the volume, ranges to match."""

    def plant(symbol: Bars, at: int, rng: np.random.Generator) -> None:
        symbol.volume[at : at + bars] *= times
        symbol.widen(at, at + bars, 3.5)

    return plant


def into_index(symbol: Bars, at: int, rng: np.random.Generator) -> None:
    """One day of twelve times the volume, and half as much again from then on."""
    symbol.volume[at:] *= 1.5
    symbol.volume[at] *= 8


# Name: what is planted, and the reasons of which one must be found at the symbol.
FAULTS: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "split 3:2, quiet": (split(3 / 2), CUT),
    "split 2:1, quiet": (split(2), CUT),
    "split 2:1, busy x2.5": (split(2, 2.5), CUT),
    "split 5:1, busy x2.5": (split(5, 2.5), CUT),
    "split 10:1, busy x3": (split(10, 3), CUT),
    "split 9:1, quiet": (split(9), CUT),
    "split 35:1, quiet": (split(35), CUT),
    "split 1:20, busy x2": (split(1 / 20, 2), CUT),
    "bonus 10 for 2": (split(1.2), ("bonus_issue", "unadjusted_split")),
    "bonus 10 for 3": (split(1.3), ("bonus_issue", "unadjusted_split")),
    "bonus 10 for 4": (split(1.4), ("bonus_issue", "unadjusted_split")),
    "bonus 10 for 8": (split(1.8), CUT),
    "currency x1.72": (unit(1.72), CUT),
    "unit /100": (unit(0.01), CUT),
    "1:1000 over 4 missing bars": (unit(1 / 1000, missing=4), CUT),
    "1:20 over a halt of 5 bars": (unit(20, missing=5, volume=1 / 20), CUT),
    "another coin after 15 bars": (unit(4e4, missing=15), CUT),
    "another coin after 30 bars": (unit(7, missing=30), CUT),
    "3 bars in pence": (unit(100, bars=3), ("other_unit",)),
    "6 bars in another currency": (unit(1 / 7.8, bars=6), ("other_unit",)),
    "volume in shares for lots": (lots(100), ("volume_unit",)),
    "volume in thousands": (lots(1e-3), ("volume_unit",)),
}

# Name: what is planted; none of it may be set aside.
HONEST: dict[str, Callable] = {
    "crash of 85 % over a halt": halt_and_crash(0.15, 4),
    "crash of 60 % over a long halt": halt_and_crash(0.4, 25),
    "slow fall over 12 missing bars": move(0.65, 12, 1.3, missing=12),
    "squeeze of 500 % in two weeks": move(6.0, 10, 15.0),
    "coin x10 in three weeks": move(10.0, 21, 6.0),
    "spin-off of 25 %": spin_off(0.75, 2.5),
    "spin-off of 29 %": spin_off(0.71, 3.5),
    "gap of -75 % on 20 x volume": gap(0.25, 20.0),
    "takeover at +50 %": gap(1.5, 25.0),
    "earnings gap of -30 %": gap(0.7, 8.0),
    "earnings gap of +25 %": gap(1.25, 6.0),
    "a crowd for a month": crowd(15.0, 22),
    "volume x10 over months": move(1.4, 120, 10.0),
    "taken into an index": into_index,
}


def planted(seed: int, cases: list[Callable], symbols: int, bars: int) -> tuple[pl.DataFrame, list[int]]:
    """A market with each of `cases` in a symbol of its own, the first ones; and the bars where they begin."""
    rng = np.random.default_rng([seed, 1])
    made = market(seed, max(symbols, len(cases)), bars)
    places = [int(rng.integers(bars // 3, 2 * bars // 3)) for _ in cases]
    for symbol, plant, at in zip(made, cases, places, strict=False):
        plant(symbol, at, rng)
    return table(made), places


def found_by_symbol(findings: pl.DataFrame, raw: pl.DataFrame) -> dict[str, set[str]]:
    """The reasons found, by symbol."""
    named = raw.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), "symbol")
    pairs = findings.join(named, on="row").select("symbol", "reason").unique()
    return {
        symbol: set(part["reason"]) for (symbol,), part in pairs.partition_by("symbol", as_dict=True).items()
    }
