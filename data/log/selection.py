"""Records of the log by what names them."""

from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa

from data.log.statements import chunks, one_of
from data.log.tables import Key, Log, R
from data.log.unreadable import Fault, read


def select_keys(connection: sa.Connection, log: Log[R], keys: Iterable[Key]) -> list[tuple[int, R]]:
    """Select rows by key, node by node where it has a node id: SQLite uses no index for a list of pairs."""
    last_by_first: dict[Key, list[str]] = {}
    for *first, last in keys:
        last_by_first.setdefault(tuple(first), []).append(last)
    rows: list[tuple[int, R]] = []
    for firsts, lasts in last_by_first.items():
        same = [column == value for column, value in zip(log.key, firsts, strict=False)]
        rows += select_in(connection, log, log.key[-1], lasts, *same)
    return rows


def select_in(
    connection: sa.Connection,
    log: Log[R],
    column: sa.Column[Any],
    values: Collection[str],
    *where: sa.ColumnElement[bool],
    faults: list[Fault] | None = None,
) -> list[tuple[int, R]]:
    """Select rows that have one of some values in a column, in the order of the log for each statement."""
    rows: list[tuple[int, R]] = []
    for chunk in chunks(values):
        query = log.select().where(one_of(connection, column, chunk), *where).order_by(log.table.c.seq)
        rows += read(connection, log, query, faults)
    return rows
