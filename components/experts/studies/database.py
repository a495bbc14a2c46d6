"""The database that studies lie in: opened by several processes at once, locked while a try is drawn, waited
for while its server is away, and what is wrong with it in one sentence without its password.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from components.contracts import AlphaloopError
from components.credentials import HIDDEN, without_secrets
from components.processes.locks import take_lock
from components.progress import warn

LOCK_WAIT_S = 120
# A search goes on after a server that was away for no longer: time to start it again, or to move it.
AWAY_S = 15 * 60
LONGEST_PAUSE_S = 5.0
# A connection that nobody answers any more is noticed within a minute or so; libpq alone waits for hours.
CONNECTION = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
EXAMPLE = "sqlite:///study.db or postgresql://user@host/database"
# What the server or libpq says, and how to mend it. None of these mends itself.
ADVICE = {
    "could not translate host name": "Correct the host in {setting}.",
    "no password supplied": "Give the user's password by PGPASSWORD, or by a file that PGPASSFILE names.",
    "password authentication failed": "Correct the user in {setting}, or the password in PGPASSWORD.",
    "no pg_hba.conf entry": "Let that user in from this machine in the server's pg_hba.conf.",
    "role ": "Correct the user in {setting}, or make it on the server.",
    "database ": "Make it on the server (createdb), or correct its name in {setting}.",
}
# What libpq adds where names can't be looked up just now, as where the network is away.
PASSING = "Temporary failure"
Result = TypeVar("Result")


class SearchError(AlphaloopError):
    """A search can't begin, go on or end with a result."""


