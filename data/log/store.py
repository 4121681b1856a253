"""The log: decisions, feedback, events, rejects and versions in a database, each record once by its key.

Closed days may lie in the archive (`data.archive`): all who read the log read them too, by its database's say.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Self

import pyarrow.compute as pc
import sqlalchemy as sa

from data.fields import from_us, to_us
from data.log.archived.columns import to_records
from data.log.archived.keys import any_archived
from data.log.archived.parts import PartFiles, last_archived
from data.log.archived.reading import Archived, from_both, merge
from data.log.database import Backend, Database, Identity, StoreError
from data.log.insertion import bypass
from data.log.insertion.insert import Known, Placed, PlainTransaction, Transaction, insert_rows
from data.log.insertion.rows import RECEIVED_AT, Row, to_row
from data.log.selection import select_in
from data.log.sqlite.backend import SqliteBackend
from data.log.tables import DECISIONS, EVENTS, FEEDBACK, Log, R
from data.log.unreadable import Fault, read
from data.schema import AnyRecord, Decision, Event, Feedback
from data.settings import Settings


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

    @classmethod
    def of(cls, record: AnyRecord, placed: Placed) -> Self:
        """Return what the log holds for a record that was sent as a row."""
        if placed.record is not None:
            record = placed.record
        elif placed.received_at is not None:
            record = record.model_copy(update={RECEIVED_AT: from_us(placed.received_at)})
        return cls(record, placed.inserted, placed.seq, placed.orphan)


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

    _plain = False

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
        store._plain = Settings().plain
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
        placed = self.insert_rows([to_row(record) for record in records], received=received)
        return [Stored.of(record, one) for record, one in zip(records, placed, strict=True)]

    def insert_rows(self, rows: Sequence[Row], *, received: bool = False) -> list[Placed]:
        """Commit rows as `insert` does records."""
        if not rows:
            return []
        known = Known()
        while True:
            with self.inserting() as transaction:
                if known.is_complete(transaction, rows):
                    return insert_rows(transaction, rows, received, known)
            known = self._look_up(rows)  # without the write lock: files are read

    @contextmanager
    def inserting(self) -> Iterator[Transaction]:
        """Open a transaction to insert in, as `writing` does."""
        if self._plain:
            with self.writing() as connection:
                yield PlainTransaction(connection, to_us(self.time(connection)), any_archived(connection))
        else:
            with self._committing(bypass.begin(self._backend, self._clock)) as transaction:
                yield transaction

    @from_both
    def _look_up(self, rows: Sequence[Row]) -> Known:
        with self.reading() as connection:
            return Known.look_up(connection, self.archived(connection), rows)

    def decision(self, decision_id: str) -> Decision | None:
        """Return the decision, or None if the log has none with this id."""
        return self.decisions_by_id([decision_id]).get(decision_id)

    @cached_property
    def parts(self) -> PartFiles:
        """The files of archived rows."""
        return PartFiles(self._backend.folder)

    def archived(self, connection: sa.Connection) -> Archived:
        """Return the archived rows as a transaction sees them, for those who read tables with `from_both`."""
        return Archived(connection, self.parts)

    @from_both
    def decisions_by_id(self, decision_ids: Collection[str]) -> dict[str, Decision]:
        """Return those of the decisions that the log has, by id."""
        with self.reading() as connection:
            rows = select_in(connection, DECISIONS, DECISIONS.table.c.decision_id, decision_ids)
            missing = {*decision_ids}.difference(decision.decision_id for _, decision in rows)
            rows += self.archived(connection).records_by_key(DECISIONS, {(one,) for one in missing})
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
        of_loop = [pc.field("loop") == loop] if loop is not None else []
        where = DECISIONS.between(after, None, loop)
        return self._select(DECISIONS, after, where, of_loop, limit, without, faults)

    def last_decision(self) -> int:
        """Return the log position of the last decision, 0 if there is none."""
        with self.reading() as connection:
            last = connection.execute(sa.select(sa.func.max(DECISIONS.table.c.seq))).scalar_one()
            return max(last or 0, last_archived(connection, DECISIONS))

    @from_both
    def feedback_of(
        self, decision_ids: Collection[str], faults: list[Fault] | None = None
    ) -> dict[str, list[Feedback]]:
        """Return the feedback of each decision in log order; decisions without any are left out."""
        with self.reading() as connection:
            rows = select_in(connection, FEEDBACK, FEEDBACK.table.c.decision_id, decision_ids, faults=faults)
            archived = self.archived(connection)
            if len(decided := archived.find(DECISIONS, {(one,) for one in decision_ids})):
                about = archived.about(decided["seq"].to_pylist(), None, archived.columns(FEEDBACK))
                rows = merge(to_records(FEEDBACK, about, faults), rows)
        grouped: dict[str, list[Feedback]] = {}
        for _, feedback in rows:
            grouped.setdefault(feedback.decision_id, []).append(feedback)
        return grouped

    def events(self, node_id: str, after: int = 0, limit: int | None = None) -> list[tuple[int, Event]]:
        """Return a node's events after a log position with their positions, `limit` at most."""
        columns = EVENTS.table.c
        where = [columns.node_id == node_id, columns.seq > after]
        return self._select(EVENTS, after, where, [pc.field("node_id") == node_id], limit, (), None)

    @from_both
    def _select(
        self,
        log: Log[R],
        after: int,
        where: Sequence[sa.ColumnElement[bool]],
        archived_where: Sequence[pc.Expression],
        limit: int | None,
        without: Collection[str],
        faults: list[Fault] | None,
    ) -> list[tuple[int, R]]:
        """Read rows after a position from archive and log; both conditions mean the same."""
        query = log.select(without=without).where(*where).order_by(log.table.c.seq).limit(limit)
        with self.reading() as connection:
            archived = self.archived(connection)
            table = archived.between(log, after, None, limit, archived.columns(log, without), *archived_where)
            if limit is not None and table.num_rows == limit:
                query = query.where(log.table.c.seq < table["seq"][-1].as_py())
            rows = read(connection, log, query, faults)
        return merge(to_records(log, table, faults), rows)[:limit]
