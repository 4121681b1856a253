"""Which files have archived rows of the log, as its database says. `data.log.archived.files` reads them."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from data.errors import DataError
from data.log.tables import PARTS, Log


@dataclass(frozen=True)
class Part:
    """A file of archived rows of one table, in the order of their positions."""

    seq: int
    """Which entry it is; a file that is rewritten gets another."""
    kind: str
    day: date
    first: int
    last: int
    """Positions of its first and last row. Those between are in it, in another part, in the log, or never were."""
    refers: tuple[int, int] | None
    """The same of the decisions that feedback is about."""
    times: tuple[datetime, datetime]
    """Of its earliest and latest row."""
    rows: int
    bytes: int
    root: str
    path: str
    cleared: bool


class PartGone(DataError):  # noqa: N818 - a state: who reads begins anew
    """A file was rewritten or deleted since its entry was read."""


def select_parts(connection: sa.Connection, kind: str, *where: sa.ColumnElement[bool]) -> list[Part]:
    """Return the parts of a table that meet conditions, in the order of their first positions."""
    columns = PARTS.c
    query = sa.select(PARTS).where(columns.kind == kind, columns.path.is_not(None), *where).order_by(columns.first)
    return [_part(row) for row in connection.execute(query)]


def parts_between(connection: sa.Connection, log: Log[Any], after: int, until: int | None = None) -> list[Part]:
    """Return the parts that may have rows after a position, up to another (None: any)."""
    where = [PARTS.c.last > after, *([PARTS.c.first <= until] if until is not None else [])]
    return select_parts(connection, log.table.name, *where)


def parts_about(connection: sa.Connection, first: int, last: int) -> list[Part]:
    """Return the parts that may have feedback about decisions between two positions."""
    return select_parts(connection, "feedback", PARTS.c.refers_first <= last, PARTS.c.refers_last >= first)


def last_part(connection: sa.Connection) -> int:
    """Return the newest entry, 0 if there is none: another one says that something was archived or rewritten."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(PARTS.c.seq), 0))).scalar_one())


def last_archived(connection: sa.Connection, log: Log[Any]) -> int:
    """Return the last position of a table that was archived, 0 if there is none."""
    query = sa.select(sa.func.coalesce(sa.func.max(PARTS.c.last), 0)).where(PARTS.c.kind == log.table.name)
    return int(connection.execute(query).scalar_one())


def archived_after(connection: sa.Connection, log: Log[Any], after: int) -> tuple[int, int | None]:
    """Return how many rows the parts have that reach beyond a position, and the earliest of their times."""
    columns = PARTS.c
    of = sa.select(
        sa.func.coalesce(sa.func.sum(columns.rows), 0), sa.func.min(sa.type_coerce(columns.time_first, sa.BigInteger))
    )
    query = of.where(columns.kind == log.table.name, columns.last > after, columns.path.is_not(None))
    rows, first = connection.execute(query).one()
    return int(rows), first


def _part(row: Any) -> Part:
    refers = None if row.refers_first is None else (row.refers_first, row.refers_last)
    day = date.fromisoformat(row.day)
    ends, times = (row.first, row.last), (row.time_first, row.time_last)
    return Part(row.seq, row.kind, day, *ends, refers, times, row.rows, row.bytes, row.root, row.path, row.cleared)
