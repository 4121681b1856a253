"""Transactions that insert by the database's driver, past SQLAlchemy; `RAYCOMMEND_PLAIN=1` turns it off.

Gains a quarter of the processor time of a commit of eight decisions in the process that writes (SQLite, SQLAlchemy
2.1.9; medians of interleaved runs), and two of five round trips to a PostgreSQL server, four where all keys are new
(`data.log.insertion.at_once`). The plain way is `Database.writing` with SQLAlchemy's own connection: the same
statements in the same order.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from data.fields import to_us
from data.log.backend import Backend


@dataclass(frozen=True, slots=True)
class DriverTransaction:
    """See `data.log.insertion.insert.Transaction`."""

    connection: sa.Connection
    """Of the same transaction: it neither begins nor ends one."""
    now: int
    any_archived: bool
    driver: Any

    def execute(self, statement: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Run a statement of the driver's and return its rows."""
        rows: Sequence[Sequence[Any]] = self.driver.execute(statement, values).fetchall()
        return rows


@contextmanager
def connected(backend: Backend) -> Iterator[tuple[sa.Connection, Any]]:
    """Take a connection without a transaction: SQLAlchemy's, and the driver's in it."""
    with backend.begun.connect() as connection:
        try:
            yield connection, connection.connection.driver_connection
        except backend.driver_error as error:
            if backend.ends_connection(error):  # SQLAlchemy has not seen it, and would give it to the next
                connection.invalidate()
            raise


@contextmanager
def begin(backend: Backend, clock: Callable[[], datetime] | None) -> Iterator[DriverTransaction]:
    """Open a transaction that holds the write lock, and commit it at the end; its time is `clock`'s if there is one."""
    with connected(backend) as (connection, driver):
        now, any_archived = backend.begin_by_driver(driver)
        yield DriverTransaction(connection, to_us(clock()) if clock else now, any_archived, driver)
        driver.commit()
