"""Rows into the log: each once by its key, whatever the log and its archive have already."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Protocol

import sqlalchemy as sa

from data.log.archived import keys as archived_keys
from data.log.archived.parts import last_part
from data.log.backend import Rows
from data.log.column_types import RawText
from data.log.errors import StoreError
from data.log.insertion.rows import Layout, Row, layouts
from data.log.selection import select_keys
from data.log.statements import chunks, one_of
from data.log.tables import DECISIONS, NAMED, Key
from data.schema import AnyRecord, Feedback

if TYPE_CHECKING:
    from data.log.archived.reading import Archived

_ROWS: Final = 1_000  # of a statement; SQLite binds at most 32,766 values


@dataclass(frozen=True, slots=True)
class LoggedRow:
    """What the log holds for a row that was sent to it."""

    seq: int
    inserted: bool
    """False if the key was known."""
    orphan: bool = False
    """Of a feedback: the log has no decision with its decision id, at least not yet."""
    received_at: int | None = None
    """What a row that was inserted was stamped with, in microseconds since 1970."""
    record: AnyRecord | None = None
    """Of a known key: what was stored first."""


class Transaction(Protocol):
    """A transaction that holds the write lock."""

    @property
    def connection(self) -> sa.Connection:
        """Of the same transaction, for statements that are seldom needed."""
        ...

    @property
    def now(self) -> int:
        """The time of all that it inserts, in microseconds since 1970.

        Read with the lock held, so that it grows with positions, as far as the clock itself grows.
        """
        ...

    @property
    def any_archived(self) -> bool:
        """Whether the archive has any name: most logs have none."""
        ...

    def execute(self, statement: str, values: Sequence[Any]) -> Rows:
        """Run a statement of the driver's and return its rows."""
        ...


@dataclass(frozen=True, slots=True)
class PlainTransaction:
    """A transaction by SQLAlchemy's own means."""

    connection: sa.Connection
    now: int
    any_archived: bool

    def execute(self, statement: str, values: Sequence[Any]) -> Rows:
        """Run a statement of the driver's and return its rows."""
        return self.connection.exec_driver_sql(statement, tuple(values)).all()


@dataclass(slots=True)
class Known:
    """What the archive has of some rows that are to be inserted."""

    last_part: int = -1
    """The newest part when it was read; -1: it was not read yet."""
    records: dict[tuple[str, Key], tuple[int, AnyRecord]] = field(default_factory=dict)
    """By table and key, with their positions."""
    decision_ids: set[str] = field(default_factory=set)
    """Those that feedback is about."""

    @classmethod
    def look_up(cls, connection: sa.Connection, archived: "Archived", rows: Collection[Row]) -> "Known":
        """Read what the archive has of some rows. Files are read: not with the write lock held."""
        known = cls(last_part(connection))
        for layout in layouts().values():
            wanted = {row.key for row in rows if row.layout is layout}
            for seq, record in archived.records_by_key(layout.log, wanted):
                known.records[layout.name, layout.log.key_of(record)] = seq, record
        about = {(decision_id,) for row in rows if (decision_id := row.about) is not None}
        known.decision_ids.update(archived.find(DECISIONS, about)["decision_id"].to_pylist())
        return known

    def is_complete(self, transaction: Transaction, rows: Sequence[Row]) -> bool:
        """Return whether the archive has no more of them."""
        if not transaction.any_archived:
            return True
        numbers = name_numbers(rows)
        # What has no number is not archived; of what has one, the part may be newer than what was read.
        connection = transaction.connection
        return not archived_keys.positions(connection, numbers) or self.last_part == last_part(connection)


def name_numbers(rows: Iterable[Row]) -> set[int]:
    """Return the numbers that stand for the names of rows and for those of what they are about."""
    numbers = set[int]()
    for row in rows:
        if row.layout.log in NAMED:
            numbers.add(archived_keys.number(row.layout.log, row.key))
        if (about := row.about) is not None:
            numbers.add(archived_keys.number(DECISIONS, (about,)))
    return numbers


def insert_rows(transaction: Transaction, rows: Sequence[Row], received: bool, known: Known) -> list[LoggedRow]:
    """Insert what is new of some rows, and return what the log then holds for each.

    Of several with one key the first is inserted.

    Args:
        transaction: to insert in.
        rows: of any kinds.
        received: those that say when they were received keep that: they come from another log.
        known: what the archive has of them.

    Raises:
        StoreError: a key is in a row that cannot be read back.
    """
    batches: dict[str, dict[int, Row]] = {}
    for place, row in enumerate(rows):
        batches.setdefault(row.layout.name, {})[place] = row
    answers: dict[int, LoggedRow] = {}
    for name, layout in layouts().items():  # decisions come first
        if batch := batches.get(name):
            logged = _insert(transaction, layout, list(batch.values()), received, known)
            answers.update(zip(batch, logged, strict=True))
    return [answers[place] for place in range(len(rows))]


