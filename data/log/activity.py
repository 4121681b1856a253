"""What goes through the log now, for those who watch it: reports by output node, input nodes, sizes. No whole rows."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from data.fields import from_us
from data.log.statements import read_stored, stored_bytes, stored_integer
from data.log.store import Store
from data.log.tables import DECISIONS, EVENTS, FEEDBACK, REJECTS


class Heard(NamedTuple):
    """A report beside its decision."""

    seq: int
    kind: str
    received_us: int
    """When it was logged, in microseconds since 1970 UTC."""
    node_id: str | None
    """The output node of its decision."""
    decided_us: int
    """When that was made."""


def last_feedback_position(store: Store) -> int:
    """Return the log position of the newest report in the database, 0 if there is none.

    Raises:
        StoreUnavailable: the log does not answer.
    """
    with store.reading() as connection:
        return connection.execute(sa.select(sa.func.max(FEEDBACK.table.c.seq))).scalar() or 0


def heard_after(store: Store, after: int, limit: int) -> tuple[list[Heard], int]:
    """Return the reports after a log position whose decisions are in the database, and how far was looked.

    It has looked at all where that is as far as before.

    Args:
        store: the log.
        after: a log position.
        limit: the most reports that are looked at.

    Raises:
        StoreUnavailable: the log does not answer.
    """
    f, d = FEEDBACK.table.c, DECISIONS.table.c
    some = sa.select(f.seq).where(f.seq > after).order_by(f.seq).limit(limit).subquery()
    columns: list[sa.ColumnElement[Any]] = [f.seq, stored_bytes(f.kind), stored_integer(f.received_at)]
    columns += [stored_bytes(d.node_id), stored_integer(d.time)]
    with store.reading() as connection:
        until = connection.execute(sa.select(sa.func.max(some.c.seq))).scalar() or after
        both = FEEDBACK.table.join(DECISIONS.table, sa.and_(d.decision_id == f.decision_id, d.loop == f.loop))
        query = sa.select(*columns).select_from(both).where(f.seq > after, f.seq <= until).order_by(f.seq)
        return [Heard(*row) for row in read_stored(connection, query)], until


def last_seen(store: Store, nodes: Collection[str]) -> dict[str, datetime]:
    """Return when the newest row of each input node was logged, accepted or rejected; without those that have none.

    Raises:
        StoreUnavailable: the log does not answer.
    """
    found = dict[str, datetime]()
    with store.reading() as connection:
        for node in nodes:
            times = list[int]()
            for table in (EVENTS.table, REJECTS.table):
                newest = sa.select(stored_integer(table.c.received_at)).where(table.c.node_id == node)
                at = connection.execute(newest.order_by(table.c.seq.desc()).limit(1)).scalar()
                times += [] if at is None else [int(at)]
            if times:
                found[node] = from_us(max(times))
    return found


def oldest_decision(store: Store) -> datetime | None:
    """Return when the first decision was made that the database still has; None: it has none.

    Raises:
        StoreUnavailable: the log does not answer.
    """
    columns = DECISIONS.table.c
    with store.reading() as connection:
        first = sa.select(stored_integer(columns.time)).order_by(columns.seq).limit(1)
        at = connection.execute(first).scalar()
    return None if at is None else from_us(int(at))


def size_bytes(store: Store) -> int:
    """Return the size of the log's database, in bytes.

    Raises:
        StoreUnavailable: the log does not answer.
    """
    with store.reading() as connection:
        if connection.dialect.name == "sqlite":
            pages = sa.text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
            return int(connection.execute(pages).scalar_one())
        return int(connection.execute(sa.select(sa.func.pg_database_size(sa.func.current_database()))).scalar_one())
