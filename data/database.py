"""The database that the log is in: opened, durable, with transactions. What is in it is `data.store`'s.

StoreError              the log cannot be opened, or a statement failed
└── StoreUnavailable    the database cannot answer now (locked, disk full, I/O error); nothing was written
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, cast

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, SQLAlchemyError

import data.state as _state  # noqa: F401 - declares its tables
from data.tables import METADATA, SCHEMA_VERSION
from data.upgrade import UPGRADABLE, upgrade

BUSY_TIMEOUT_S = 30.0
_AUTOCHECKPOINT_PAGES = 25_000  # of 4 KiB


class StoreError(Exception):
    """The log cannot be opened, or a statement failed."""


class StoreUnavailable(StoreError):  # noqa: N818 - a state that passes, not a mistake
    """The database cannot answer now. Nothing was written; the same records may be sent again."""


class Database:
    """One SQLite file. Any number of threads and processes may hold one on the same file."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._writing = engine.execution_options(begin="BEGIN IMMEDIATE")
        self._clock = clock

    @classmethod
    def open(cls, url: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Self:
        """Open the log at an SQLAlchemy URL (`sqlite:///path`); create its folder, file and tables if missing.

        `clock` gives the time for `received_at`; it must be timezone-aware. Raises StoreError if the URL is not
        SQLite's, the file is no log or the log of another schema version, or it cannot be kept in WAL mode.
        """
        location = sa.make_url(url)
        if location.get_backend_name() != "sqlite":
            raise StoreError(f"the log is kept in SQLite, expected sqlite:///path, got {location.get_backend_name()}")
        if location.database:
            Path(location.database).parent.mkdir(parents=True, exist_ok=True)
        # isolation_level None: Python's driver must not begin transactions of its own; _begin below does.
        engine = sa.create_engine(location, connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_S})
        sa.event.listen(engine, "connect", _be_durable)
        sa.event.listen(engine, "begin", _begin)
        database = cls(engine, clock)
        try:
            database._prepare()
        except Exception:
            database.close()
            raise
        return database

    def _prepare(self) -> None:
        try:
            with closing(self._engine.raw_connection()) as pooled:
                driver = cast(sqlite3.Connection, pooled.driver_connection)
                _check_version(driver)
                _enable_wal(driver)
        except (sqlite3.DatabaseError, SQLAlchemyError) as error:
            raise StoreError(f"cannot open {self._engine.url.database} as a log: {error}") from error
        # Again under the write lock: of several processes that open a new file at once, one creates the tables.
        with self.writing() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if version == 0:
                METADATA.create_all(connection, checkfirst=False)
            elif version != SCHEMA_VERSION:
                upgrade(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @property
    def path(self) -> Path:
        """The database file."""
        return Path(self._engine.url.database or "")

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
        with _errors(), closing(self._engine.raw_connection()) as pooled:
            try:
                cast(sqlite3.Connection, pooled.driver_connection).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.OperationalError as error:
                raise StoreUnavailable(f"the log's database cannot answer now: {error}") from error

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that reads one state of the database; for the modules that own tables of `data.state`."""
        with _errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that holds the write lock, and commit it at the end."""
        with _errors(), self._writing.begin() as connection:
            yield connection


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (OperationalError, sa.exc.TimeoutError) as error:
        raise StoreUnavailable(f"the log's database cannot answer now: {getattr(error, 'orig', error)}") from error
    except SQLAlchemyError as error:
        raise StoreError(f"the log's database refused a statement: {getattr(error, 'orig', error)}") from error


def _be_durable(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous = FULL")  # a commit returns after fsync: it survives a power loss
    # Seldom: a checkpoint holds up the commit that it comes with. `Database.checkpoint` is for who answers nobody.
    connection.execute(f"PRAGMA wal_autocheckpoint = {_AUTOCHECKPOINT_PAGES}")
    connection.execute("PRAGMA temp_store = MEMORY")  # else an insert of several rows makes a file, to undo half of it
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten: a forgotten user is no free page


def _begin(connection: sa.Connection) -> None:
    # A writer takes the lock at once: upgrading a read transaction fails if another process wrote in between.
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _check_version(driver: sqlite3.Connection) -> None:
    # One statement, one snapshot: another process may be creating the tables and the version right now.
    both = "SELECT (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_master)"
    version, tables = driver.execute(both).fetchone()
    if version not in (SCHEMA_VERSION, *UPGRADABLE) and (version or tables):
        raise StoreError(f"expected a log of schema version {SCHEMA_VERSION}, got version {version}, {tables} tables")


def _enable_wal(driver: sqlite3.Connection) -> None:
    # SQLite does not wait for the lock where several processes switch a new file to WAL at once, so this does.
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            (mode,) = driver.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise StoreError(f"the log needs a file on a local disk that can be kept in WAL mode, got mode {mode}")
