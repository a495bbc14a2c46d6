"""What is said where ClickHouse can't be the store: addresses, users, tables, a server slow or gone."""

import builtins
import socket

import pytest

from components.tick_stores import clickhouse_server as way
from components.tick_stores.address import open_store
from components.tick_stores.errors import TickStoreError
from tests.stores import free_port
from tests.tick_stores.made_ticks import TRADED
from tests.tick_stores.stores import client, database, store_at


def refusal(server, name: str, **environment: str) -> str:
    with pytest.raises(TickStoreError) as raised:
        store_at(server, name, **environment)
    assert str(raised.value).count("\n") == 0
    assert len(str(raised.value)) < 500
    assert "of-a-test" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("clickhouse://ana:of-a-test@host/ticks", "holds a password, .* set CLICKHOUSE_PASSWORD"),
        ("clickhouse://host", "names no host and database"),
        ("clickhouse:///ticks", "names no host and database"),
        ("clickhouse://host/ticks/x", "names no host and database"),
        ("clickhouse://host/ticks?secure=1", "names no host and database"),
        ("clickhouse://host:nine/ticks", "Port could not be cast"),
    ],
)
def test_addresses(address, said):
    with pytest.raises(TickStoreError, match=said) as raised:
        open_store(address)
    assert "of-a-test" not in str(raised.value)


def test_the_driver_is_missing(monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments, **named):
        if name.startswith("clickhouse_driver"):
            raise ImportError(name)
        return imported(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TickStoreError, match=r"Install it with pip install 'alphaloop\[clickhouse\]'"):
        open_store("clickhouse://host/ticks")


def test_users_and_passwords(clickhouse):
    name = database(clickhouse)
    assert "password in CLICKHOUSE_PASSWORD" in refusal(clickhouse, name, CLICKHOUSE_PASSWORD="other")
    assert "password in CLICKHOUSE_PASSWORD" in refusal(clickhouse, name, CLICKHOUSE_USER="nobody")
    reader = store_at(clickhouse, name, CLICKHOUSE_USER="reader")
    with pytest.raises(TickStoreError, match=f"Give the user INSERT and SELECT in {name}"):
        reader.append(TRADED)


def test_databases_and_tables(clickhouse):
    assert 'CREATE DATABASE none_such"' in refusal(clickhouse, "none_such")
    said = refusal(clickhouse, "default")
    assert "clickhouse-client --database default --multiquery < infra/clickhouse/ticks.sql" in said
    name = database(clickhouse)
    direct = client(clickhouse)
    direct.execute(f"DROP TABLE {name}.tick_store")
    direct.execute(f"CREATE VIEW {name}.tick_store AS SELECT 2 AS version")
    said = refusal(clickhouse, name)
    assert "has tables of version 2, and this Alphaloop writes and reads version 1" in said
    direct.execute(f"DROP TABLE {name}.tick_store")
    direct.execute(f"CREATE VIEW {name}.tick_store AS SELECT 1 AS version")
    store = store_at(clickhouse, name)
    direct.execute(f"ALTER TABLE {name}.ticks DROP COLUMN order_id")
    direct.disconnect()
    with pytest.raises(TickStoreError, match=r"The tables are of another making"):
        store.append(TRADED)


def test_no_server():
    pytest.importorskip("clickhouse_driver", reason="clickhouse-driver is missing: alphaloop[clickhouse]")
    with pytest.raises(
        TickStoreError, match=r"can't be reached \(Connection refused .*\)\. Start the server"
    ):
        open_store(f"clickhouse://127.0.0.1:{free_port()}/ticks")


def test_a_server_that_does_not_answer(monkeypatch):
    pytest.importorskip("clickhouse_driver", reason="clickhouse-driver is missing: alphaloop[clickhouse]")
    monkeypatch.setattr(way, "CONNECT_S", 0.3)
    monkeypatch.setattr(way, "ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"clickhouse://127.0.0.1:{silent.getsockname()[1]}/ticks"
        with pytest.raises(TickStoreError, match="did not answer"):
            open_store(address)
