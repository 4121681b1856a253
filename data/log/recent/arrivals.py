"""What has come lately and how much there is, for people who look. Each answer reads a bounded number of rows.

Of the log itself: rows that were archived are counted by the entries of their files, and not read.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from data.log.statements import database_bytes
from data.log.store import Store
from data.log.tables import DECISIONS, EVENTS, FEEDBACK, LOGS, PARTS, REJECTS
from data.log.unreadable import read
from data.schema import SHADOW, Reject

MOST_NODES = 100
"""Nodes that are listed."""


@dataclass(frozen=True)
class TableSize:
    """How much of one kind of record there is."""

    name: str
    first: int | None
    """Log position of the oldest row in the log itself; None: it has none."""
    last: int
    """Log position of the newest, archived or not; 0: there never was one."""
    oldest: datetime | None
    """When the oldest row in the log itself came."""
    archived_rows: int
    archived_bytes: int
    archived_through: datetime | None
    """Time of the newest archived row."""

    @property
    def kept(self) -> int:
        """How many rows the log itself has, at most: positions that were rolled back are no rows."""
        return 0 if self.first is None else self.last - self.first + 1


@dataclass(frozen=True)
class LogSize:
    """How large the log is."""

    bytes: int
    """Of its database, without the write-ahead log of SQLite."""
    tables: tuple[TableSize, ...]


def list_nodes(store: Store) -> list[str]:
    """Return the nodes that have events or rejects in the log, by name, `MOST_NODES` at most.

    From one name to the next by the index: it takes as many steps as there are nodes, however many rows they have.
    """
    found = set[str]()
    with store.reading() as connection:
        for table in (EVENTS.table, REJECTS.table):
            node = ""
            for _ in range(MOST_NODES):
                after = sa.select(sa.func.min(table.c.node_id)).where(table.c.node_id > node)
                following = connection.execute(after).scalar()
                if following is None:
                    break
                found.add(node := following)
    return sorted(found)[:MOST_NODES]


def newest_events(store: Store, node_id: str, limit: int) -> list[datetime]:
    """Return when the newest events of a node were received, the newest first."""
    return _newest(store, EVENTS.table.c.received_at, EVENTS.table.c.node_id == node_id, limit)


def newest_feedback(store: Store, limit: int) -> list[datetime]:
    """Return when the newest feedback was received, the newest first."""
    return _newest(store, FEEDBACK.table.c.received_at, sa.true(), limit)


def _newest(store: Store, time: sa.Column[datetime], where: sa.ColumnElement[bool], limit: int) -> list[datetime]:
    query = sa.select(time).where(where).order_by(time.table.c.seq.desc()).limit(limit)
    with store.reading() as connection:
        return list(connection.execute(query).scalars())


def newest_slates(store: Store, limit: int) -> list[tuple[str | None, datetime]]:
    """Return where the newest decisions were to be shown, None where no node was named, and when they were made."""
    c = DECISIONS.table.c
    query = sa.select(c.node_id, c.time).where(c.loop != SHADOW).order_by(c.seq.desc()).limit(limit)
    with store.reading() as connection:
        return [(node, time) for node, time in connection.execute(query)]


def newest_rejects(store: Store, node_id: str, limit: int) -> list[Reject]:
    """Return the newest rejects of a node, the newest first."""
    c = REJECTS.table.c
    query = REJECTS.select().where(c.node_id == node_id).order_by(c.seq.desc()).limit(limit)
    with store.reading() as connection:
        return [reject for _, reject in read(connection, REJECTS, query)]


def time_of_decision(store: Store, position: int) -> datetime | None:
    """Return when the first decision from a log position on was made, of those in the log itself; None: there is none.

    It does not count which loop it is of.
    """
    c = DECISIONS.table.c
    query = sa.select(c.time).where(c.seq >= position).order_by(c.seq).limit(1)
    with store.reading() as connection:
        found: datetime | None = connection.execute(query).scalar()
        return found


def measure_log(store: Store) -> LogSize:
    """Return how large the log is: by its ends, not by counting."""
    with store.reading() as connection:
        archived = {row.kind: row for row in connection.execute(_archived())}
        tables = list[TableSize]()
        for log in LOGS:
            table, time = log.table, log.table.c.get("received_at", log.table.c.get("time"))
            assert time is not None, "every log has a time"
            first, last = connection.execute(sa.select(sa.func.min(table.c.seq), sa.func.max(table.c.seq))).one()
            part = archived.get(table.name)
            tables.append(
                TableSize(
                    name=table.name,
                    first=first,
                    last=max(last or 0, part.last if part else 0),
                    oldest=connection.execute(sa.select(time).where(table.c.seq == first)).scalar(),
                    archived_rows=int(part.rows) if part else 0,
                    archived_bytes=int(part.bytes) if part else 0,
                    archived_through=part.through if part else None,
                )
            )
        size = connection.execute(sa.select(database_bytes())).scalar_one()
    return LogSize(int(size), tuple(tables))


def _archived() -> sa.Select[tuple[str, int, int, int, datetime]]:
    c = PARTS.c
    sums = [sa.func.max(c.last).label("last"), sa.func.sum(c.rows).label("rows"), sa.func.sum(c.bytes).label("bytes")]
    query = sa.select(c.kind, *sums, sa.func.max(c.time_last).label("through"))
    return query.where(c.path.is_not(None)).group_by(c.kind)
