"""The stores that tests of stores share."""

from collections.abc import Iterator
from typing import Any

import pytest

from components.tick_stores.embedded import EmbeddedStore
from components.tick_stores.protocol import TickStore
from tests.stores import Server, clickhouse_server
from tests.tick_stores.stores import database, in_process, store_at


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[Server]:
    """A ClickHouse server for all tests of a session; use a database of one's own."""
    pytest.importorskip("clickhouse_driver", reason="clickhouse-driver is missing: alphaloop[clickhouse]")
    with clickhouse_server() as server:
        yield server


@pytest.fixture(scope="session")
def chdb_session() -> Iterator[Any]:
    """ClickHouse of today within this process."""
    chdb = pytest.importorskip("chdb.session", reason="chdb is not installed (ClickHouse in process, 534 MB)")
    session = chdb.Session()
    yield session
    session.close()


@pytest.fixture(params=["folder", "server", "process"])
def store(request, tmp_path) -> TickStore:
    """An empty store: in a folder, at a server of Debian's age, and in ClickHouse of today."""
    if request.param == "folder":
        return EmbeddedStore(tmp_path / "store")
    if request.param == "server":
        server = request.getfixturevalue("clickhouse")
        return store_at(server, database(server))
    return in_process(request.getfixturevalue("chdb_session"))
