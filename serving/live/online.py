"""Reads the newest features from Feast's online store, in one round trip.

Shapes: B rows, F inputs, C context columns, L bars of a window.
"""

import os
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.contracts import AlphaloopError
from components.feature_store.closes import Closes
from components.feature_store.config import Settings as FeatureStoreSettings
from components.feature_store.online_universe import read_online_universe
from components.feature_store.publication import (
    CURRENT,
    SEQUENCE,
    FeatureStoreError,
    read_current,
    row_type,
)

_CHUNK = 500
_STORE_WAIT_S = 2.0
# What a description of a publication always holds, and rows can't be read without.
_DESCRIBED = ("columns", "context", "symbols", "schema", "period", "lookback_bars")


class StoreUnavailable(AlphaloopError):
    """The online store did not give what was asked of it, or not in time."""


@dataclass(frozen=True)
class OnlineRows:
    """Newest features of symbols: int64 [B] times (microseconds since 1970), float32 `values` [B, F + C],
    `window` [B, L, F] or None, `past` float32 [B, R], the log returns of the symbol's last R bars, oldest
    first; R is 0 where the publication holds none.
    """

    timestamps_us: np.ndarray
    known_us: np.ndarray
    values: np.ndarray
    window: np.ndarray | None
    past: np.ndarray


