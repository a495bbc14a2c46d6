"""Stores of ticks in ClickHouse for tests, each in a new database with the tables of infra/clickhouse: at a
server, and within this process.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from components.tick_stores.clickhouse import ClickHouseStore
from components.tick_stores.clickhouse_server import open_clickhouse
from tests.stores import Server

TABLES = Path(__file__).parents[2] / "infra" / "clickhouse" / "ticks.sql"
_NUMBERS = itertools.count()


def statements() -> list[str]:
    """What the file of tables says, one statement each."""
    return [one for one in TABLES.read_text().split(";") if one.strip()]


def client(server: Server) -> Any:
    """The driver itself, for what a store does not do."""
    from clickhouse_driver import Client

    return Client("127.0.0.1", port=server.port, password=server.environment["CLICKHOUSE_PASSWORD"])


def database(server: Server) -> str:
    """A new database with the tables, by its name."""
    name = f"store_{next(_NUMBERS)}"
    asked = client(server)
    for statement in (f"CREATE DATABASE {name}", f"USE {name}", *statements()):
        asked.execute(statement)
    asked.disconnect()
    return name


def store_at(server: Server, name: str, **environment: str) -> ClickHouseStore:
    """The store in a database of a server, opened by its address."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in (server.environment | environment).items():
            patch.setenv(variable, value)
        return open_clickhouse(f"{server.address}/{name}")


@dataclass(frozen=True)
class InProcess:
    """A connection to ClickHouse within this process."""

    session: Any
    store: str = "chdb"

    def ask(self, query: str, values: dict[str, str | int]) -> pl.DataFrame:
        from clickhouse_driver.util.escape import escape_params

        quoted = escape_params(values, None)
        return pl.from_arrow(self.session.query(query % quoted, "ArrowTable"))

    def put(self, table: str, rows: pl.DataFrame) -> None:
        from clickhouse_driver.util.escape import escape_param

        lines = ", ".join(
            f"({', '.join(str(escape_param(one, None)) for one in row)})" for row in rows.iter_rows()
        )
        self.session.query(f"INSERT INTO {table} ({', '.join(rows.columns)}) VALUES {lines}")


def in_process(session: Any) -> ClickHouseStore:
    """A store in a new database of a session of chdb."""
    name = f"store_{next(_NUMBERS)}"
    for statement in (f"CREATE DATABASE {name}", f"USE {name}", *statements()):
        session.query(statement)
    return ClickHouseStore(InProcess(session))
