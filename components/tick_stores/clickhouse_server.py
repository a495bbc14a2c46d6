"""The way to a ClickHouse server, by its native protocol, which servers of all years speak; and what is said
where it is closed.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import polars as pl

from components.credentials import without_secrets
from components.tick_stores.clickhouse import ClickHouseStore
from components.tick_stores.errors import TickStoreError

SCHEMES = {"clickhouse": 9000, "clickhouses": 9440}
EXAMPLE = "clickhouse://user@host:9000/database (clickhouses:// with TLS)"
TABLES = "infra/clickhouse/ticks.sql"
# Which of the files of tables this code writes and reads.
VERSION = 1
CONNECT_S = 10.0
ANSWER_S = 60.0
KINDS = {"String": pl.String, "Int8": pl.Int8, "UInt8": pl.UInt8, "UInt16": pl.UInt16, "Int64": pl.Int64}
KINDS |= {"UInt64": pl.UInt64, "Float64": pl.Float64}
APPLY = f"clickhouse-client --database {{database}} --multiquery < {TABLES}"
WHO = "Correct the user in the address, or the password in CLICKHOUSE_PASSWORD."
ROOM = "Make room on the server's disk, and append again: of what was cut off nothing counts."
# What is to be done about an error of the server, by its number.
ADVICE = {
    16: f"The tables are of another making: see {TABLES}.",
    47: f"The tables are of another making: see {TABLES}.",
    60: f"Make the tables: {APPLY}",
    75: ROOM,
    81: f'Make it, clickhouse-client --query "CREATE DATABASE {{database}}", and its tables: {APPLY}',
    164: "Give the user INSERT and SELECT in {database}.",
    192: WHO,
    193: WHO,
    194: WHO,
    241: "Give the server more memory, or append fewer rows at a time.",
    243: ROOM,
    252: "Append fewer and larger batches: the server can't merge them as fast as they come.",
    497: "Give the user INSERT and SELECT in {database}.",
    516: WHO,
}


@dataclass(frozen=True)
class ServerConnection:
    """A connection to a server's database; opened by the first query, and anew where it was lost."""

    store: str
    database: str
    client: Any = field(repr=False)

    def ask(self, query: str, values: dict[str, str | int]) -> pl.DataFrame:
        """The rows of a query; TickStoreError where the server does not answer it."""
        with self._explained():
            columns, named = self.client.execute(query, values, with_column_types=True, columnar=True)
        schema = {name: KINDS[kind] for name, kind in named}
        return pl.DataFrame(dict(zip(schema, columns or [[]] * len(schema), strict=True)), schema=schema)

    def put(self, table: str, rows: pl.DataFrame) -> None:
        """Insert rows; TickStoreError where the server does not take them."""
        columns = [column.to_numpy() for column in rows.get_columns()]
        with self._explained():
            self.client.execute(
                f"INSERT INTO {table} ({', '.join(rows.columns)}) VALUES", columns, columnar=True
            )

    def require_version(self) -> None:
        """TickStoreError where the database has no tables of ticks, or those of another version."""
        found = self.ask("SELECT version FROM tick_store", {})["version"].max()
        if found != VERSION:
            raise TickStoreError(
                f"{self.store} has tables of version {found}, and this Alphaloop writes and reads version"
                f" {VERSION}. Use the Alphaloop that made them, or another database with tables of its own: "
                + APPLY.format(database="ANOTHER")
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        errors = _driver(self.store).errors
        try:
            yield
        except errors.ServerException as error:
            raise TickStoreError(self._said(error)) from error
        except (TimeoutError, errors.SocketTimeoutError) as error:
            raise TickStoreError(
                f"{self.store} did not answer within {ANSWER_S:.0f} s. See what keeps the server busy, then"
                " run again: what was cut off does not count."
            ) from error
        except (errors.Error, OSError, EOFError) as error:
            raise TickStoreError(
                f"{self.store} can't be reached ({_first_line(error)}). Start the server, or correct the"
                " address, then run again: what was cut off does not count."
            ) from error

    def _said(self, error: Any) -> str:
        said = _first_line(re.sub(r"DB::Exception: |\.* Stack trace:", "", error.message))
        advice = ROOM if "No space left" in said else ADVICE.get(error.code, "Mend it, then run again.")
        return (
            f"{self.store}: {said} (ClickHouse's error {error.code}). {advice.format(database=self.database)}"
        )


def open_clickhouse(address: str) -> ClickHouseStore:
    """The store in a database of a ClickHouse server, clickhouse://user@host:9000/database; the password
    comes from CLICKHOUSE_PASSWORD.

    Raises
    ------
    TickStoreError
        If the address is none, the driver is not installed, the server does not answer or refuses, or its
        tables are not those that are written here.
    """
    parts = urlsplit(address)
    shown = without_secrets(address)
    database = parts.path.strip("/")
    if parts.password is not None:
        raise TickStoreError(
            f"{shown} holds a password, and addresses are kept and shown. Take it out, and set"
            " CLICKHOUSE_PASSWORD."
        )
    try:
        port = parts.port or SCHEMES[parts.scheme]
    except ValueError as error:
        raise TickStoreError(f"{shown}: {error}. Write {EXAMPLE}.") from error
    if not parts.hostname or not database or "/" in database or parts.query:
        raise TickStoreError(f"{shown} names no host and database of ClickHouse. Write {EXAMPLE}.")
    client = _driver(shown).Client(
        host=parts.hostname,
        port=port,
        database=database,
        user=unquote(parts.username or os.environ.get("CLICKHOUSE_USER", "default")),
        password=os.environ.get("CLICKHOUSE_PASSWORD", ""),
        secure=parts.scheme == "clickhouses",
        connect_timeout=CONNECT_S,
        send_receive_timeout=ANSWER_S,
        sync_request_timeout=CONNECT_S,
        settings={"use_numpy": True},
    )
    connection = ServerConnection(store=shown, database=database, client=client)
    connection.require_version()
    return ClickHouseStore(connection)


def _driver(store: str) -> ModuleType:
    try:
        import clickhouse_driver.errors
    except ImportError:
        raise TickStoreError(
            f"{store} needs the package clickhouse-driver, which is not installed. Install it with pip"
            " install 'alphaloop[clickhouse]', or keep ticks in a folder."
        ) from None
    # What goes wrong is told by this module's errors; the driver would print its traces beside them.
    logging.getLogger("clickhouse_driver").addHandler(logging.NullHandler())
    return clickhouse_driver


def _first_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = re.sub(r"^Code: \d+\. ", "", (lines or [type(error).__name__])[0])
    return without_secrets(said)[:300].rstrip(".")
