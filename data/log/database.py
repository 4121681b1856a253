"""The database that the log is in: opened, durable, with transactions. What is in it is `data.log.store`'s.

StoreError                  the log cannot be opened, or a statement failed
└── StoreUnavailable        the database cannot answer now (locked, disk full, I/O error); nothing was written
    ├── StoreLost           its file was deleted or replaced while it was open
    ├── StoreDamaged        its file is damaged
    └── StoreUnconfirmed    who was asked did not answer: it was written or not
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final, Self, cast

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from data.errors import RecommenderError
from data.log.migrations.revisions import REVISION, refusal, upgrade
from data.log.sqlite import driver
from data.log.sqlite.file_checks import (
    Identity,
    WatchedFile,
    damage,
    identity,
)
from data.private import make_private

SQL_ERRORS: Final = (SQLAlchemyError,)
"""What a database reached through SQLAlchemy raises, for those that MLflow keeps."""
_CHECK_S = 3.0
"""How long a file is looked through for damage when it is opened; a gigabyte takes about that."""


class StoreError(RecommenderError):
    """The log cannot be opened, or a statement failed."""


class StoreUnavailable(StoreError):  # noqa: N818 - a state that passes, not a mistake
    """The database cannot answer now. Nothing was written; the same records may be sent again."""

    client_message: ClassVar[str] = "the log cannot commit now; nothing was stored, try again"
    """What a client may hear of it: no paths, no names."""


class StoreLost(StoreUnavailable):
    """The file was deleted or replaced while it was open. Nothing is written until it is there again.

    The same file put back is gone on with. Another one is another log: who has learned from the first must begin anew.
    """

    client_message = (
        "the log's file was deleted or replaced while the service ran; nothing was stored, and nothing will be "
        "until an operator puts it back"
    )


class StoreDamaged(StoreUnavailable):
    """The file is damaged. Nothing is written to it: what is written next to damage is lost with it."""

    client_message = (
        "the log's file is damaged; nothing was stored, and nothing will be until an operator has restored it"
    )


class StoreUnconfirmed(StoreUnavailable):
    """It is not known whether the records were written. They may be sent again: none counts twice."""

    client_message = (
        "the log did not confirm in time; what was sent is stored or not: send it again, nothing counts twice"
    )


_REMEDY = "stop what uses it and put a copy from before the damage in its place; what can be read can be exported first"
log = logging.getLogger("raycommend.store")


class Database:
    """One SQLite file. Any number of threads and processes may hold one on the same file."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._writing = driver.for_writing(engine)
        self._clock = clock
        self._file = WatchedFile(self.path)
        self._damage: str | None = None

    @classmethod
    def open(
        cls,
        url: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        expected: Identity | None = None,
    ) -> Self:
        """Open the log at an SQLAlchemy URL (`sqlite:///path`); create its folder, file and tables if missing.

        A log that is found to be damaged is opened for reading only: see `StoreDamaged`.

        Args:
            url: where it is.
            clock: gives the time for `received_at`; timezone-aware.
            expected: the file that it must be (`Database.file` of who has opened it), not another of the same path.

        Raises:
            StoreError: the URL is not SQLite's, the file is no log or one of other tables, or it cannot be kept in WAL
                mode.
            StoreLost: it is not the expected file.
        """
        location = sa.make_url(url)
        if location.get_backend_name() != "sqlite":
            raise StoreError(f"the log is kept in SQLite, expected sqlite:///path, got {location.get_backend_name()}")
        if location.database:
            path = Path(location.database)
            if expected is not None and identity(path) != expected:  # before SQLite makes a new one
                raise StoreLost(f"{path} is not the file that was opened first")
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = cls(driver.create_engine(location), clock)
        try:
            database._prepare(expected)
        except Exception:
            database.close()
            raise
        return database

    def _prepare(self, expected: Identity | None) -> None:
        try:
            with self._driver_connection() as connection:
                found = driver.contents(connection)
                if reason := refusal(found):
                    raise StoreError(f"{self.path} {reason}")
                mode = driver.enable_wal(connection)
                if mode != "wal":
                    raise StoreError(
                        f"the log needs a file on a local disk that can be kept in WAL mode, got mode {mode}"
                    )
                self._file.watch()
                make_private(*self._file.paths)
                if found.tables:
                    self._damage = damage(connection, _CHECK_S)
        except (sqlite3.DatabaseError, SQLAlchemyError) as error:
            raise StoreError(f"cannot open {self.path} as a log: {error}") from error
        if expected is not None and self.file != expected:
            raise StoreLost(f"{self.path} is not the file that was opened first")
        if self._damage:
            log.error("%s is damaged and only read: %s; %s", self.path, self._damage, _REMEDY)
        if found.revision != REVISION:
            with self.writing() as connection:
                try:
                    done = upgrade(connection)
                except ValueError as error:
                    raise StoreError(f"{self.path} {error}") from error
                if done:
                    log.info("%s %s", self.path, done)

    @contextmanager
    def _driver_connection(self) -> Iterator[sqlite3.Connection]:
        with closing(self._engine.raw_connection()) as pooled:
            yield cast(sqlite3.Connection, pooled.driver_connection)

    @property
    def path(self) -> Path:
        """The database file."""
        return Path(self._engine.url.database or "")

    @property
    def file(self) -> Identity | None:
        """Which file it is; see `open`."""
        return self._file.own

    def check(self) -> None:
        """Check that the path still is the file that is open.

        Raises:
            StoreLost: it is not.
        """
        if fault := self._file.fault():
            raise StoreLost(f"{fault}: nothing is written; put the same file back, or restart with another")

    @property
    def replaced(self) -> bool:
        """Whether another file is at the path: it is to be opened anew, by who begins anew with it."""
        return self._file.own is not None and identity(self.path) not in (None, self._file.own)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def now(self) -> datetime:
        """Return the server's time."""
        return self._clock()

    def checkpoint(self) -> None:
        """Move what is committed from the write-ahead log into the database file, without holding up anyone.

        Raises:
            StoreUnavailable: the database did not answer; what is committed stays so.
        """
        self.check()
        with self._errors(), self._driver_connection() as connection:
            driver.checkpoint(connection)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that reads one state of the database; for those who own tables."""
        self.check()
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that holds the write lock, and commit it at the end."""
        self.check()
        if self._damage:
            raise StoreDamaged(f"{self.path} is damaged and only read: {self._damage}; {_REMEDY}")
        with self._errors(), self._writing.begin() as connection:
            yield connection
        self.check()  # what is acknowledged is in the file that is at the path after the commit

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.TimeoutError as error:
            raise StoreUnavailable(f"the log's database cannot answer now: {error}") from error
        except (SQLAlchemyError, sqlite3.Error) as error:
            cause = getattr(error, "orig", None) or error
            match driver.error_kind(cause):
                case "unavailable":
                    raise StoreUnavailable(f"the log's database cannot answer now: {cause}") from error
                case "damaged":
                    self._damage = str(cause)
                    raise StoreDamaged(f"{self.path} is damaged: {cause}; {_REMEDY}") from error
                case "refused":
                    raise StoreError(f"the log's database refused a statement: {cause}") from error
