"""The log as who appends to it needs it: records go in, each once by its key, and it is said what the log then holds.

Of the archive it loads what reads it where a record may be there: most logs have none, and who only writes starts soon.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Self

from data.fields import from_us, to_us
from data.log.archived.keys import any_archived
from data.log.backend import Backend, Identity
from data.log.database import Database
from data.log.errors import StoreError, StoreMissing
from data.log.insertion import bypass
from data.log.insertion.at_once import as_logged, new_rows
from data.log.insertion.insert import Known, LoggedRow, PlainTransaction, Transaction, insert_rows
from data.log.insertion.rows import RECEIVED_AT, Row, to_row
from data.log.sqlite.backend import SqliteBackend
from data.schema import AnyRecord
from data.settings import Settings

if TYPE_CHECKING:
    from data.log.archived.files import PartFiles


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
    def of(cls, record: AnyRecord, logged: LoggedRow) -> Self:
        """Return what the log holds for a record that was sent as a row."""
        if logged.record is not None:
            record = logged.record
        elif logged.received_at is not None:
            record = record.model_copy(update={RECEIVED_AT: from_us(logged.received_at)})
        return cls(record, logged.inserted, logged.seq, logged.orphan)


def _backend(url: str) -> Backend:
    scheme = url.partition(":")[0]
    match scheme.partition("+")[0]:
        case "sqlite" if scheme in ("sqlite", "sqlite+pysqlite"):
            return SqliteBackend(url)
        case "postgresql" if scheme in ("postgresql", "postgresql+psycopg"):
            from data.log.postgres.backend import PostgresBackend  # its driver is loaded by who needs it

            return PostgresBackend(url)
    raise StoreError(f"the log is kept in SQLite or PostgreSQL, expected sqlite:///path or postgresql://, got {scheme}")


class Appender(Database):
    """The log in one database, to append to. `data.log.store.Store` reads it too.

    `seq` is a log position: whoever has read up to one misses nothing by asking for what is after it. That needs
    positions to become visible in their order: whoever writes holds a lock from before its first position to its
    commit.
    """

    _plain = False
    _all_new = True
    """Whether all that was inserted last was new: most likely what comes next is so too."""

    @classmethod
    def open(
        cls,
        url: str,
        clock: Callable[[], datetime] | None = None,
        expected: Identity | None = None,
        *,
        make: bool = True,
    ) -> Self:
        """Open the log at a URL, `sqlite:///path` or libpq's `postgresql://`; make what is missing of it.

        SQLite's folder and file are made; a PostgreSQL database must be there. Tables are made, or brought to the
        newest revision. A log that is found to be damaged is opened for reading only: see `StoreDamaged`.

        Args:
            url: where it is.
            clock: gives the time for `received_at`, timezone-aware; None: that of the machine that the database is on.
            expected: which database it must be (`Database.identity` of who has opened it), not another in its place.
            make: off for who only reads: a file that is missing is then no empty log.

        Raises:
            StoreMissing: there is no file, and none is to be made.
            StoreError: the URL is none of these, or the database is no log, one of other tables, or cannot be durable.
            StoreUnavailable: it cannot be reached now.
            StoreLost: it is not the expected one.
        """
        backend = _backend(url)
        if not make and not backend.exists:
            raise StoreMissing(
                f"no log at {backend.name}: RAYCOMMEND_HOME is the folder that it is in, or RAYCOMMEND_STORE its URL"
            )
        store = cls(backend, clock)
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
        logged = self.insert_rows([to_row(record) for record in records], received=received)
        return [Stored.of(record, one) for record, one in zip(records, logged, strict=True)]

    def insert_rows(self, rows: Sequence[Row], *, received: bool = False) -> list[LoggedRow]:
        """Commit rows as `insert` does records."""
        if not rows:
            return []
        if self._all_new and not received and (logged := self._insert_at_once(rows)):
            return logged
        known = Known()
        while True:
            with self.inserting() as transaction:
                if known.is_complete(transaction, rows):
                    logged = insert_rows(transaction, rows, received, known)
                    self._all_new = all(row.inserted for row in logged)
                    return logged
            known = self._look_up(rows)  # without the write lock: files are read

    def _insert_at_once(self, rows: Sequence[Row]) -> list[LoggedRow] | None:
        """Insert rows that are all new by one message; None: nothing is written, it must be done in a transaction."""
        at_once = self._backend.at_once
        if at_once is None or self._plain or self._clock or (new := new_rows(rows)) is None:
            return None
        committing = list[bool]()
        with self._committing(bypass.connected(self._backend), committing) as (_, driver):
            if not at_once.is_ready(driver):
                return None
            committing.append(True)
            inserted = at_once.insert(driver, new)
        return as_logged(rows, inserted) if inserted else None

    @contextmanager
    def inserting(self) -> Iterator[Transaction]:
        """Open a transaction to insert in, as `writing` does."""
        if self._plain:
            with self.writing() as connection:
                yield PlainTransaction(connection, to_us(self.time(connection)), any_archived(connection))
        else:
            with self._committing(bypass.begin(self._backend, self._clock)) as transaction:
                yield transaction

    def prepare(self) -> None:
        """Load what reads the archive if there is one, so that no commit waits for that."""
        with self.reading() as connection:
            archives = any_archived(connection)
        if archives:
            self._look_up(())

    @cached_property
    def parts(self) -> "PartFiles":
        """The files of archived rows."""
        from data.log.archived.files import PartFiles

        return PartFiles(self._backend.folder)

    def _look_up(self, rows: Sequence[Row]) -> Known:
        from data.log.archived.reading import Archived, from_both

        @from_both
        def look_up() -> Known:
            with self.reading() as connection:
                return Known.look_up(connection, Archived(connection, self.parts), rows)

        return look_up()
