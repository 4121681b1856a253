"""The database that the log is in: opened, durable, with transactions. What is in it is `data.log.store`'s."""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from data.log.backend import Backend, Identity
from data.log.errors import StoreDamaged, StoreError, StoreUnavailable, StoreUnconfirmed
from data.log.migrations.revisions import REVISION, Contents, refusal, upgrade

if TYPE_CHECKING:
    from data.log.archived.reading import Archived

SQL_ERRORS: Final = (SQLAlchemyError,)
"""What a database reached through SQLAlchemy raises, for those that MLflow keeps."""

_REMEDY = "stop what uses it and put a copy from before the damage in its place; what can be read can be exported first"
log = logging.getLogger("raycommend.store")
T = TypeVar("T")


class _Reading(threading.local):
    """What a thread reads in."""

    connection: sa.Connection | None = None
    """None: it reads nothing now."""
    archived: "Archived | None" = None
    """The archived rows as that transaction sees them, if it has asked for them."""


class Database:
    """One database. Any number of threads and processes may hold one on the same place."""

    def __init__(self, backend: Backend, clock: Callable[[], datetime] | None = None) -> None:
        """Take a backend that is not open yet, and what gives the time; None: the clock of its machine."""
        self._backend, self._clock = backend, clock
        self._damage: str | None = None
        self._now_reading = _Reading()

    def _open(self, expected: Identity | None) -> None:
        try:
            try:
                found = self._backend.open(expected, self._accept)
                if found.tables:
                    self._damage = self._backend.damage()
            except (SQLAlchemyError, self._backend.driver_error) as error:
                cause, text = _cause(error)
                passes = self._backend.error_kind(cause) == "disconnected" and self._backend.shared
                raise (StoreUnavailable if passes else StoreError)(
                    f"cannot open {self.name} as a log: {text}"
                ) from error
            except OSError as error:
                raise StoreError(f"cannot open {self.name} as a log: {error}") from error
            if self._damage:
                log.error("%s is damaged and only read: %s; %s", self.name, self._damage, _REMEDY)
            if found.revision != REVISION:
                self._upgrade()
        except Exception:
            self.close()
            raise

    def _accept(self, found: Contents) -> None:
        if reason := refusal(found):
            raise StoreError(f"{self.name} {reason}")

    def _upgrade(self) -> None:
        with self.writing() as connection:
            try:
                done = upgrade(connection, self._backend.contents(connection))
            except ValueError as error:
                raise StoreError(f"{self.name} {error}") from error
        if done:
            log.info("%s %s", self.name, done)

    @property
    def name(self) -> str:
        """What messages call it: where it is."""
        return self._backend.name

    @property
    def shared(self) -> bool:
        """Whether processes of other machines reach it too."""
        return self._backend.shared

    @property
    def identity(self) -> Identity | None:
        """Which database it is, for `Store.open` of others who must have the same."""
        return self._backend.identity

    def check(self) -> None:
        """Check that what is open still is the log.

        Raises:
            StoreLost: it is not.
        """
        self._backend.check()

    @property
    def replaced(self) -> bool:
        """Whether another log is in its place: it is to be opened anew, by who begins anew with it."""
        return self._backend.replaced

    def close(self) -> None:
        """Close all connections."""
        self._backend.reading.dispose()

    def now(self) -> datetime:
        """Return the server's time."""
        return self._clock() if self._clock else datetime.now(UTC)

    def time(self, connection: sa.Connection) -> datetime:
        """Return the time in a transaction of `writing`: it grows with the order of commits, as its clock grows."""
        return self._clock() if self._clock else self._backend.time(connection)

    def checkpoint(self) -> None:
        """Do what must be done now and then so that commits stay fast, without holding up anyone.

        Raises:
            StoreUnavailable: the database did not answer; what is committed stays so.
        """
        self.check()
        with self._errors():
            self._backend.checkpoint()

    def scrub(self, text: str) -> None:
        """Remove what is left of deleted rows, one of whose texts is given; see the backend's.

        Raises:
            OSError: it could not be done now.
        """
        self._backend.scrub(text)

    def give_back(self) -> int | None:
        """Give the system the room that deleted rows have left, as far as the database can; returns how many bytes.

        None: it keeps the room for new rows.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        self.check()
        with self._errors():
            return self._backend.give_back()

    @contextmanager
    def exclusively(self, what: str) -> Iterator[None]:
        """Keep other processes from doing the same to this log; the system gives the lock back when this one ends.

        Raises:
            StoreOccupied: another process is doing it.
        """
        with self._backend.exclusively(what):
            yield

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that reads one state of the database; for those who own tables.

        Within another one of the same thread it is that one: who does several things that read has them read one state,
        and spares the messages that begin and end the others.
        """
        mine = self._now_reading
        if mine.connection is not None:
            with self._errors():
                yield mine.connection
            return
        self.check()
        with self._errors(), self._backend.reading.begin() as connection:
            mine.connection = connection
            try:
                yield connection
            finally:
                mine.connection = mine.archived = None

    def read_once(self, query: sa.Executable) -> Sequence[sa.Row[Any]]:
        """Return the rows of one query, which sees one state by itself: a transaction would be two messages more."""
        if self._now_reading.connection is not None:
            with self.reading() as connection:
                return connection.execute(query).all()
        self.check()
        with self._errors(), self._backend.begun.connect() as connection:
            return connection.execute(query).all()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that holds the write lock, and commit it at the end.

        Raises:
            StoreUnconfirmed: the connection was lost while it was being committed.
        """
        with self._committing(self._backend.writing.begin()) as connection:
            yield connection

    @contextmanager
    def _committing(self, transaction: AbstractContextManager[T], committing: list[bool] | None = None) -> Iterator[T]:
        """Open a transaction that writes; `committing` has something from when on it may be committed."""
        self.check()
        if self._damage:
            raise StoreDamaged(f"{self.name} is damaged and only read: {self._damage}; {_REMEDY}")
        committing = [] if committing is None else committing
        with self._errors(committing), transaction as begun:
            yield begun
            committing.append(True)
        self.check()  # what is acknowledged is in the database that is in its place after the commit

    @contextmanager
    def _errors(self, committing: Collection[bool] = ()) -> Iterator[None]:
        try:
            yield
        except sa.exc.TimeoutError as error:
            raise StoreUnavailable(f"the log's database cannot answer now: {_cause(error)[1]}") from error
        except (SQLAlchemyError, self._backend.driver_error) as error:
            cause, text = _cause(error)
            match self._backend.error_kind(cause):
                case "disconnected" if committing:
                    raise StoreUnconfirmed(f"the log's database did not confirm a commit: {text}") from error
                case "unavailable" | "disconnected":
                    raise StoreUnavailable(f"the log's database cannot answer now: {text}") from error
                case "damaged":
                    self._damage = text
                    raise StoreDamaged(f"{self.name} is damaged: {text}; {_REMEDY}") from error
                case "refused":
                    raise StoreError(f"the log's database refused a statement: {text}") from error


def _cause(error: Exception) -> tuple[BaseException, str]:
    """Return what the driver raised, and what that says, in one line and without SQLAlchemy's link to its own pages."""
    cause = getattr(error, "orig", None) or error
    said = cause.args[0] if isinstance(cause, SQLAlchemyError) and cause.args else cause  # `str` adds the link
    return cause, " ".join(str(said).split())
