"""What one row shows by itself, or beside the row above it in the source."""

from datetime import timedelta

import polars as pl

from components.validation.config import Settings
from components.validation.findings import NUMBERS, PRICES, concat, finding

# Columns that a panel may lack; a close there must be.
SPARE = ("open", "high", "low", "volume")
# Relative error allowed in low <= open, close <= high (prices stored in single precision).
PRICE_TOLERANCE = 1e-6
# Days after its end from which on a bar counts as filled in afterwards.
MAX_KNOWN_LAG_DAYS = 7


def absent_columns(raw: pl.DataFrame) -> tuple[str, ...]:
    """The prices and volume that the panel does not have: null in every row. A close there must be."""
    return tuple(name for name in SPARE if len(raw) and raw[name].null_count() == len(raw))


def filled(raw: pl.DataFrame, absent: tuple[str, ...]) -> pl.DataFrame:
    """`raw` with neutral values in absent columns: prices that add no range to the bar, and a volume that
    never changes.
    """
    raw = raw.with_columns(pl.col("close").alias("open")) if "open" in absent else raw
    neutral = {
        "high": pl.max_horizontal("open", "close"),
        "low": pl.min_horizontal("open", "close"),
        "volume": pl.lit(1.0),
    }
    return raw.with_columns(value.alias(name) for name, value in neutral.items() if name in absent)


def row_faults(numbered: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Faults that one row shows by itself; a row may have several."""
    time, event, known = pl.col("timestamp"), pl.col("event_time"), pl.col("known_time")
    high, low, volume = pl.col("high"), pl.col("low"), pl.col("volume")
    finite = pl.all_horizontal(*(pl.col(name).is_finite().fill_null(False) for name in NUMBERS))
    below_zero = pl.any_horizontal(*((pl.col(name) <= 0) & pl.col(name).is_finite() for name in PRICES))
    slack = 1 + PRICE_TOLERANCE
    above_high = pl.max_horizontal("open", "close", "low") > high * slack
    below_low = pl.min_horizontal("open", "close", "high") * slack < low
    moves = (high > low * slack) | (pl.col("open") != pl.col("close"))
    moving_is_faulty = pl.lit(settings.zero_volume == "quarantine_moving")
    conditions = {
        "missing_key": time.is_null() | pl.col("symbol").is_null(),
        "not_finite": ~finite,
        "not_positive": below_zero,
        "ohlc_order": finite & (above_high | below_low),
        "negative_volume": finite & (volume < 0),
        "impossible_times": (event >= time) | (known < time),
        "zero_volume_moving": finite & (volume == 0) & moves & moving_is_faulty,
        "known_late": known - time >= timedelta(days=MAX_KNOWN_LAG_DAYS),
    }
    flags = numbered.select(
        "row",
        "timestamp",
        "known_time",
        **{name: condition.fill_null(False) for name, condition in conditions.items()},
    )
    moment = {"known_late": known}
    return concat([finding(flags.filter(pl.col(name)), name, moment.get(name)) for name in conditions])


def time_reversals(numbered: pl.DataFrame) -> pl.DataFrame:
    """Rows whose timestamp lies before that of the same symbol's row above them in the source."""
    back = (pl.col("timestamp") < pl.col("timestamp").shift(1).over("symbol")).fill_null(False)
    return finding(numbered.filter(back), "time_reversal")
