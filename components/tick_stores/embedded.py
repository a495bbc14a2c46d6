"""Ticks kept in files of one machine: a log for what comes in, Parquet by day and symbol for what is sealed,
and DuckDB to read bars from both.

`log/SYMBOL/SESSION.arrows` takes appended rows. `seal` moves them to `days/DAY/SYMBOL/SESSION.parquet`, one
file for each day (UTC, by the collector's clock) that the session touches. What is in both counts once, so
that a seal that was cut off does no harm. Processes take turns at a session by a lock in `locks/`, which the
kernel takes from one that ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import polars as pl

from components.contracts.files import OutputError, atomic_path
from components.processes.locks import take_lock
from components.tick_stores import log
from components.tick_stores.errors import TickStoreError
from components.tick_stores.kept import COLUMNS, bars_of, nothing_of, once


@dataclass(frozen=True)
class EmbeddedStore:
    """A TickStore in `folder`."""

    folder: Path

    def append(self, ticks: pl.DataFrame) -> int:
        """Keep rows in the logs of their symbols and sessions; how many."""
        sessions = ticks.select(COLUMNS).group_by("symbol", "session", maintain_order=True)
        for (symbol, session), rows in sessions:
            with self._alone(symbol, session):
                log.append(self._log(symbol, session), rows)
        return ticks.height

    def seal(self, symbol: str, session: str) -> None:
        """Move what is in the log of a session to its Parquet files."""
        day = pl.from_epoch("ingest_ts", time_unit="ns").dt.date()
        with self._alone(symbol, session):
            ticks = self._kept(symbol, session, log.read(self._log(symbol, session)))
            for (date,), rows in ticks.group_by(day.alias("day"), maintain_order=True):
                with atomic_path(self.folder / "days" / f"{date}" / symbol / f"{session}.parquet") as path:
                    rows.select(COLUMNS).write_parquet(path, compression="zstd")
            self._log(symbol, session).unlink(missing_ok=True)

    def read(self, symbol: str, session: str) -> pl.DataFrame:
        """The ticks of a symbol's session in order, each once; TickStoreError where there are none, or one
        row is there with two contents.
        """
        return self._kept(symbol, session, self._logged(symbol, session))

    def require_same(self, ticks: pl.DataFrame) -> None:
        """TickStoreError where a row of `ticks` is kept with other content: appended, it would be in the way
        of those that are there.
        """
        for (symbol, session), rows in ticks.select(COLUMNS).group_by("symbol", "session"):
            logged = self._logged(symbol, session)
            once(pl.concat([*self._parts(symbol, session, logged), rows]), f"{self.folder}")

    def bars(self, symbol: str, session: str, step_ns: int) -> pl.DataFrame:
        """Bars of so many nanoseconds of what was traded, columns BAR_COLUMNS; errors as in `read`, and where
        a sum is too large to be held.
        """
        return bars_of(self.read(symbol, session), step_ns, f"{self.folder}")

    def _kept(self, symbol: str, session: str, logged: pl.DataFrame | None) -> pl.DataFrame:
        parts = self._parts(symbol, session, logged)
        if not parts:
            raise nothing_of(symbol, session, f"{self.folder}")
        return once(pl.concat(parts), f"{self.folder}")

    def _logged(self, symbol: str, session: str) -> pl.DataFrame | None:
        """What stands in the log. To be read before what is sealed: what is moved meanwhile is then met
        twice, not missed.
        """
        path = self._log(symbol, session)
        if not path.exists():
            return None
        with self._alone(symbol, session):
            return log.read(path)

    def _parts(self, symbol: str, session: str, logged: pl.DataFrame | None) -> list[pl.DataFrame]:
        """What is kept of a session, sealed and in the log."""
        place = f"days/*/{escape(symbol)}/{escape(session)}.parquet"
        found = [_sealed(path) for path in self.folder.glob(place)]
        return [part.select(COLUMNS) for part in (*found, logged) if part is not None]

    def _log(self, symbol: str, session: str) -> Path:
        return self.folder / "log" / symbol / f"{session}.arrows"

    @contextmanager
    def _alone(self, symbol: str, session: str) -> Iterator[None]:
        """Be the only process at the log of a session, as soon as others let go of it."""
        path = self.folder / "locks" / symbol / session
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = take_lock(path, wait=True)
        except OSError as error:
            raise OutputError(
                f"{path} could not be written: {error.strerror or error}. Check the path and the disk, then"
                " run again."
            ) from error
        with lock:
            yield


def _sealed(path: Path) -> pl.DataFrame:
    """A file of the store; TickStoreError where it is none."""
    try:
        return pl.read_parquet(path, glob=False).select(COLUMNS)
    except (pl.exceptions.PolarsError, OSError) as error:
        said = str(error).strip().splitlines()[0][:200]
        raise TickStoreError(
            f"{path} can't be read as ticks of a store: {said}. Remove it, and put its ticks into"
            " the store again."
        ) from error
