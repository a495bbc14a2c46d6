"""Sends the history of a feature store's publication through the running service, bar by bar: for demos, load
tests and filling the answer log.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from datetime import time as clock
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.contracts import AlphaloopError
from components.feature_store.publication import SEQUENCE, read_current
from serving.client import Client

# Rows held in memory at a time.
_CHUNK_ROWS = 20_000
_KEYS = ("timestamp", "symbol")


class ReplayError(AlphaloopError):
    """The publication does not hold what the replay asks for."""


@dataclass(frozen=True)
class Replayed:
    """What was sent and answered; `stale` counts rows that the service called stale."""

    bars: int
    rows: int
    stale: int
    first: datetime
    last: datetime
    versions: tuple[int, ...]
    seconds: float


def replay(
    publication: Path,
    url: str,
    key: str | None = None,
    first: date | datetime | None = None,
    last: date | datetime | None = None,
    *,
    bars_per_second: float = 20.0,
    timeout_s: float = 30.0,
    tell: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Replayed:
    """Score the publication's bars from `first` to `last` (UTC, both included; a date means all of that day)
    in the order of time.

    Parameters
    ----------
    publication : folder `feature_store/data/<publication>`; see `current_publication`
    bars_per_second : at most so many requests a second
    tell : called after each bar with how many are done, how many there are, and which one it was

    Raises
    ------
    ReplayError
        If the publication lacks a column of the served model, or has no bar in these days.
    ServiceError
        If the service can't be reached or refuses a bar.
    """
    began = time.monotonic()
    with Client(url, key, timeout_s) as client:
        model = client.model()
        history = _History(publication, model)
        wanted = history.bars(first, last)
        rows = stale = 0
        versions: dict[int, None] = {}
        for done, (moment, frame) in enumerate(history.frames(wanted), start=1):
            due = began + (done - 1) / bars_per_second
            time.sleep(max(due - time.monotonic(), 0))
            answer = client.score(frame, cross_section="batch")
            rows += len(frame)
            stale += sum(signal["stale"] for signal in answer["signals"])
            versions[answer["model"]["version"]] = None
            tell(done, len(wanted), f"{moment:%Y-%m-%d %H:%M}")
    return Replayed(
        len(wanted), rows, stale, wanted[0], wanted[-1], tuple(versions), time.monotonic() - began
    )


def current_publication(store: Path) -> Path:
    """Folder of the publication that is online in the feature store's folder."""
    return store / "data" / read_current(store)["publication"]


