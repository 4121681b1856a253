"""How SQLite is connected to and what its errors mean: durable commits, a write-ahead log, one writer at a time."""

import sqlite3
import time
from typing import Final

import sqlalchemy as sa

from data.log.backend import ErrorKind
from data.log.migrations.revisions import Contents
from data.log.tables import ANY_ARCHIVED

BUSY_TIMEOUT_S: Final = 30.0
_WRITE = "BEGIN IMMEDIATE"
_AUTOCHECKPOINT_PAGES = 25_000  # of 4 KiB
_GIVEN_BACK_PAGES = 500  # in one transaction
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}
"""Codes of what another try may find otherwise. A table or column that is missing is none of them."""
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def error_kind(error: BaseException) -> ErrorKind:
    """Return what an error of the driver says of the database."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the bits above say more exactly why
    return "unavailable" if code in _PASSING else "damaged" if code in _DAMAGED else "refused"


def create_engine(location: sa.URL) -> sa.Engine:
    """Return the engine of a file: each commit is durable, each transaction begins as the option `begin` says."""
    # isolation_level None: Python's driver must not begin transactions of its own; _begin below does.
    engine = sa.create_engine(location, connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_S})
    sa.event.listen(engine, "connect", _be_durable)
    sa.event.listen(engine, "begin", _begin)
    return engine


def for_writing(engine: sa.Engine) -> sa.Engine:
    """Return the same engine with transactions that hold the write lock from their beginning."""
    return engine.execution_options(begin=_WRITE)


def begin_by_driver(driver: sqlite3.Connection) -> bool:
    """Begin a transaction that holds the write lock; returns whether there is an archived name."""
    driver.execute(_WRITE)
    return driver.execute(ANY_ARCHIVED).fetchone() is not None


def _be_durable(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous = FULL")  # a commit returns after fsync: it survives a power loss
    # Seldom: a checkpoint holds up the commit that it comes with. `checkpoint` is for who answers nobody.
    connection.execute(f"PRAGMA wal_autocheckpoint = {_AUTOCHECKPOINT_PAGES}")
    connection.execute("PRAGMA temp_store = MEMORY")  # else an insert of several rows makes a file, to undo half of it
    connection.execute("PRAGMA secure_delete = ON")  # so that deleted user data does not stay in free pages


def _begin(connection: sa.Connection) -> None:
    # A writer takes the lock at once: upgrading a read transaction fails if another process wrote in between.
    if statement := connection.get_execution_options().get("begin", "BEGIN"):
        connection.exec_driver_sql(statement)


def contents(driver: sqlite3.Connection) -> Contents:
    """Return what a database is now."""
    # One statement, one snapshot: another process may be creating the tables right now.
    version, tables, has_revision = driver.execute(
        "SELECT (SELECT user_version FROM pragma_user_version), count(*), sum(name = 'alembic_version')"
        " FROM sqlite_master"
    ).fetchone()
    row = driver.execute("SELECT version_num FROM alembic_version").fetchone() if has_revision else None
    return Contents(row[0] if row else None, version, tables)


def enable_wal(driver: sqlite3.Connection) -> str:
    """Switch a file to a write-ahead log, and open that; returns the mode that it is in then, `wal` if it can be."""
    # Of a new file only: pages that deleted rows leave can be given back to the system (`give_back`).
    driver.execute("PRAGMA auto_vacuum = INCREMENTAL")
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
    driver.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the first to read opens the write-ahead log
    return str(mode)


def checkpoint(driver: sqlite3.Connection) -> None:
    """Move what is committed from the write-ahead log into the database file, as far as nobody is held up by it."""
    driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def give_back(driver: sqlite3.Connection) -> int | None:
    """Give free pages at the end of the file back to the system, some at a time; returns how many bytes.

    None: the file is of before files could shrink; its free pages are written to anew, and stay.
    """
    if driver.execute("PRAGMA auto_vacuum").fetchone()[0] != 2:
        return None
    (page,), (free,) = (driver.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "freelist_count"))
    before = free
    while free:
        began = time.monotonic()
        driver.execute(f"PRAGMA incremental_vacuum({_GIVEN_BACK_PAGES})").fetchall()
        time.sleep(time.monotonic() - began)  # others write too
        (left,) = driver.execute("PRAGMA freelist_count").fetchone()
        if left >= free:
            break
        free = left
    driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return int(before - free) * int(page)
