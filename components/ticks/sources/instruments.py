"""What whole ticks and lots of a recording's symbols are worth, found in its numbers, and numbers as such."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts.documents.instruments import Instrument
from components.ticks.config import InstrumentSettings
from components.ticks.errors import TicksError

# Decimals that an exchange may quote with; more are the noise of a computation.
MOST_DECIMALS = 10
# How far a number in floating point may lie off a whole multiple: its own resolution is 2e-16 of it.
OFF_GRID = 1e-4
RESOLUTION = 1e-14
SMALL = 1e9
# A whole number that floating point still tells from the next one.
LARGEST = 2**53


@dataclass(frozen=True)
class Values:
    """The distinct prices and quantities of a symbol as floating-point numbers; `source` is their file."""

    source: str
    symbol: str
    prices: np.ndarray
    quantities: np.ndarray


def instrument(values: Values, settings: InstrumentSettings | None) -> Instrument:
    """The coarsest steps of which all numbers are whole multiples, or those that the settings name.

    Raises
    ------
    TicksError
        If a number is not finite, too large, or fits no step.
    """
    asked = settings or InstrumentSettings()
    tick = asked.tick_size or _step(values, values.prices, "price", "tick_size")
    lot = asked.lot_size or _step(values, values.quantities, "quantity", "lot_size")
    _require_whole(values, values.prices, tick, "price", "tick_size")
    _require_whole(values, values.quantities, lot, "quantity", "lot_size")
    return Instrument(tick_size=tick, lot_size=lot)


def whole(column: str, size: float) -> pl.Expr:
    """A column of numbers as whole multiples of `size`; null stays null."""
    return (pl.col(column).cast(pl.Float64) / size).round().cast(pl.Int64)


def _step(values: Values, numbers: np.ndarray, what: str, setting: str) -> float:
    _require_finite(values, numbers, what)
    for decimals in range(MOST_DECIMALS + 1):
        scaled = numbers * 10.0**decimals
        if (np.abs(scaled) > LARGEST).any():
            break
        if _fits(scaled).all():
            step = int(np.gcd.reduce(np.abs(np.rint(scaled)).astype(np.int64))) if len(scaled) else 0
            return float(f"{max(step, 1)}e-{decimals}")
    raise TicksError(
        f"{values.source}: {what} of {values.symbol} fits no step down to 1e-{MOST_DECIMALS}. Name it in"
        f" ticks.instruments.{values.symbol}.{setting}, or mend the file."
    )


def _fits(scaled: np.ndarray) -> np.ndarray:
    size = np.abs(scaled)
    allowed = np.where(size < SMALL, OFF_GRID, RESOLUTION * size)
    return np.abs(scaled - np.rint(scaled)) <= allowed


def _require_finite(values: Values, numbers: np.ndarray, what: str) -> None:
    bad = ~np.isfinite(numbers)
    if bad.any():
        raise TicksError(
            f"{values.source}: {what} of {values.symbol} is {numbers[bad][0]} in a row. Numbers are expected;"
            " remove such rows or export the file again."
        )


def _require_whole(values: Values, numbers: np.ndarray, size: float, what: str, setting: str) -> None:
    _require_finite(values, numbers, what)
    scaled = numbers / size
    off = ~_fits(scaled)
    if off.any():
        raise TicksError(
            f"{values.source}: {what} {numbers[off][0]} of {values.symbol} is no multiple of"
            f" ticks.instruments.{values.symbol}.{setting}={size:g}. Name the exchange's step, or leave it"
            " out to have it found."
        )
    if (np.abs(scaled) > LARGEST).any():
        raise TicksError(
            f"{values.source}: {what} {numbers[np.abs(scaled) > LARGEST][0]:g} of {values.symbol} is too"
            f" large to be counted in steps of {size:g}. Mend the file."
        )


def wanted(found: list[str], asked: tuple[str, ...] | None, place: str, setting: str) -> list[str]:
    """Those of `found` that are asked for, all where `asked` is None.

    Raises
    ------
    TicksError
        If one that is asked for is not there, or nothing is.
    """
    missing = [name for name in asked or () if name not in found]
    if missing:
        raise TicksError(
            f"{place} has no {missing[0]!r} ({setting}); it has {', '.join(found[:10])}. Mend the name."
        )
    if not found:
        raise TicksError(f"{place} holds no events. Export it again.")
    return [name for name in found if asked is None or name in asked]


def read_or_refuse(read: Callable[[], pl.DataFrame], source: str) -> pl.DataFrame:
    """What `read` reads of a file; what Polars has against it becomes a TicksError."""
    try:
        return read()
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        said = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise TicksError(
            f"{source} can't be read as events: {said}. Check that it is whole, and that it is the file that"
            " the setting asks for."
        ) from error
