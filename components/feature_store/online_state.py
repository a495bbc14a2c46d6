"""Whether the online store still holds what was put there: a file can be deleted, and a Redis server may lose
its memory, while everything else says that the values are online.
"""

import contextlib
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.feature_store.config import Settings
from components.feature_store.publication import SEQUENCE
from components.feature_store.redis_address import parse_redis_address

if TYPE_CHECKING:
    from redis import Redis

_WAIT_S = 5.0


def holds_online(publication: Mapping[str, Any], settings: Settings, folder: Path) -> bool:
    """Whether the values of a publication are online: the rows of all its symbols in SQLite, or the mark that
    `mark_online` left in Redis.

    False as well where the store does not answer: writing to it will say why.
    """
    if settings.online == "redis":
        from redis.exceptions import RedisError

        address = os.environ.get(settings.redis_variable, "")
        if not address:
            return False
        try:
            with contextlib.closing(_client(address, settings)) as redis:
                return redis.get(_mark(settings)) == publication["publication"].encode()
        except RedisError:
            return False
    database = folder / "online.db"
    if not (folder / "registry.db").is_file() or not database.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            table = f"{settings.project}_{SEQUENCE}"
            (rows,) = connection.execute(f'SELECT count(DISTINCT entity_key) FROM "{table}"').fetchone()
            return rows >= len(publication["symbols"])
    except sqlite3.Error:
        return False


def mark_online(publication: Mapping[str, Any], settings: Settings) -> None:
    """Leave a mark beside values that were just written to Redis; it is lost when they are."""
    if settings.online == "redis":
        with contextlib.closing(_client(os.environ[settings.redis_variable], settings)) as redis:
            redis.set(_mark(settings), publication["publication"])


def _client(address: str, settings: Settings) -> "Redis":
    from redis import Redis

    host, port, options = parse_redis_address(address, settings.redis_variable)
    typed = {
        name: {"true": True, "false": False}.get(value.lower(), value) for name, value in options.items()
    }
    waits = {"socket_timeout": _WAIT_S, "socket_connect_timeout": _WAIT_S}
    return Redis(**{"host": host, "port": port, **waits, **typed})


def _mark(settings: Settings) -> str:
    return f"alphaloop:{settings.project}:online"