class _History:
    """A publication's rows as the served model takes them."""

    def __init__(self, publication: Path, model: dict[str, Any]) -> None:
        self.names = [*model["inputs"], *model["context"]]
        self.inputs = len(model["inputs"])
        self.lookback_bars = int(model.get("lookback_bars") or 0)
        self.files = _files(publication, self.names)
        keys = pl.read_parquet(next(iter(self.files)), columns=list(_KEYS))
        self.timestamps = keys["timestamp"]
        self.moments = self.timestamps.unique(maintain_order=True)
        # Files of a publication are in the order of time: a bar is a slice.
        self.starts = np.append(
            self.timestamps.search_sorted(self.moments, side="left").to_numpy(), len(keys)
        ).astype(np.int64)
        self.symbols = keys["symbol"]
        code = self.symbols.rank("dense").to_numpy().astype(np.int64) - 1
        self.by_symbol = np.argsort(code, kind="stable")
        self.place = np.empty_like(self.by_symbol)
        self.place[self.by_symbol] = np.arange(len(code))
        self.symbol_start = np.searchsorted(code[self.by_symbol], code, side="left")

    def bars(self, first: date | datetime | None, last: date | datetime | None) -> list[datetime]:
        chosen = self.moments
        if first is not None:
            chosen = chosen.filter(chosen >= _moment(first, clock.min))
        if last is not None:
            chosen = chosen.filter(chosen <= _moment(last, clock.max))
        if chosen.is_empty():
            raise ReplayError(
                f"There is no bar from {first or 'the first'} to {last or 'the last'}; the publication holds"
                f" {self.moments[0]:%Y-%m-%d} to {self.moments[-1]:%Y-%m-%d}. Choose days among these."
            )
        return chosen.to_list()

    def frames(self, wanted: Sequence[datetime]) -> Iterator[tuple[datetime, pl.DataFrame]]:
        """Each wanted bar with all its rows."""
        first = int(self.moments.search_sorted(wanted[0]))
        bar, end = first, first + len(wanted)
        while bar < end:
            upto = max(
                int(np.searchsorted(self.starts, self.starts[bar] + _CHUNK_ROWS, side="right")) - 1, bar + 1
            )
            upto = min(upto, end)
            yield from self._chunk(bar, upto)
            bar = upto

    def _chunk(self, bar: int, upto: int) -> Iterator[tuple[datetime, pl.DataFrame]]:
        rows = np.arange(self.starts[bar], self.starts[upto])
        windows = self._window_rows(rows) if self.lookback_bars else None
        begin = int(rows[0] if windows is None else min(windows[windows >= 0].min(), rows[0]))
        columns = [
            pl.scan_parquet(path).slice(begin, int(rows[-1]) + 1 - begin).select(names).collect()
            for path, names in self.files.items()
        ]
        values = pl.concat(columns, how="horizontal").select(self.names)
        inputs = (
            values[:, : self.inputs].fill_null(float("nan")).to_numpy().astype("<f4")
            if windows is not None
            else None
        )
        for number in range(bar, upto):
            here = slice(int(self.starts[number]), int(self.starts[number + 1]))
            length = here.stop - here.start
            frame = values.slice(here.start - begin, length).with_columns(
                self.symbols.slice(here.start, length), self.timestamps.slice(here.start, length)
            )
            if windows is not None:
                of_bar = windows[here.start - rows[0] : here.stop - rows[0]]
                frame = frame.with_columns(_window_bytes(inputs, of_bar, begin))
            yield self.moments[number], frame

    def _window_rows(self, rows: np.ndarray) -> np.ndarray:
        """For each row the rows of its symbol's last bars [rows, lookback_bars], oldest first; -1 before the
        symbol's first.
        """
        places = self.place[rows][:, None] + np.arange(1 - self.lookback_bars, 1)
        found = self.by_symbol[np.maximum(places, 0)]
        return np.where(places >= self.symbol_start[rows][:, None], found, -1)


def _window_bytes(inputs: np.ndarray, rows: np.ndarray, begin: int) -> pl.Series:
    """Little-endian float32 windows as bytes, NaN before a symbol's first bar."""
    import pyarrow as pa

    windows = np.where((rows >= 0)[..., None], inputs[np.maximum(rows - begin, 0)], np.float32("nan")).astype(
        "<f4"
    )
    kind = pa.binary(windows[0].nbytes)
    return pl.Series(
        "window",
        pl.from_arrow(pa.Array.from_buffers(kind, len(windows), [None, pa.py_buffer(windows.tobytes())])),
    )


def _files(publication: Path, names: Sequence[str]) -> dict[Path, list[str]]:
    """Which file of the publication holds which of the model's columns."""
    found: dict[str, Path] = {}
    for path in sorted(publication.glob("*.parquet")):
        if path.stem != SEQUENCE:
            found.update(dict.fromkeys(pl.read_parquet_schema(path), path))
    missing = [name for name in names if name not in found]
    if missing:
        raise ReplayError(
            f"{publication} has no column {missing[0]!r} ({len(missing)} of the served model's {len(names)}"
            " are missing). Replay a publication of the features that the model was trained on."
        )
    return {
        path: [name for name in names if found[name] == path]
        for path in dict.fromkeys(found[name] for name in names)
    }


def _moment(day: date | datetime, at: clock) -> datetime:
    moment = day if isinstance(day, datetime) else datetime.combine(day, at)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
