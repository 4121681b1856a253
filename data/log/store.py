"""The log: decisions, feedback, events, rejects and versions in a database, each record once by its key."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import sqlalchemy as sa

from data.log.database import Backend, Database, Identity, StoreError
from data.log.sqlite.backend import SqliteBackend
from data.log.statements import chunks
from data.log.tables import (
    DECISIONS,
    EVENTS,
    FEEDBACK,
    LOGS,
    Key,
    Log,
    R,
)
from data.log.unreadable import Fault, read
from data.schema import (
    AnyRecord,
    Decision,
    Event,
    Feedback,
)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the log holds for a record that was sent to it."""

    record: AnyRecord
    """As it is in the log: for a known key what was stored first, whatever was sent now."""
    inserted: bool
    """False if the key was known."""
    seq: int
    """Its position in the log of its kind: positions grow, some numbers are skipped."""
    orphan: bool = False
    """Of a feedback: the log has no decision with its decision id, at least not yet."""


def _backend(url: str) -> Backend:
    scheme = url.partition(":")[0]
    match scheme.partition("+")[0]:
        case "sqlite":
            return SqliteBackend(url)
        case "postgresql" if scheme in ("postgresql", "postgresql+psycopg"):
            from data.log.postgres.backend import PostgresBackend  # its driver is loaded by who needs it

            return PostgresBackend(url)
    raise StoreError(f"the log is kept in SQLite or PostgreSQL, expected sqlite:///path or postgresql://, got {scheme}")


class Store(Database):
    """The log in one database. Any number of threads and processes may hold one on the same place.

    `seq` is a log position: whoever has read up to one misses nothing by asking for what is after it. That needs
    positions to become visible in their order: whoever writes holds a lock from before its first position to its
    commit. Every reading method answers in the order of `seq`, and leaves out rows that cannot be read back
    (`data.log.unreadable`); all raise StoreUnavailable if the database does not answer within 30 s.
    """

    @classmethod
    def open(cls, url: str, clock: Callable[[], datetime] | None = None, expected: Identity | None = None) -> Self:
        """Open the log at a URL, `sqlite:///path` or libpq's `postgresql://`; make what is missing of it.

        SQLite's folder and file are made; a PostgreSQL database must be there. Tables are made, or brought to the
        newest revision. A log that is found to be damaged is opened for reading only: see `StoreDamaged`.

        Args:
            url: where it is.
            clock: gives the time for `received_at`, timezone-aware; None: that of the machine that the database is on.
            expected: which database it must be (`Database.identity` of who has opened it), not another in its place.

        Raises:
            StoreError: the URL is none of these, or the database is no log, one of other tables, or cannot be durable.
            StoreUnavailable: it cannot be reached now.
            StoreLost: it is not the expected one.
        """
        store = cls(_backend(url), clock)
        store._open(expected)
        return store

    def insert(self, records: Sequence[AnyRecord], *, received: bool = False) -> list[Stored]:
        """Commit the records in one transaction and return, in their order, what the log then holds for each.

        A known key changes nothing; of several records with one key the first is stored. `received_at` is set here,
        to one time for the whole transaction; with `received` only where a record has none: it comes from another log,
        which received it then. Raises StoreUnavailable if the database cannot commit now, StoreError
        (or the driver's ValueError or OverflowError) if a record does not fit a row, or the row of its key cannot be
        read back; then nothing is written.
        """
        if not records:
            return []
        answers: dict[int, Stored] = {}
        with self.writing() as connection:
            # Read with the write lock held, so that received_at grows with seq (as far as the clock itself grows).
            now = self.time(connection)
            for log in LOGS:
                batch = {place: record for place, record in enumerate(records) if isinstance(record, log.record)}
                if batch:
                    inserted = _insert(connection, log, list(batch.values()), now, received)
                    answers.update(zip(batch, inserted, strict=True))
            if len(answers) != len(records):
                raise TypeError(f"expected decisions, feedback, events and rejects, got {set(map(type, records))}")
        return [answers[place] for place in range(len(records))]

    def decision(self, decision_id: str) -> Decision | None:
        """Return the decision, or None if the log has none with this id."""
        return self.decisions_by_id([decision_id]).get(decision_id)

    def decisions_by_id(self, decision_ids: Collection[str]) -> dict[str, Decision]:
        """Return those of the decisions that the log has, by id."""
        with self.reading() as connection:
            rows = _select_in(connection, DECISIONS, DECISIONS.table.c.decision_id, decision_ids)
        return {decision.decision_id: decision for _, decision in rows}

    def decisions(
        self,
        after: int = 0,
        limit: int | None = None,
        *,
        loop: str | None = None,
        without: Collection[str] = (),
        faults: list[Fault] | None = None,
    ) -> list[tuple[int, Decision]]:
        """Return the decisions after a log position with their positions: `limit` at most.

        `without` names fields that are not read, for speed: they are empty tuples in what is returned. `faults` gets
        the rows that cannot be read back, here and where else it is taken.
        """
        where = DECISIONS.between(after, None, loop)
        return self._select(DECISIONS, *where, limit=limit, without=without, faults=faults)

    def last_decision(self) -> int:
        """Return the log position of the last decision, 0 if there is none."""
        with self.reading() as connection:
            query = sa.select(sa.func.coalesce(sa.func.max(DECISIONS.table.c.seq), 0))
            return int(connection.execute(query).scalar_one())

    def feedback_of(
        self, decision_ids: Collection[str], faults: list[Fault] | None = None
    ) -> dict[str, list[Feedback]]:
        """Return the feedback of each decision in log order; decisions without any are left out."""
        with self.reading() as connection:
            rows = _select_in(connection, FEEDBACK, FEEDBACK.table.c.decision_id, decision_ids, faults=faults)
        grouped: dict[str, list[Feedback]] = {}
        for _, feedback in rows:
            grouped.setdefault(feedback.decision_id, []).append(feedback)
        return grouped

    def events(self, node_id: str, after: int = 0, limit: int | None = None) -> list[tuple[int, Event]]:
        """Return a node's events after a log position with their positions, `limit` at most."""
        columns = EVENTS.table.c
        return self._select(EVENTS, columns.node_id == node_id, columns.seq > after, limit=limit)

    def _select(
        self,
        log: Log[R],
        *where: sa.ColumnElement[bool],
        limit: int | None = None,
        without: Collection[str] = (),
        faults: list[Fault] | None = None,
    ) -> list[tuple[int, R]]:
        query = log.select(without=without).where(*where).order_by(log.table.c.seq).limit(limit)
        with self.reading() as connection:
            return read(connection, log, query, faults)


