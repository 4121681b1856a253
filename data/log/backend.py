"""What differs between the databases that a log can be in. The SQL that differs is `data.log.statements`'."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import sqlalchemy as sa

from data.log.migrations.revisions import Contents

Identity: TypeAlias = tuple[int, ...]
"""Which database it is, in numbers: another one at the same place has others."""
ErrorKind: TypeAlias = Literal["unavailable", "disconnected", "damaged", "refused"]
"""What an error of a driver says: try again; the same, and what was asked last is done or not; damage; a mistake."""
Rows: TypeAlias = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows of different keys that most likely are all new."""

    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    """By the table's name: values that JSON can hold, by their columns. `received_at` is when they are inserted."""
    numbers: Collection[int]
    """That stand for their names and for those of what they are about (`data.log.archived.keys`)."""
    about: Collection[str]
    """The ids of the decisions that they are about."""


@dataclass(frozen=True, slots=True)
class InsertedRows:
    """What came of new rows."""

    now: int
    """When they were inserted, in microseconds since 1970; read with the writers' lock held."""
    seqs: Mapping[str, Sequence[int]]
    """Their positions, by table, in the order of its rows."""
    orphans: Collection[str]
    """Of the decisions that they are about, those that the log does not have."""


class AtOnce(Protocol):
    """Inserts rows by a connection of the driver's and commits them, by one message to a server."""

    def is_ready(self, connection: Any) -> bool:
        """Return whether it can, after what must be done once; the connection has no transaction."""
        ...

    def insert(self, connection: Any, new: NewRows) -> InsertedRows | None:
        """Insert rows, and commit; None: nothing is written, as a key is known, a name archived, or it is too much."""
        ...


class Backend(Protocol):
    """One kind of database."""

    name: str
    """What messages call the log: where it is, without a password."""
    shared: bool
    """Processes of other machines reach it too."""
    reading: sa.Engine
    """Its transactions see one state of the database."""
    writing: sa.Engine
    """Its transactions hold the write lock from their beginning: one at a time, so that positions grow with commits."""
    begun: sa.Engine
    """Its transactions are begun by others, on its connections' drivers: see `begin_by_driver`."""
    folder: Path | None
    """That it is in, if it is a file: what lies there too is known relative to it."""
    driver_error: type[Exception]
    """What the driver raises where SQLAlchemy is not asked."""

    @property
    def at_once(self) -> AtOnce | None:
        """What inserts rows that are all new; None: there is no server."""
        ...

    @property
    def exists(self) -> bool:
        """Whether there may be a log: False where its file is missing, and opening would make it."""
        ...

    def open(self, expected: Identity | None, accept: Callable[[Contents], None]) -> Contents:
        """Connect, let `accept` refuse what is there by raising, and make it durable.

        Raises:
            StoreError: it cannot be kept durable there.
            StoreLost: it is not the expected one.
        """
        ...

    @property
    def identity(self) -> Identity | None:
        """Which database was opened."""
        ...

    @property
    def replaced(self) -> bool:
        """Whether another one is in its place."""
        ...

    def check(self) -> None:
        """Raise StoreLost if it is known to be gone. Called around each transaction: it must take no time."""
        ...

    def damage(self) -> str | None:
        """Look for damage for a few seconds at most; return the first that is found."""
        ...

    def contents(self, connection: sa.Connection) -> Contents:
        """Return what is in it, as a transaction sees it."""
        ...

    def time(self, connection: sa.Connection) -> datetime:
        """Return the time by the one clock of all who write, in a transaction that holds the write lock."""
        ...

    def begin_by_driver(self, connection: Any) -> tuple[int, bool]:
        """Begin a transaction on a connection of the driver's as those of `writing` begin.

        Returns:
            The time, as `time` says it, in microseconds since 1970, and whether there is an archived name.
        """
        ...

    def error_kind(self, error: BaseException) -> ErrorKind:
        """Return what an error of the driver says of the database."""
        ...

    def ends_connection(self, error: BaseException) -> bool:
        """Return whether the connection that an error of the driver came by is of no use any more."""
        ...

    def checkpoint(self) -> None:
        """Do what must be done now and then so that commits stay fast."""
        ...

    def give_back(self) -> int | None:
        """Give the system the room of deleted rows; returns how many bytes, None where it is kept for new ones."""
        ...

    def exclusively(self, what: str) -> AbstractContextManager[None]:
        """Keep other processes from doing the same to this log; raise StoreOccupied where one is."""
        ...

    def scrub(self, text: str) -> None:
        """Remove what is left of deleted rows, one of whose texts is given, as far as a database can.

        Raises:
            OSError: it could not be done now.
        """
        ...
