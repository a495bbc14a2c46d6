"""Reading the newest values back from the online store: for people by symbol, for sequence experts as
windows.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from components.contracts import TIME
from components.feature_store.config import Settings
from components.feature_store.publication import SEQUENCE, FeatureStoreError, read_current
from components.feature_store.store import online_errors, open_store

_MOST_SUGGESTIONS = 3
# An online value as it comes from Feast.
VALUE = {
    "symbol": pl.String,
    "group": pl.String,
    "column": pl.String,
    "value": pl.Float64,
    "timestamp": TIME,
    "known_time": pl.Int64,
}


def newest_values(
    symbols: Sequence[str], settings: Settings, folder: str | os.PathLike, *, now: datetime | None = None
) -> pl.DataFrame:
    """Newest raw factor values of the symbols, as the online store holds them.

    Returns
    -------
    One row a symbol and column: `symbol`, `group`, `column`, `value` (Float64), `timestamp` (close of the bar
    that the value belongs to), `known_time`, `age_hours` (from `timestamp` to `now`), `behind` (the store has
    a newer bar of other symbols), `stale` (older than `stale_after_days`).

    Raises
    ------
    FeatureStoreError
        If no store is there or it lost the values, or for a symbol that it does not know; the message gives
        the closest names.
    """
    current = read_current(folder)
    require_symbols(symbols, current)
    found = _online_values(symbols, current, settings, folder)
    lost = (
        found.filter(pl.col("timestamp").is_null() | pl.col("known_time").is_null())["symbol"].unique().sort()
    )
    if len(lost):
        raise FeatureStoreError(
            f"The online store holds no values of {', '.join(lost[:_MOST_SUGGESTIONS])} ({len(lost)} of"
            f" {len(symbols)} symbols asked for), though they were written: it was emptied since. Run"
            " `alphaloop materialise`; it writes them anew."
        )
    age = pl.lit(now or datetime.now(UTC)).dt.convert_time_zone("UTC") - pl.col("timestamp")
    order = pl.DataFrame({"symbol": list(symbols)}).with_row_index("__order")
    return (
        found.with_columns(
            pl.from_epoch("known_time", "us").dt.replace_time_zone("UTC"),
            (age.dt.total_seconds() / 3600).alias("age_hours"),
            (pl.col("timestamp") < datetime.fromisoformat(current["newest"])).alias("behind"),
            (age > timedelta(days=settings.stale_after_days)).alias("stale"),
        )
        .join(order, on="symbol", how="left", maintain_order="left")
        .sort("__order", maintain_order=True)
        .drop("__order")
    )


def _online_values(
    symbols: Sequence[str], current: Mapping[str, Any], settings: Settings, folder: str | os.PathLike
) -> pl.DataFrame:
    """One row a symbol and raw column as Feast has it; columns VALUE, `known_time` in microseconds."""
    shown = set(current["raw_columns"] or current["columns"])
    wanted = [
        (group, column)
        for group, columns in current["views"].items()
        for column in columns
        if column in shown
    ]
    references = [f"{group}:{column}" for group, column in wanted]
    with online_errors(settings, folder):
        response = open_store(settings, folder).get_online_features(
            [*references, f"{SEQUENCE}:known_at_us"], [{"symbol": symbol} for symbol in symbols]
        )
    moments = _event_times(response, len(symbols))
    values = response.to_dict()
    frames = [
        {
            "symbol": list(symbols),
            "group": [group] * len(symbols),
            "column": [column] * len(symbols),
            "value": values[column],
            "timestamp": moments[column],
            "known_time": values["known_at_us"],
        }
        for group, column in wanted
    ]
    return pl.concat(pl.DataFrame(frame, schema=VALUE) for frame in frames)


def read_windows(
    store: Any, current: dict[str, Any], symbols: Sequence[str]
) -> tuple[np.ndarray, list[datetime]]:
    """What a sequence expert needs of each symbol, in one round trip.

    Parameters
    ----------
    store : from `open_store`
    current : from `read_current`

    Returns
    -------
    Float32 array of symbols x lookback_bars x inputs (oldest bar first, NaN where there is none), and the
    newest bar's timestamps.

    Raises
    ------
    FeatureStoreError
        For a symbol that the publication does not hold, or whose window is not online.
    """
    require_symbols(symbols, current)
    response = store.get_online_features([f"{SEQUENCE}:window"], [{"symbol": symbol} for symbol in symbols])
    values = response.to_dict()["window"]
    absent = [symbol for symbol, value in zip(symbols, values, strict=True) if value is None]
    if absent:
        raise FeatureStoreError(
            f"The online store holds no window of {', '.join(absent[:_MOST_SUGGESTIONS])} ({len(absent)}"
            " symbols). Run `alphaloop materialise`; it writes them anew."
        )
    shape = (current["lookback_bars"], len(current["columns"]))
    return (
        np.stack([np.frombuffer(value, dtype="<f4").reshape(shape) for value in values]),
        _event_times(response, len(symbols))["window"],
    )


def require_symbols(symbols: Sequence[str], current: dict[str, Any]) -> None:
    """Refuse symbols that the publication does not hold, each with the closest names that it does hold."""
    if not symbols:
        raise FeatureStoreError(
            "No symbol was given. Name one or more, for example `alphaloop lookup AAPL MSFT`."
        )
    known = {name.upper(): name for name in current["symbols"]}
    held, lines = set(known.values()), []
    for symbol in symbols:
        if symbol not in held:
            near = difflib.get_close_matches(symbol.upper(), known, n=_MOST_SUGGESTIONS, cutoff=0.5)
            hint = f"Closest: {', '.join(known[name] for name in near)}"
            if not near:
                hint = f"It starts with {', '.join(current['symbols'][:_MOST_SUGGESTIONS])}"
            lines.append(f"{symbol!r} is not in the feature store ({len(known)} symbols). {hint}.")
    if lines:
        raise FeatureStoreError("\n".join(lines))


def _event_times(response: Any, rows: int) -> dict[str, list[datetime | None]]:
    """Event timestamps of a Feast online response by feature, None where the store holds no row."""
    names = response.proto.metadata.feature_names.val
    moments = {}
    for name, result in zip(names, response.proto.results, strict=True):
        seconds = [stamp.seconds + stamp.nanos / 1e9 for stamp in result.event_timestamps]
        moments[name] = [
            datetime.fromtimestamp(second, UTC) if second > 0 else None for second in seconds
        ] or [None] * rows
    return moments
