"""Reads the newest features from Feast's online store, in one round trip, and keeps a snapshot of the whole
market.

Shapes: B rows, F inputs, C context columns, L bars of a window.
"""

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from components.contracts import AlphaloopError, ContractError
from components.feature_store.config import Settings as FeatureStoreSettings
from components.feature_store.publication import SEQUENCE, FeatureStoreError, read_current, row_type
from components.scoring import CrossSection, ExpertOutputs, Model, Scores
from components.sizing import long_short_weights

_CHUNK = 500
_STORE_WAIT_S = 2.0


class StoreUnavailable(AlphaloopError):
    """The online store did not give what was asked of it, or not in time."""


@dataclass(frozen=True)
class Book:
    """How one new long-short book is sized; the fields of `components.sizing.Book`."""

    quantile: float
    top_k: int
    top_k_max_share: float
    gross_exposure: float
    max_weight: float
    sizing: str
    skip_share: float

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Book":
        """The book that the model was judged with."""
        try:
            settings = manifest["config"]["backtest"]
            return cls(**{field.name: settings[field.name] for field in fields(cls)})
        except (KeyError, TypeError) as error:
            raise ContractError(
                f"The bundle's manifest does not say how its book is sized (config.backtest: {error}). Train"
                " the model again."
            ) from error


@dataclass(frozen=True)
class Rows:
    """Newest features of symbols: int64 [B] times (microseconds since 1970), float32 `values` [B, F + C],
    `window` [B, L, F] or None.
    """

    timestamps_us: np.ndarray
    known_us: np.ndarray
    values: np.ndarray
    window: np.ndarray | None


class OnlineReader:
    """Reads one publication through Feast's online store. Safe to use from several threads.

    Raises
    ------
    FeatureStoreError
        If there is no store, no publication, or the Redis connection is not set.
    """

    def __init__(self, settings: FeatureStoreSettings, folder: Path):
        # Feast imports torch where it finds it; the service has no use for it and would wait a second.
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
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
        store = open_store(settings, folder)
        self._config, self._view = store.config, store.get_feature_view(SEQUENCE)
        if "row" not in {field.name for field in self._view.features}:
            raise FeatureStoreError(
                f"Publication {self.current['publication']} was made before serving existed. Run `alphaloop"
                " materialise` again."
            )
        self._online = store._get_provider().online_store
        self._of_thread = threading.local()
        if settings.online == "redis":
            _bound_waits(self._online._get_client(self._config.online_store))
        self.columns, self.context = tuple(self.current["columns"]), tuple(self.current["context"])
        self.symbols = tuple(self.current["symbols"])
        self.places = {symbol: place for place, symbol in enumerate(self.symbols)}
        self._type = row_type(len(self.columns) + len(self.context))
        self._keys = _entity_keys(self.symbols)

    def read(self, places: Sequence[int], *, lookback_bars: int = 0) -> Rows:
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
                f"The online store did not answer ({type(error).__name__}: {error})."
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
        return Rows(
            packed["timestamp_us"].astype(np.int64),
            packed["known_at_us"].astype(np.int64),
            packed["values"].astype(np.float32),
            window,
        )

    def read_all(self, *, lookback_bars: int = 0) -> Rows:
        """Newest features of all symbols of the publication."""
        everything = range(len(self.symbols))
        parts = [
            self.read(everything[start : start + _CHUNK], lookback_bars=lookback_bars)
            for start in range(0, len(everything), _CHUNK)
        ]
        joined = [
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("timestamps_us", "known_us", "values")
        ]
        return Rows(*joined, np.concatenate([part.window for part in parts]) if lookback_bars else None)

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


@dataclass(frozen=True)
class Market:
    """The whole universe at one moment, scored: arrays are [B] in the order of `symbols`.

    `rows.values` are in the model's order. `weights` is the book that a new long-short portfolio would hold
    now; 0 for symbols that are behind.
    """

    publication: str
    symbols: tuple[str, ...]
    places: Mapping[str, int]
    newest_us: int
    rows: Rows
    cross_section: CrossSection
    scores: Scores
    weights: np.ndarray
    behind: np.ndarray
    read_at: float

    @property
    def book_scores(self) -> np.ndarray:
        """Scores of the names that take part in the book, NaN for those behind."""
        return np.where(self.behind, np.nan, self.scores.score)


def read_market(reader: OnlineReader, model: Model, book: Book) -> Market:
    """Read the whole universe, score it, and form the book of the newest bar.

    The cross-section is that of the symbols that have that bar.

    Experts that look across symbols see the symbols of that bar alone. A symbol that is behind is scored as
    if its last row stood beside them.
    """
    rows = reader.read_all(lookback_bars=model.lookback_bars)
    newest_us = int(rows.timestamps_us.max())
    behind = rows.timestamps_us < newest_us
    inputs, context = split(rows.values, reader, model)
    current = ~behind
    outputs = model.expert_outputs(
        inputs[current], context[current], rows.window[current] if rows.window is not None else None
    )
    cross_section = model.cross_section(outputs)
    scores = model.combine(
        _with_those_behind(model, outputs, inputs, context, rows.window, current), context, cross_section
    )
    taking_part = np.where(behind, np.nan, scores.score)[None]
    return Market(
        publication=reader.current["publication"],
        symbols=reader.symbols,
        places=reader.places,
        newest_us=newest_us,
        rows=Rows(rows.timestamps_us, rows.known_us, np.concatenate([inputs, context], axis=1), None),
        cross_section=cross_section,
        scores=scores,
        weights=long_short_weights(taking_part, scores.uncertainty[None], book)[0],
        behind=behind,
        read_at=time.time(),
    )


def _with_those_behind(
    model: Model,
    current: ExpertOutputs,
    inputs: np.ndarray,
    context: np.ndarray,
    window: np.ndarray | None,
    is_current: np.ndarray,
) -> ExpertOutputs:
    """Outputs of all symbols [E, B]: those of the newest bar as they are, those behind from a pass over all
    together.
    """
    if is_current.all():
        return current
    outputs = model.expert_outputs(inputs, context, window)
    for found, own in ((outputs.score, current.score), (outputs.uncertainty, current.uncertainty)):
        found[:, is_current] = own
    return outputs


def split(values: np.ndarray, reader: OnlineReader, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [B, F] and the model's context [B, C] from the online values [B, F + C]."""
    width = len(reader.columns)
    return (
        np.ascontiguousarray(values[:, :width]),
        values[:, [width + reader.context.index(name) for name in model.context]],
    )


class Reads:
    """Runs reads of the store in threads of their own and gives each only so long: one that is stuck can't
    hold up an answer.

    After a read that failed or took too long the store counts as gone: further requests do not try it until
    `reopen` is called, which the watcher does after a read that went well.
    """

    def __init__(self, threads: int):
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._places = threading.BoundedSemaphore(threads)
        self.problem: str | None = "the online store was not read yet"

    def submit(self, work: Callable[[], Any]) -> Future | None:
        """Start `work`; None where every thread is taken by reads that hang."""
        if not self._places.acquire(blocking=False):
            return None
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: self._places.release())
        return future

    def give_up(self, problem: str) -> None:
        """Stop trying the store until `reopen`."""
        self.problem = problem

    def reopen(self) -> None:
        """The store answers again."""
        self.problem = None

    def close(self) -> None:
        """Let go of the threads; reads that hang are left behind."""
        self._pool.shutdown(wait=False, cancel_futures=True)


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
