"""The log: decisions, feedback, events, rejects and versions in a database, each record once by its key.

Closed days may lie in the archive (`data.archive`): all who read the log read them too, by its database's say.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Self

import pyarrow.compute as pc
import sqlalchemy as sa
from pydantic_core import PydanticSerializationError

from data.log.archived import keys as archived_keys
from data.log.archived.columns import to_records
from data.log.archived.parts import PartFiles, last_archived, last_part
from data.log.archived.reading import Archived, from_both, merge
from data.log.database import Backend, Database, Identity, StoreError
from data.log.insertion import insert_rows
from data.log.sqlite.backend import SqliteBackend
from data.log.statements import chunks, one_of
from data.log.tables import (
    DECISIONS,
    EVENTS,
    FEEDBACK,
    LOGS,
    NAMED,
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


@dataclass(slots=True)
class _Known:
    """What the archive has of some records that are to be inserted."""

    last_part: int = -1
    """The newest part when it was read; -1: it was not read yet."""
    records: dict[tuple[str, Key], tuple[int, AnyRecord]] = field(default_factory=dict)
    """By table and key, with their positions."""
    decision_ids: set[str] = field(default_factory=set)
    """Those that feedback is about."""

    def is_complete(self, connection: sa.Connection, records: Sequence[AnyRecord]) -> bool:
        """Return whether the archive has no more of them, in a transaction that holds the write lock."""
        if not archived_keys.any_archived(connection):
            return True
        numbers = {
            archived_keys.number(log, log.key_of(r)) for log in NAMED for r in records if isinstance(r, log.record)
        }
        numbers |= {archived_keys.number(DECISIONS, (r.decision_id,)) for r in records if isinstance(r, Feedback)}
        # What has no number is not archived; of what has one, the part may be newer than what was read.
        return not archived_keys.positions(connection, numbers) or self.last_part == last_part(connection)


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
        known = _Known()
        while True:
            with self.writing() as connection:
                if known.is_complete(connection, records):
                    return self._insert(connection, records, received, known)
            known = self._look_up(records)  # without the write lock: files are read

    @from_both
    def _look_up(self, records: Sequence[AnyRecord]) -> "_Known":
        with self.reading() as connection:
            known, archived = _Known(last_part(connection)), self.archived(connection)
            for log in LOGS:
                wanted = {log.key_of(record) for record in records if isinstance(record, log.record)}
                for seq, record in archived.records_by_key(log, wanted):
                    known.records[log.table.name, log.key_of(record)] = seq, record
            about = {(record.decision_id,) for record in records if isinstance(record, Feedback)}
            known.decision_ids.update(archived.find(DECISIONS, about)["decision_id"].to_pylist())
        return known

    def _insert(
        self, connection: sa.Connection, records: Sequence[AnyRecord], received: bool, known: "_Known"
    ) -> list[Stored]:
        answers: dict[int, Stored] = {}
        # Read with the write lock held, so that received_at grows with seq (as far as the clock itself grows).
        now = self.time(connection)
        for log in LOGS:
            batch = {place: record for place, record in enumerate(records) if isinstance(record, log.record)}
            if batch:
                inserted = _insert(connection, log, list(batch.values()), now, received, known)
                answers.update(zip(batch, inserted, strict=True))
        if len(answers) != len(records):
            raise TypeError(f"expected decisions, feedback, events and rejects, got {set(map(type, records))}")
        return [answers[place] for place in range(len(records))]

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
            rows = _select_in(connection, DECISIONS, DECISIONS.table.c.decision_id, decision_ids)
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
            rows = _select_in(connection, FEEDBACK, FEEDBACK.table.c.decision_id, decision_ids, faults=faults)
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


def _insert(
    connection: sa.Connection,
    log: Log[Any],
    batch: Sequence[AnyRecord],
    now: datetime,
    received: bool,
    archived: _Known,
) -> list[Stored]:
    """Insert what is new of one table's records and return what the log then holds for each."""
    stamp = {"received_at": now} if "received_at" in log.table.c else {}
    keys = [log.key_of(record) for record in batch]
    sent: dict[Key, AnyRecord] = {}
    for key, record in zip(keys, batch, strict=True):
        kept = not stamp or (received and getattr(record, "received_at", None) is not None)
        sent.setdefault(key, record if kept else record.model_copy(update=stamp))
    held: dict[Key, tuple[int, AnyRecord]] = {}
    if archived.records:
        held = {key: archived.records[log.table.name, key] for key in sent if (log.table.name, key) in archived.records}
    try:
        new = insert_rows(connection, log, [record for key, record in sent.items() if key not in held])
    except PydanticSerializationError as error:
        raise StoreError(f"a record does not fit a row: {error}") from error
    known = _select_keys(connection, log, (key for key in sent if key not in new and key not in held))
    held |= {key: (seq, sent[key]) for key, seq in new.items()}
    held |= {log.key_of(record): (seq, record) for seq, record in known}
    if lost := [key for key in sent if key not in held]:
        raise StoreError(f"{log.table.name} has {'/'.join(lost[0])!r} already, in a row that cannot be read back")
    orphans = _orphans(connection, [record for _, record in held.values() if isinstance(record, Feedback)])
    orphans -= archived.decision_ids
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
        wanted.difference_update(connection.execute(sa.select(column).where(one_of(connection, column, ids))).scalars())
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
        query = log.select().where(one_of(connection, column, chunk), *where).order_by(log.table.c.seq)
        rows += read(connection, log, query, faults)
    return rows
