"""The log in one SQLite file, on a local disk of one machine."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import sqlalchemy as sa

import data.log.sqlite.statements  # noqa: F401 - from then on constructs are spelt for it
from data.atomic import lock
from data.fields import to_us
from data.log.backend import ErrorKind, Identity
from data.log.errors import StoreError, StoreLost, StoreOccupied
from data.log.migrations.revisions import Contents
from data.log.sqlite import driver
from data.log.sqlite.file_checks import WatchedFile, damage, identity
from data.log.sqlite.scrub import scrub
from data.private import make_private

_CHECK_S = 3.0
"""How long a file is looked through for damage when it is opened; a gigabyte takes about that."""


class SqliteBackend:
    """See `data.log.backend.Backend`."""

    shared = False
    driver_error: type[Exception] = sqlite3.Error
    at_once = None

    def __init__(self, url: str) -> None:
        """Take the file's URL, `sqlite:///path`."""
        try:
            location = sa.make_url(url)
        except sa.exc.ArgumentError as error:
            raise StoreError(f"the log's URL is none: expected sqlite:///path, got {url}") from error
        self._path = Path(location.database or "")
        self._file = WatchedFile(self._path)
        self.name = str(self._path)
        self.folder: Path | None = self._path.parent
        self.reading = driver.create_engine(location)
        self.writing = driver.for_writing(self.reading)
        self.begun: sa.Engine = self.reading.execution_options(begin=None)

    @property
    def exists(self) -> bool:
        """Whether there is a file; a log in memory is made by who opens it."""
        return not self.reading.url.database or self._path.exists()

    def open(self, expected: Identity | None, accept: Callable[[Contents], None]) -> Contents:
        """Make the folder and the file if they are missing, and switch the file to a write-ahead log."""
        if self.reading.url.database:
            if expected is not None and identity(self._path) != expected:  # before SQLite makes a new one
                raise StoreLost(f"{self._path} is not the file that was opened first")
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._driver_connection() as connection:
            found = driver.contents(connection)
            accept(found)
            mode = driver.enable_wal(connection)
        if mode != "wal":
            raise StoreError(f"the log needs a file on a local disk that can be kept in WAL mode, got mode {mode}")
        self._file.watch()
        make_private(*self._file.paths)
        if expected is not None and self.identity != expected:
            raise StoreLost(f"{self._path} is not the file that was opened first")
        return found

    @contextmanager
    def _driver_connection(self) -> Iterator[sqlite3.Connection]:
        with closing(self.reading.raw_connection()) as pooled:
            yield cast(sqlite3.Connection, pooled.driver_connection)

    @property
    def identity(self) -> Identity | None:
        """The device and inode of the file."""
        return self._file.own

    @property
    def replaced(self) -> bool:
        """Whether another file is at the path."""
        return self._file.own is not None and identity(self._path) not in (None, self._file.own)

    def check(self) -> None:
        """Check that the path still is the file that is open."""
        if fault := self._file.fault():
            raise StoreLost(f"{fault}: nothing is written; put the same file back, or restart with another")

    def damage(self) -> str | None:
        """Look through the file."""
        with self._driver_connection() as connection:
            return damage(connection, _CHECK_S)

    def contents(self, connection: sa.Connection) -> Contents:
        """Return what is in the file, as a transaction sees it."""
        return driver.contents(cast(sqlite3.Connection, connection.connection.driver_connection))

    def time(self, connection: sa.Connection) -> datetime:
        """Return the machine's time: all who write are on it."""
        return datetime.now(UTC)

    def begin_by_driver(self, connection: sqlite3.Connection) -> tuple[int, bool]:
        """Begin, by this machine's time."""
        any_archived = driver.begin_by_driver(connection)  # waits for the lock: the time is read after it
        return to_us(datetime.now(UTC)), any_archived

    def error_kind(self, error: BaseException) -> ErrorKind:
        """Return what an error of the driver says of the database."""
        return driver.error_kind(error)

    def ends_connection(self, error: BaseException) -> bool:
        """Return False: SQLite would delete the write-ahead log with the last connection to a file."""
        return False

    def checkpoint(self) -> None:
        """Move what is committed from the write-ahead log into the file."""
        with self._driver_connection() as connection:
            driver.checkpoint(connection)

    def give_back(self) -> int | None:
        """Let the file shrink."""
        with self._driver_connection() as connection:
            return driver.give_back(connection)

    @contextmanager
    def exclusively(self, what: str) -> Iterator[None]:
        """Hold the lock of a file beside it."""
        path = self._path.with_name(f"{self._path.name}.{what}.lock")

        def refusal(process: str) -> StoreOccupied:
            return StoreOccupied(f"process {process} is at it and holds {path}: wait until it has ended")

        with lock(path, refusal):
            make_private(path)
            yield

    def scrub(self, text: str) -> None:
        """Remove the bytes of what was deleted from the file: see `data.log.sqlite.scrub`."""
        scrub(self._path, text)
