"""Transactions that insert by the database's driver, past SQLAlchemy; `RAYCOMMEND_PLAIN=1` turns it off.

Gains a quarter of the processor time of a commit of eight decisions in the process that writes (SQLite, SQLAlchemy
2.1.9; medians of interleaved runs), and two of five round trips to a PostgreSQL server, three where all keys are new
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
from data.log.backend import Backend, Rows, Statements


@dataclass(frozen=True, slots=True)
class DriverTransaction:
    """See `data.log.insertion.insert.Transaction`."""

    connection: sa.Connection
    """Of the same transaction: it neither begins nor ends one."""
    now: int
    any_archived: bool
    driver: Any
    commit_with: Callable[[Statements], list[Rows] | None] | None

    def execute(self, statement: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Run a statement of the driver's and return its rows."""
        rows: Sequence[Sequence[Any]] = self.driver.execute(statement, values).fetchall()
        return rows


@contextmanager
def begin(
    backend: Backend, clock: Callable[[], datetime] | None, committing: list[bool]
) -> Iterator[DriverTransaction]:
    """Open a transaction that holds the write lock, and commit it at the end, if it was not before.

    Args:
        backend: of the database.
        clock: gives its time; None: the backend's does.
        committing: gets something when it may be committed before its end.
    """

    def commit_with(statements: Statements) -> list[Rows] | None:
        assert backend.commit_with is not None, "else this is not given"
        committing.append(True)
        return backend.commit_with(driver, statements)

    with backend.begun.connect() as connection:
        driver: Any = connection.connection.driver_connection
        try:
            now, any_archived = backend.begin_by_driver(driver)
            time = to_us(clock()) if clock else now
            yield DriverTransaction(
                connection, time, any_archived, driver, commit_with if backend.commit_with else None
            )
            driver.commit()
        except backend.driver_error as error:
            if backend.ends_connection(error):  # SQLAlchemy has not seen it, and would give it to the next
                connection.invalidate()
            raise