@dataclass(frozen=True)
class Database:
    """Where studies lie: its address, and the setting that names it, empty for the file that is used where no
    setting does.
    """

    url: str = field(repr=False)
    setting: str

    @property
    def shown(self) -> str:
        """The address without its password."""
        return self._parts.difference_update_query(["password", "sslpassword"]).render_as_string(
            hide_password=True
        )

    @property
    def is_server(self) -> bool:
        """Whether it is a server rather than a file."""
        return self._parts.get_backend_name() == "postgresql"

    @property
    def file(self) -> Path | None:
        """SQLite's file."""
        name = None if self.is_server else self._parts.database
        return Path(name) if name and name != ":memory:" else None

    @property
    def options(self) -> dict[str, Any]:
        """What its driver is told beside the address, whose own options come first."""
        if not self.is_server:
            return {"timeout": LOCK_WAIT_S}
        return {name: value for name, value in CONNECTION.items() if name not in self._parts.query}

    @property
    def _address(self) -> str:
        """The address with the driver that is installed, where it names none: SQLAlchemy takes another."""
        parts = self._parts
        if parts.drivername == "postgresql":
            parts = parts.set(drivername="postgresql+psycopg2")
        return parts.render_as_string(hide_password=False)

    @property
    def _parts(self) -> Any:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            parts = make_url(self.url)
        except (ArgumentError, ValueError):
            raise SearchError(f"{self.setting} is no database URL. Write one such as {EXAMPLE}.") from None
        if parts.get_backend_name() not in ("sqlite", "postgresql"):
            raise SearchError(
                f"{self.setting} names a database of the kind {parts.get_backend_name()}, and studies lie in"
                f" SQLite or PostgreSQL. Write an address such as {EXAMPLE}."
            )
        return parts

    def open(self) -> Any:
        """Optuna's storage on it, its tables made where there are none; as SQLAlchemy's errors where it can't
        be used. One process at a time: two at once would both make the tables.
        """
        import optuna

        arguments = {"connect_args": self.options, **({"pool_pre_ping": True} if self.is_server else {})}
        with self.locked("tables"):
            # Optuna takes braces for a place where it puts its version.
            url = self._address.replace("{", "{{").replace("}", "}}")
            return optuna.storages.RDBStorage(url, engine_kwargs=arguments)

    @contextmanager
    def locked(self, what: str) -> Iterator[Callable[[], None]]:
        """Keep all other processes, on any machine, from what is also done under this name.

        Yields a function that raises where the lock was lost. It ends with the process, however that ends.
        """
        if self.is_server:
            with self._locked_on_server(what) as require_held:
                yield require_held
        elif self.file is None or not self.file.parent.is_dir():
            # In memory, or to be refused when it is opened.
            yield lambda: None
        else:
            try:
                handle = take_lock(self.file.with_name(f"{self.file.name}.lock"), wait=True)
            except OSError as error:
                raise SearchError(
                    f"The study's database {self.shown} can't be locked: {error}. Give a folder that can be"
                    " written."
                ) from None
            with handle:
                yield lambda: None

    @contextmanager
    def _locked_on_server(self, what: str) -> Iterator[Callable[[], None]]:
        """An advisory lock of a transaction: the server lets go of it when the connection ends, and ends that
        of a holder which does nothing for long, such as a machine that is asleep.
        """
        from sqlalchemy import create_engine, text
        from sqlalchemy.pool import NullPool

        key = int.from_bytes(hashlib.sha256(f"alphaloop {what}".encode()).digest()[:8], signed=True)
        engine = create_engine(self._address, poolclass=NullPool, connect_args=self.options)
        connection = engine.connect()
        try:
            for name in ("lock_timeout", "idle_in_transaction_session_timeout"):
                connection.execute(text(f"SET LOCAL {name} = '{LOCK_WAIT_S}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield lambda: connection.execute(text("SELECT 1"))
        finally:
            with suppress(*database_errors()):
                connection.close()


def database_errors() -> tuple[type[Exception], ...]:
    """What Optuna and SQLAlchemy raise where a database does not do what it is asked."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError, StorageInternalError


@contextmanager
def told(database: Database) -> Iterator[None]:
    """What goes wrong with the database becomes a SearchError that says how to mend it."""
    try:
        yield
    except (*database_errors(), ImportError, RuntimeError) as error:
        raise SearchError(_refusal(database, error)) from None


def patiently(database: Database, stage: str, step: Callable[[], Result]) -> Result:
    """What `step` returns. While the server is away, it is taken again: it must do no harm to take it twice.

    Raises
    ------
    SearchError
        If the server is away for longer than `AWAY_S`, or what is wrong does not mend itself.
    """
    began, pause = None, 0.1
    while True:
        try:
            return step()
        except database_errors() as error:
            now = time.monotonic()
            if not _may_come_back(database, error) or (began is not None and now - began > AWAY_S):
                raise SearchError(_refusal(database, error)) from None
            if began is None:
                began = now
                warn(
                    stage,
                    f"The study's database {database.shown} does not answer: {_cause(database, error)}. It is"
                    f" waited for, {AWAY_S / 60:.0f} minutes at most.",
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


def _may_come_back(database: Database, error: BaseException | None) -> bool:
    """Whether an error tells of a server that is away, as it is while it starts again."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

    if not database.is_server or (_advice(error) and PASSING not in _words(error)):
        return False
    while error is not None:
        # A query after the one that met the end of its connection is told of a pending rollback.
        if isinstance(error, OperationalError | InterfaceError | PendingRollbackError) or (
            isinstance(error, DBAPIError) and error.connection_invalidated
        ):
            return True
        error = error.__cause__
    return False


def _words(error: BaseException) -> str:
    """The first line of what the driver said."""
    while inner := getattr(error, "orig", None) or error.__cause__:
        error = inner
    return f"{str(error).strip() or type(error).__name__}".splitlines()[0]


def _advice(error: BaseException) -> str:
    words = _words(error)
    lacks = "does not exist" in words
    found = (
        advice
        for said, advice in ADVICE.items()
        if said in words and (lacks or said not in ("role ", "database "))
    )
    return next(found, "")


def _cause(database: Database, error: BaseException) -> str:
    """What went wrong, the password out of it wherever it came from."""
    words = _words(error).replace(database.url, database.shown)
    for secret in (database._parts.password, os.environ.get("PGPASSWORD")):
        if secret:
            words = words.replace(secret, HIDDEN)
    return without_secrets(words).rstrip(".")


def _refusal(database: Database, error: BaseException) -> str:
    advice = _advice(error).format(setting=database.setting)
    if not advice and not database.setting:
        advice = (
            "Move that file away to begin anew, or keep this search elsewhere: --storage"
            " sqlite:///another.db."
        )
    elif not advice and not database.is_server:
        advice = (
            f"Move that file away, name another one in {database.setting}, or leave {database.setting} out"
            " for a file in the run's folder."
        )
    elif isinstance(error, ImportError):
        advice = (
            f"Install its driver, pip install 'alphaloop[postgres]', and write {database.setting} as"
            " postgresql://user@host/database."
        )
    elif "permission denied" in _words(error):
        advice = "Let its user make tables there: GRANT ALL ON SCHEMA public TO the user."
    elif not advice:
        advice = (
            f"Start it, correct {database.setting}, or leave {database.setting} out for a file in the run's"
            " folder."
        )
    return f"The study's database {database.shown} can't be used: {_cause(database, error)}. {advice}"