class OnlineReader:
    """Reads one publication through Feast's online store. Safe to use from several threads.

    Raises
    ------
    FeatureStoreError
        If there is no store, no publication, or the Redis connection is not set.
    """

    def __init__(self, settings: FeatureStoreSettings, folder: Path):
        from components.feature_store.feast_import import import_feast
        from components.feature_store.store import open_store

        self.current = read_current(folder)
        self._database = folder / "online.db" if settings.online == "sqlite" else None
        self._inode = _inode(self._database) if self._database else None
        # SQLite would make an empty database where there is none.
        if self._database and self._inode is None:
            raise FeatureStoreError(
                f"{self._database} is missing, so there are no online values. Run `alphaloop materialise`; it"
                " writes them anew."
            )
        import_feast()
        store = open_store(settings, folder)
        self._config, self._view = store.config, store.get_feature_view(SEQUENCE)
        if "row" not in {field.name for field in self._view.features}:
            raise FeatureStoreError(
                f"Publication {self.current['publication']} was made before serving existed. Run `alphaloop"
                " materialise` again."
            )
        lacking = [name for name in _DESCRIBED if name not in self.current]
        if lacking:
            raise FeatureStoreError(
                f"{folder / CURRENT} lacks {lacking[0]!r}, so nobody can tell what is online. Run `alphaloop"
                " materialise`; it writes it anew."
            )
        self._online = store._get_provider().online_store
        self._of_thread = threading.local()
        self._remedy = ""
        if settings.online == "redis":
            self._remedy = f". Start the Redis server, or correct what {settings.redis_variable} says of it"
            try:
                _bound_waits(self._online._get_client(self._config.online_store))
            except TypeError as error:
                raise FeatureStoreError(
                    f"{settings.redis_variable} holds a setting that the Redis client does not know: {error}."
                    " Write it as host:port,db=0,password=..."
                ) from None
        self.columns, self.context = tuple(self.current["columns"]), tuple(self.current["context"])
        self._closes = Closes.of(self.current, source=str(folder / CURRENT))
        self.symbols = tuple(self.current["symbols"])
        # Stores from before the universe was put beside the rows do not say it.
        self.universe = read_online_universe(self.current, source=str(folder / CURRENT))
        self.places = {symbol: place for place, symbol in enumerate(self.symbols)}
        self._width = len(self.columns) + len(self.context)
        # Publications from before books had a volatility hold no past returns.
        self._type = row_type(self._width + self.current.get("past_return_bars", 0))
        self._keys = _entity_keys(self.symbols)

    def read(self, places: Sequence[int], *, lookback_bars: int = 0) -> OnlineRows:
        """Newest features of the symbols at these places of `symbols`, with their windows where
        `lookback_bars` is not 0.

        Raises
        ------
        StoreUnavailable
            If the store does not answer, lacks a symbol, or holds rows of another schema.
        """
        if self._database and _inode(self._database) != self._inode:
            raise StoreUnavailable(f"{self._database} is gone or was replaced.")
        wanted = ["row", "window"] if lookback_bars else ["row"]
        try:
            found = self._online_store().online_read(
                self._config, self._view, [self._keys[place] for place in places], wanted
            )
        except (sqlite3.Error, OSError, _redis_error()) as error:
            raise StoreUnavailable(
                f"The online store did not answer ({type(error).__name__}: {error}){self._remedy}."
            ) from error
        values = [value or {} for _, value in found]
        packed = np.frombuffer(
            b"".join(self._bytes(values, "row", self._type.itemsize, places)), dtype=self._type
        )
        if (packed["schema"] != self.current["schema"].encode()).any():
            raise StoreUnavailable(
                "The online store holds rows of another schema: a new publication is being written."
            )
        window = self._window(values, places, lookback_bars) if lookback_bars else None
        row = packed["values"].astype(np.float32)
        return OnlineRows(
            packed["timestamp_us"].astype(np.int64),
            packed["known_at_us"].astype(np.int64),
            row[:, : self._width],
            window,
            row[:, self._width :],
        )

    def read_all(self, *, lookback_bars: int = 0) -> OnlineRows:
        """Newest features of all symbols of the publication."""
        everything = range(len(self.symbols))
        parts = [
            self.read(everything[start : start + _CHUNK], lookback_bars=lookback_bars)
            for start in range(0, len(everything), _CHUNK)
        ]
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("timestamps_us", "known_us", "values", "past")
        }
        window = np.concatenate([part.window for part in parts]) if lookback_bars else None
        return OnlineRows(**joined, window=window)

    def closes(self, timestamps_us: np.ndarray) -> np.ndarray:
        """The close of each symbol's bar at these times, float64 [all symbols]; NaN where it is unknown."""
        bars = zip(self.symbols, timestamps_us.tolist(), strict=True)
        return np.array([self._closes.at(symbol, moment) for symbol, moment in bars])

    def _online_store(self) -> Any:
        """Feast's online store for the calling thread.

        Threads share a Redis client, but never a SQLite connection: one that waits for
        a lock would hold up the others, and with them the whole process."""
        if self._database is None:
            return self._online
        own = getattr(self._of_thread, "store", None)
        if own is None:
            own = self._of_thread.store = type(self._online)()
            own._get_conn(self._config).execute(f"PRAGMA busy_timeout = {int(_STORE_WAIT_S * 1000)}")
        return own

    def _window(
        self, values: Sequence[Mapping[str, Any]], places: Sequence[int], lookback_bars: int
    ) -> np.ndarray:
        shape = (len(values), self.current["lookback_bars"], len(self.columns))
        parts = self._bytes(values, "window", 4 * shape[1] * shape[2], places)
        return (
            np.frombuffer(b"".join(parts), dtype="<f4")
            .reshape(shape)[:, shape[1] - lookback_bars :]
            .astype(np.float32)
        )

    def _bytes(
        self, values: Sequence[Mapping[str, Any]], name: str, length: int, places: Sequence[int]
    ) -> list[bytes]:
        parts = [value[name].bytes_val if name in value else b"" for value in values]
        for part, place in zip(parts, places, strict=True):
            if len(part) != length:
                raise StoreUnavailable(
                    f"The online store holds no usable {name!r} of {self.symbols[place]} ({len(part)} bytes,"
                    f" expected {length})."
                )
        return parts


def store_signature(settings: FeatureStoreSettings, folder: Path) -> tuple:
    """Changes when another publication goes online, or the online database is replaced."""
    parts = [_signature(folder / "current.json"), _signature(folder / "registry.db")]
    return (*parts, _inode(folder / "online.db")) if settings.online == "sqlite" else tuple(parts)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _entity_keys(symbols: Sequence[str]) -> list[Any]:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return [EntityKey(join_keys=["symbol"], entity_values=[Value(string_val=symbol)]) for symbol in symbols]


def _redis_error() -> type[Exception]:
    from redis.exceptions import RedisError

    return RedisError


def _bound_waits(client: Any) -> None:
    """A Redis that takes a connection and then says nothing must not hold a thread for ever."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        for name in ("socket_timeout", "socket_connect_timeout"):
            pool.connection_kwargs[name] = pool.connection_kwargs.get(name) or _STORE_WAIT_S
        # One try more mends a connection that the server closed; the library's default goes on for seconds.
        client.set_retry(Retry(NoBackoff(), 1))
