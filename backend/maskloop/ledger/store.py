"""The database below the ledger: SQLite (write-ahead log) or Postgres, brought up to date at the start."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.orm import DeclarativeBase, Session

HEAD = "0005"
"""The newest migration; a database that says so is not touched."""

PATIENCE = 30.0
"""Seconds for which a database that does not answer is tried again: so long a restart may take."""

CONNECT_SECONDS = "3"
"""How long Postgres gets to answer one attempt to connect, unless the URL says otherwise."""

LOCKED_SECONDS = 5
"""How long one attempt waits for whoever has locked a SQLite file; there are up to _ATTEMPTS."""

_MIGRATION_LOCK = 0x6D61736B  # any constant: the key of Postgres' advisory lock
_ATTEMPTS = 4
_log = logging.getLogger(__name__)
T = TypeVar("T")

DatabaseError = DBAPIError
"""What every method of the ledger may raise: the database is away or locked, after it was waited for."""


class LedgerError(Exception):
    """The database cannot be opened; the message says why, and which setting names it."""


class Store:
    """One engine; every change is one short transaction, run again when it loses a race or its connection."""

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        """Open the database at a SQLAlchemy URL, creating or migrating it first.

        A database that cannot be reached at the start is a LedgerError at once: the URL may be wrong. One that is
        away later is tried again for ``patience`` seconds.
        """
        self._patience = patience
        try:
            self._open(url)
            self._migrate()
        except (ArgumentError, NoSuchModuleError):  # some say the URL, which is secret
            raise LedgerError("DATABASE_URL must be like postgresql://user:password@host/name") from None
        except ModuleNotFoundError as error:
            raise LedgerError(
                f"DATABASE_URL needs the module {error.name}, which is not installed: for Postgres "
                "pip install 'maskloop[postgres]' (in a checkout: .venv/bin/pip install -e '.[postgres]')"
            ) from None
        except DBAPIError as error:
            raise LedgerError(
                f"the ledger's database (DATABASE_URL, or a file in MASKLOOP_DATA_DIR) does not open: {error.orig}"
            ) from error

    def _open(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql" and parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() == "postgresql" and "connect_timeout" not in parsed.query:
            parsed = parsed.update_query_dict({"connect_timeout": CONNECT_SECONDS})
        if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
            Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        self.engine: Engine = create_engine(parsed, pool_pre_ping=True)
        self._sqlite = self.engine.dialect.name == "sqlite"
        if self._sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    def close(self) -> None:
        self.engine.dispose()

    def _read(self, work: Callable[[Session], T]) -> T:
        return self._run(work, write=False)

    def _write(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` in a transaction. It may run more than once, so it must only touch the database."""
        return self._run(work, write=True)

    def _run(self, work: Callable[[Session], T], write: bool) -> T:
        until = time.monotonic() + self._patience
        lost = refused = 0
        while True:
            connected = False
            try:
                with self.engine.connect().execution_options(maskloop_write=write) as connection:
                    connected = True
                    with Session(connection, expire_on_commit=False) as session, session.begin():
                        return work(session)
            except DBAPIError as error:
                if connected:
                    lost += 1
                    again = isinstance(error, IntegrityError) or error.connection_invalidated or _is_race(error)
                    again = again and lost < _ATTEMPTS
                else:
                    # No SQLSTATE tells why a connection was refused; that the URL is right was seen at the start.
                    refused += 1
                    again = time.monotonic() < until
                if not again:
                    raise
                log = _log.warning if refused == 1 and not connected else _log.info
                log("ledger: trying again (%s)", error.orig)
                time.sleep(min(1.0, 0.05 * 2 ** min(lost + refused, 5)))

    def _migrate(self) -> None:
        with self.engine.connect().execution_options(maskloop_write=True) as connection, connection.begin():
            if not self._sqlite:
                # BEGIN IMMEDIATE does the same for SQLite: who starts second waits here and finds the work done.
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            if _revision(connection) != HEAD:
                from alembic import command
                from alembic.config import Config

                config = Config()
                config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")


def insert(session: Session, table: type[DeclarativeBase]) -> Any:
    """An INSERT that can say ON CONFLICT, in the words of the session's database."""
    words = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    return words.insert(table.__table__)


def _revision(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions on its own: _begin_sqlite does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {1000 * LOCKED_SECONDS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later fails at once when another wrote in between;
    # an immediate one waits its turn.
    write = connection.get_execution_options().get("maskloop_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _is_race(error: DBAPIError) -> bool:
    """A deadlock, a serialization failure, a busy file or a server that is restarting: worth another try."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return state in {"40001", "40P01"} or state.startswith(("08", "57P")) or "database is locked" in str(error.orig)
