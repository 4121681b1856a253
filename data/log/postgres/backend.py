"""The log in a PostgreSQL database, for services on several machines."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Final

import psycopg
import sqlalchemy as sa

import data.log.postgres.statements  # noqa: F401 - from then on constructs are spelt for it
from data.fields import from_us
from data.log.backend import ErrorKind, Identity
from data.log.errors import StoreError, StoreLost, StoreOccupied
from data.log.migrations.revisions import Contents
from data.log.postgres import driver
from data.log.postgres.insertion import AllNew

_IDENTITY: Final = (
    "SELECT system_identifier, database.oid, current_schema()::regnamespace::oid "
    "FROM pg_control_system(), pg_database AS database WHERE datname = current_database()"
)
_CONTENTS: Final = (
    "SELECT count(*), coalesce(bool_or(relname = 'alembic_version'), false) FROM pg_class "
    "WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'i')"
)
_SCRUBBED: Final = ("decisions", "feedback", "events", "rejects", "users")
_SCRUB_S: Final = 600
log = logging.getLogger("raycommend.store")


class PostgresBackend:
    """See `data.log.backend.Backend`."""

    shared = True
    folder: Path | None = None
    exists = True
    """The database is never made; whether it is there, opening says."""
    driver_error: type[Exception] = psycopg.Error

    def __init__(self, url: str) -> None:
        """Take the database's URL, in libpq's form."""
        try:
            given = self._given = driver.parameters(url)
        except psycopg.ProgrammingError as error:
            raise StoreError(f"the log's URL is none that PostgreSQL's library reads: {error}") from error
        self.at_once = AllNew()
        self.name = f"{given.get('dbname', '')} on {given.get('host', given.get('hostaddr', 'this machine'))}"
        self.reading = driver.create_engine(given, self._check)
        self.writing = driver.for_writing(self.reading)
        self.begun: sa.Engine = self.reading.execution_options(begin=None)
        self._own: Identity | None = None
        self.replaced = False
        """Whether another database answered where the log was."""

    def _check(self, connection: psycopg.Connection[tuple[int, ...]]) -> None:
        """Check a new connection: it is to the same database, and what it commits is on the disk then."""
        found = connection.execute(_IDENTITY).fetchone()
        if self._own is not None and found != self._own:
            self.replaced = True
            raise StoreLost(f"another database answers as {self.name}: nothing is written to it")
        self._own = found
        # A server that is told to answer before the disk does would lose what was acknowledged.
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
        # What is asked outside of a transaction must see, after the lock, all that others have written before it.
        connection.execute("SET default_transaction_isolation = 'read committed'")

    def open(self, expected: Identity | None, accept: Callable[[Contents], None]) -> Contents:
        """Connect for the first time."""
        self._own = expected
        with self.reading.connect() as connection:
            settings = {
                name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("server_encoding", "fsync")
            }
            found = self.contents(connection)
        accept(found)
        if settings["server_encoding"] != "UTF8":
            raise StoreError(f"the log needs a database in UTF8, {self.name} is in {settings['server_encoding']}")
        if settings["fsync"] != "on":
            log.warning("%s has fsync off: what is acknowledged may be lost when its machine fails", self.name)
        return found

    @property
    def identity(self) -> Identity | None:
        """The cluster, the database and the schema. A standby that has taken over is the same cluster."""
        return self._own

    def check(self) -> None:
        """Do nothing: a connection stays with its database, and each new one is checked."""

    def damage(self) -> str | None:
        """Return None: a server that is damaged says so when it reads."""
        return None

    def contents(self, connection: sa.Connection) -> Contents:
        """Return what is in the schema, as a statement sees it."""
        count, has_revision = connection.exec_driver_sql(_CONTENTS).one()
        revision = (
            connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() if has_revision else None
        )
        return Contents(revision, 0, count)

    def time(self, connection: sa.Connection) -> datetime:
        """Return the server's time: replicas are on several machines."""
        us: int = connection.exec_driver_sql(driver.TIME).scalar_one()
        return from_us(us)

    def begin_by_driver(self, connection: driver.Connection) -> tuple[int, bool]:
        """Begin, by the server's time."""
        return driver.begin_by_driver(connection)

    def error_kind(self, error: BaseException) -> ErrorKind:
        """Return what an error of the driver says of the database."""
        return driver.error_kind(error)

    def ends_connection(self, error: BaseException) -> bool:
        """Return whether the server has gone, or has become a standby."""
        return driver.ends_connection(error)

    def checkpoint(self) -> None:
        """Do nothing: the server does it."""

    def give_back(self) -> int | None:
        """Return None: the server's own vacuum keeps the room of deleted rows for new ones."""
        return None

    @contextmanager
    def exclusively(self, what: str) -> Iterator[None]:
        """Hold an advisory lock in a session of its own, which ends with the process."""
        key = int.from_bytes(blake2b(what.encode(), digest_size=4).digest(), signed=True)
        connection = driver.connect(self._given, self._check)
        try:
            got = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (driver.LOCK, key)).fetchone()
            if not (got and got[0]):
                raise StoreOccupied(f"another process is at {what} of {self.name}: wait until it has ended")
            yield
        finally:
            connection.close()

    def scrub(self, text: str) -> None:
        """Remove deleted rows from tables and indexes, so that no statement can read them and their room is used anew.

        Bytes of them stay in pages until they are written over: see serve/OPERATING.md.
        """
        try:
            with driver.connect(self._given, self._check) as connection:
                connection.answer_s = _SCRUB_S
                connection.execute(f"SET statement_timeout = '{_SCRUB_S}s'")
                connection.execute(f"VACUUM (INDEX_CLEANUP ON) {', '.join(_SCRUBBED)}")
        except psycopg.Error as error:
            raise OSError(f"the deleted rows could not be removed from the tables: {error}") from error
