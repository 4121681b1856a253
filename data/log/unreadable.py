"""Rows of the log that cannot be read back: each is named and left out, and all others are read.

A row was written from a valid record; but another hand may have written it, or a disk has damaged it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from data.log.statements import chunks, one_of
from data.log.tables import Log, R

UNREADABLE = (ValueError, TypeError, OverflowError, AttributeError, KeyError, sa.exc.OperationalError)
"""What reading a damaged row raises; of the last only that SQLite cannot decode a text."""

_log = logging.getLogger("raycommend.store")


@dataclass(frozen=True, slots=True)
class Fault:
    """A row of the log that cannot be read back."""

    table: str
    seq: int
    reason: str


def read(
    connection: sa.Connection, log: Log[R], query: sa.Select[Any], faults: list[Fault] | None = None
) -> list[tuple[int, R]]:
    """Run a `Log.select` and return its records with their positions; rows that cannot be read are left out and said.

    Args:
        connection: of the store.
        log: the table.
        query: its select.
        faults: gets the rows that were left out; a line of the log names each once in any case.
    """
    try:
        return log.read(connection.execute(query))
    except UNREADABLE as error:
        pass_on(error)
    seqs = list(connection.execute(query.with_only_columns(log.table.c.seq)).scalars())
    records = list[tuple[int, R]]()
    _read_apart(connection, log, query.limit(None), seqs, records, faults if faults is not None else [])
    return records


def _read_apart(
    connection: sa.Connection,
    log: Log[R],
    query: sa.Select[Any],
    seqs: Sequence[int],
    records: list[tuple[int, R]],
    faults: list[Fault],
) -> None:
    """Read rows by halves, down to the one that cannot be read."""
    seq, rows = log.table.c.seq, list[tuple[int, R]]()
    try:
        for chunk in chunks(seqs):
            rows += log.read(connection.execute(query.where(one_of(connection, seq, chunk))))
        records += rows
        return
    except UNREADABLE as error:
        pass_on(error)
        if len(seqs) == 1:
            faults.append(Fault(log.table.name, seqs[0], describe_error(error)))
            log_unreadable(log.table.name, seqs[0], describe_error(error))
            return
    half = len(seqs) // 2
    _read_apart(connection, log, query, seqs[:half], records, faults)
    _read_apart(connection, log, query, seqs[half:], records, faults)


def pass_on(error: Exception) -> None:
    """Raise what says that the database does not answer: that is no row's fault."""
    if isinstance(error, sa.exc.OperationalError) and "Could not decode" not in str(error):
        raise error


@lru_cache(maxsize=1_000)
def log_unreadable(table: str, seq: int | str, reason: str) -> None:
    """Name a row that was left out in the log, once."""
    _log.error("row %s of %s cannot be read and is passed over: %s", seq, table, reason)


def describe_error(error: BaseException) -> str:
    """Return an error as a reason: one line, not long."""
    text = " ".join(str(getattr(error, "orig", error)).split())
    return f"{type(error).__name__}: {text}"[:300]