def _insert(
    transaction: Transaction, layout: Layout, batch: Sequence[Row], received: bool, archived: Known
) -> list[LoggedRow]:
    name, keys = layout.name, [row.key for row in batch]
    held: dict[Key, tuple[int, AnyRecord]] = {}
    if archived.records:
        held = {key: archived.records[name, key] for key in keys if (name, key) in archived.records}
    first: dict[Key, Row] = {}
    for key, row in zip(keys, batch, strict=True):
        if key not in held and key not in first:
            first[key] = row.stamp(transaction.now, keep=received)
    new = insert_statement(layout, transaction.connection.dialect).insert(transaction, first.values())
    if len(new) != len(batch):  # else each key is new, and there once
        wanted = [key for key, times in Counter(keys).items() if key in first and (key not in new or times > 1)]
        rows = select_keys(transaction.connection, layout.log, wanted)
        held |= {layout.log.key_of(record): (seq, record) for seq, record in rows}
        if lost := [key for key in wanted if key not in held]:
            raise StoreError(f"{name} has {'/'.join(lost[0])!r} already, in a row that cannot be read back")
    orphans = set[str]()
    if layout.about is not None:
        orphans = _orphans(transaction.connection, batch, held) - archived.decision_ids
    answers = []
    for key in keys:
        if (seq := new.pop(key, None)) is not None:
            row = first[key]
            stamp = row.values[-1] if layout.is_stamped else None
            answers.append(LoggedRow(seq, True, row.about in orphans, stamp))
        else:
            seq, record = held[key]
            orphan = isinstance(record, Feedback) and record.decision_id in orphans
            answers.append(LoggedRow(seq, False, orphan, record=record))
    return answers


def _orphans(connection: sa.Connection, rows: Iterable[Row], held: dict[Key, tuple[int, AnyRecord]]) -> set[str]:
    """Return the decision ids that feedback is about and the log does not have."""
    wanted = {about for row in rows if (about := row.about) is not None}
    wanted |= {record.decision_id for _, record in held.values() if isinstance(record, Feedback)}
    column = DECISIONS.table.c.decision_id
    for ids in chunks(frozenset(wanted)):
        wanted.difference_update(connection.execute(sa.select(column).where(one_of(connection, column, ids))).scalars())
    return wanted


class _Statement:
    """What inserts rows of one layout into one kind of database, many at once."""

    def __init__(self, layout: Layout, dialect: sa.Dialect) -> None:
        quote, types, log = dialect.identifier_preparer.quote, dialect.type_compiler_instance, layout.log
        names = ", ".join(quote(column.name) for column in layout.columns)
        self._into = f"INSERT INTO {quote(log.table.name)} ({names}) "
        self._returned = f" ON CONFLICT DO NOTHING RETURNING seq, {', '.join(quote(key.name) for key in log.key)}"
        self._row = f"({', '.join('?' * len(layout.columns))})"
        self._from_arrays: str | None = None
        self._texts = list[int]()
        if dialect.name == "postgresql":
            # An array a column: one short statement for any number of rows, which is parsed once.
            arrays = ", ".join(f"%b::{types.process(column.type)}[]" for column in layout.columns)
            self._from_arrays = f"SELECT * FROM unnest({arrays})"
            self._texts = [place for place, c in enumerate(layout.columns) if isinstance(c.type, RawText)]

    def insert(self, transaction: Transaction, rows: Iterable[Row]) -> dict[Key, int]:
        """Insert those of some rows, of different keys, whose keys are new, and return the position of each."""
        rest, new = iter(rows), dict[Key, int]()
        while values := [row.values for row in islice(rest, _ROWS)]:
            for seq, *key in transaction.execute(*self._bind(values)):
                new[tuple(key)] = seq
        return new

    def _bind(self, rows: Sequence[Sequence[Any]]) -> tuple[str, Sequence[Any]]:
        if self._from_arrays is None:
            source = "VALUES " + ", ".join([self._row] * len(rows))
            return self._into + source + self._returned, tuple(chain.from_iterable(rows))
        columns = list(map(list, zip(*rows, strict=True)))
        for place in self._texts:  # see RawText
            columns[place] = [None if text is None else text.encode() for text in columns[place]]
        return self._into + self._from_arrays + self._returned, tuple(columns)


insert_statement = lru_cache(_Statement)
