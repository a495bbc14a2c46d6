"""Asks sources beyond files (Yahoo, exchanges, Wind) and keeps what they answered in a file, so that a run
repeats until it is fetched anew.
"""

import hashlib
import importlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from components.contracts import atomic_path
from components.market.bars import Bars
from components.market.config import FETCHED, Settings
from components.market.errors import MarketError

FOLDER = "fetched"
METADATA_KEY = "alphaloop.fetched"
NAMED = 5
# What of the settings decides about the answer; anything else may change without fetching again.
ASKED = (
    "source",
    "period",
    "symbols",
    "start",
    "end",
    "publication_lag_s",
    "exchange_timezone",
    "session_open",
    "session_close",
)


@dataclass(frozen=True)
class Fetched:
    """A file of fetched bars: its `path`, the `rows` in it, when it was fetched, and the source's `notes`."""

    path: Path
    rows: int
    fetched_at: datetime
    notes: tuple[str, ...]


def fetched_path(settings: Settings, data_folder: Path) -> Path:
    """Where the bars that `settings` ask for are kept: another question has another file."""
    values = settings.model_dump(mode="json")
    asked = {name: values[name] for name in (*ASKED, settings.source)}
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    return Path(data_folder) / FOLDER / f"{settings.source}-{settings.period}-{key}.parquet"


def fetch(settings: Settings, data_folder: Path, *, now: datetime | None = None) -> Fetched:
    """Ask the source and replace the kept file as a whole; a failure leaves the old one as it was.

    Bars that had not ended (and been published) by `now` are left out and counted in the notes.

    Raises
    ------
    MarketError
        If the source is none that is fetched, its package or terminal is missing, the network or a limit
        refuses, or a symbol is unknown or empty.
    """
    if settings.source not in FETCHED:
        raise MarketError(
            f"market.source {settings.source} is not fetched: it is read or made at each run. Sources that"
            f" are fetched: {', '.join(FETCHED)}."
        )
    now = now or datetime.now(UTC)
    answer = _fetcher(settings.source)(settings, now)
    final = answer.rows.filter(pl.col("known_time") <= now)
    notes = answer.notes
    if unfinished := len(answer.rows) - len(final):
        notes = (*notes, f"{unfinished:,} bars had not ended when they were fetched and were left out.")
    if final.is_empty():
        raise MarketError(
            f"{settings.source} gave no finished bar between market.start={settings.start} and"
            f" market.end={settings.end or 'now'}. Choose an earlier start."
        )
    if lost := sorted(set(answer.rows["symbol"]) - set(final["symbol"])):
        raise MarketError(
            f"{settings.source} has no finished bar of {_some(lost)} yet. Leave them out of market.symbols,"
            " or fetch later."
        )
    path = fetched_path(settings, data_folder)
    about = {"source": settings.source, "fetched_at": now.isoformat(), "notes": notes}
    with atomic_path(path) as temporary:
        final.write_parquet(temporary, compression="zstd", metadata={METADATA_KEY: json.dumps(about)})
    return Fetched(path, len(final), now, notes)


def kept_or_fetched(settings: Settings, data_folder: Path) -> Path:
    """The kept file; where there is none yet, it is fetched."""
    path = fetched_path(settings, data_folder)
    return path if path.is_file() else fetch(settings, data_folder).path


def read_fetched(settings: Settings, data_folder: Path, seed: int) -> Bars:
    """Bars of Yahoo, an exchange or Wind as they were fetched last."""
    path = kept_or_fetched(settings, data_folder)
    try:
        rows = pl.read_parquet(path)
        about = json.loads(pl.read_parquet_metadata(path)[METADATA_KEY])
    except (pl.exceptions.PolarsError, OSError, KeyError, ValueError) as error:
        raise MarketError(
            f"{path} is damaged or no file of fetched bars. Delete it, or fetch again with: alphaloop data"
            " fetch"
        ) from error
    said = (
        f"Bars of {settings.source} as fetched at {about['fetched_at'][:16].replace('T', ' ')} UTC"
        f" ({path.name}); alphaloop data fetch asks again."
    )
    return Bars(rows, notes=(said, *about["notes"]))


def package(name: str, source: str, install: str) -> ModuleType:
    """Import a package that only one source needs, or say how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise MarketError(
                f"The package {name} is there, but {error.name}, which it needs, is not. {install}"
            ) from error
        raise MarketError(
            f"market.source: {source} needs the package {name}, which is not installed. {install}"
        ) from error
    except (ImportError, OSError) as error:
        raise MarketError(f"The package {name} can't be loaded: {_reason(error)}. {install}") from error


def ask(
    question: Callable[[], Any], settings: Settings, again: tuple[type[BaseException], ...], what: str
) -> Any:
    """The answer to `question`, asked at most `fetch.attempts` times with growing pauses where it fails with
    one of `again`.
    """
    for attempt in range(settings.fetch.attempts):
        try:
            return question()
        except again as error:
            last = error
            if attempt + 1 < settings.fetch.attempts:
                time.sleep(settings.fetch.wait_s * 2**attempt)
    raise MarketError(
        f"{what}: no answer after {settings.fetch.attempts} attempts, last {type(last).__name__}:"
        f" {_reason(last)}. Check the network and the source's rate limit; market.fetch.attempts and"
        " market.fetch.wait_s set the patience. Nothing was written."
    ) from last


def refuse_failures(failed: dict[str, str], source: str) -> None:
    """Raise a MarketError that names the symbols without an answer, all at once."""
    if failed:
        shown = "; ".join(f"{symbol}: {reason}" for symbol, reason in list(failed.items())[:NAMED])
        more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        raise MarketError(
            f"{source} has no bars of {len(failed)} symbols ({shown}{more}). Mend their names, or leave them"
            " out of market.symbols. Nothing was written."
        )


def late_starts(rows: pl.DataFrame, settings: Settings) -> tuple[str, ...]:
    """A note on symbols whose bars begin more than a week after `settings.start`: listed later, or a partial
    answer.
    """
    begun = rows.group_by("symbol").agg(pl.col("event_time").min().alias("first")).sort("symbol")
    late = begun.filter(pl.col("first").dt.date() > settings.start + timedelta(days=7))
    if late.is_empty():
        return ()
    named = ", ".join(f"{row['symbol']} {row['first']:%Y-%m-%d}" for row in late.head(NAMED).to_dicts())
    return (
        (
            f"{len(late)} symbols begin later than market.start={settings.start} (listed later, or the source"
            f" keeps no more): {named}{', ...' if len(late) > NAMED else ''}."
        ),
    )


def _fetcher(source: str) -> Callable[[Settings, datetime], Bars]:
    """The function that asks `source`; imported here because the fetchers use this module."""
    name, function = {
        "yahoo": ("yahoo", "fetch_yahoo"),
        "ccxt": ("exchanges", "fetch_ccxt"),
        "wind": ("wind", "fetch_wind"),
    }[source]
    return getattr(importlib.import_module(f"components.market.{name}"), function)


def _reason(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