def _insert(
    connection: sa.Connection, log: Log[Any], batch: Sequence[AnyRecord], now: datetime, received: bool
) -> list[Stored]:
    """Insert what is new of one table's records and return what the table then holds for each."""
    stamp = {"received_at": now} if "received_at" in log.table.c else {}
    keys = [log.key_of(record) for record in batch]
    sent: dict[Key, AnyRecord] = {}
    for key, record in zip(keys, batch, strict=True):
        kept = not stamp or (received and getattr(record, "received_at", None) is not None)
        sent.setdefault(key, record if kept else record.model_copy(update=stamp))
    rows = connection.execute(log.insertion, [record.__dict__ for record in sent.values()])
    new: dict[Key, int] = {tuple(row[1:]): row[0] for row in rows}
    known = _select_keys(connection, log, (key for key in sent if key not in new))
    held: dict[Key, tuple[int, AnyRecord]] = {key: (seq, sent[key]) for key, seq in new.items()}
    held |= {log.key_of(record): (seq, record) for seq, record in known}
    if lost := [key for key in sent if key not in held]:
        raise StoreError(f"{log.table.name} has {'/'.join(lost[0])!r} already, in a row that cannot be read back")
    orphans = _orphans(connection, [record for _, record in held.values() if isinstance(record, Feedback)])
    answers = []
    for key in keys:
        seq, record = held[key]
        orphan = isinstance(record, Feedback) and record.decision_id in orphans
        answers.append(Stored(record, inserted=new.pop(key, None) is not None, seq=seq, orphan=orphan))
    return answers


def _orphans(connection: sa.Connection, feedback: Collection[Feedback]) -> set[str]:
    """Return the decision ids among the feedback's that the log does not have."""
    wanted = {item.decision_id for item in feedback}
    column = DECISIONS.table.c.decision_id
    for ids in chunks(frozenset(wanted)):
        wanted.difference_update(connection.execute(sa.select(column).where(column.in_(ids))).scalars())
    return wanted


def _select_keys(connection: sa.Connection, log: Log[R], keys: Iterable[Key]) -> list[tuple[int, R]]:
    """Select rows by key, node by node where it has a node id: SQLite uses no index for a list of pairs."""
    last_by_first: dict[Key, list[str]] = {}
    for *first, last in keys:
        last_by_first.setdefault(tuple(first), []).append(last)
    rows: list[tuple[int, R]] = []
    for firsts, lasts in last_by_first.items():
        same = [column == value for column, value in zip(log.key, firsts, strict=False)]
        rows += _select_in(connection, log, log.key[-1], lasts, *same)
    return rows


def _select_in(
    connection: sa.Connection,
    log: Log[R],
    column: sa.Column[Any],
    values: Collection[str],
    *where: sa.ColumnElement[bool],
    faults: list[Fault] | None = None,
) -> list[tuple[int, R]]:
    rows: list[tuple[int, R]] = []
    for chunk in chunks(values):
        query = log.select().where(column.in_(chunk), *where).order_by(log.table.c.seq)
        rows += read(connection, log, query, faults)
    return rows
