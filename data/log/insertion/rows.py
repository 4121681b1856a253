"""A record as the columns of its table hold it, for whoever commits it: a few texts and numbers, no models.

To make the texts is most of the work of a commit in Python, so it is done by who has the record, not by the one process
that commits for all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from operator import attrgetter, itemgetter
from typing import Any, Final

import sqlalchemy as sa
from pydantic_core import PydanticSerializationError
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.types import TypeDecorator

from data.log.errors import StoreError
from data.log.tables import FEEDBACK, LOGS, Key, Log
from data.schema import AnyRecord

RECEIVED_AT: Final = "received_at"
_PORTABLE = dialect()  # SQLite has no types that JSON has not


@dataclass(frozen=True, slots=True)
class Row:
    """What is inserted: a log, and the values of its columns after `seq`, all of which JSON can hold."""

    layout: "Layout"
    values: Sequence[Any]

    @property
    def key(self) -> Key:
        """What identifies the record."""
        return self.layout.key(self.values)

    @property
    def about(self) -> str | None:
        """The decision id that a feedback is about; None of other records."""
        place = self.layout.about
        return None if place is None else self.values[place]

    def stamp(self, received_at: int, keep: bool) -> "Row":
        """Return it as received at a time, in microseconds since 1970; `keep` its own, if it has one."""
        if not self.layout.is_stamped or (keep and self.values[-1] is not None):
            return self
        return Row(self.layout, [*self.values[:-1], received_at])


class Layout:
    """Where the values of one kind of record stand in its rows."""

    def __init__(self, log: Log[Any]) -> None:
        self.log, self.name = log, str(log.table.name)  # of SQLAlchemy's own kind: slow to write as JSON
        self.columns = [column for column in log.table.c if column is not log.table.c.seq]
        names = self.names = [str(column.name) for column in self.columns]  # as above
        self._values = attrgetter(*names)
        self._converters = [(place, convert) for place, c in enumerate(self.columns) if (convert := _converter(c))]
        places = [names.index(column.name) for column in log.key]
        self._first, self._key = places[0], itemgetter(*places)
        self._single = len(places) == 1
        self.about = names.index("decision_id") if log is FEEDBACK else None
        self.is_stamped = RECEIVED_AT in names
        if self.is_stamped and names[-1] != RECEIVED_AT:
            raise TypeError(f"{log.table.name} must have {RECEIVED_AT} as its last column, got {names}")

    def key(self, values: Sequence[Any]) -> Key:
        """Return what identifies a row."""
        return (values[self._first],) if self._single else self._key(values)

    def row(self, record: AnyRecord) -> Row:
        """Return a record of this kind as a row."""
        values = list(self._values(record))
        for place, convert in self._converters:
            values[place] = convert(values[place])
        return Row(self, values)


def _converter(column: sa.Column[Any]) -> Callable[[Any], Any] | None:
    """Return what turns a field into what JSON and any driver takes; None: it is that already."""
    if not isinstance(column.type, TypeDecorator):
        return None
    return partial(column.type.process_bind_param, dialect=_PORTABLE)


@cache
def layouts() -> dict[str, Layout]:
    """Return the layouts of `LOGS` by their tables' names, in their order."""
    return {log.table.name: Layout(log) for log in LOGS}


@cache
def _by_kind() -> dict[type[AnyRecord], Layout]:
    return {layout.log.record: layout for layout in layouts().values()}


def to_row(record: AnyRecord) -> Row:
    """Return a record as a row.

    Raises:
        StoreError: it has something that no column can hold.
        TypeError: it is no record of the log.
    """
    layout = _by_kind().get(type(record))
    if layout is None:
        raise TypeError(f"expected decisions, feedback, events, rejects and versions, got {type(record)}")
    try:
        return layout.row(record)
    except PydanticSerializationError as error:
        raise StoreError(f"a record does not fit a row: {error}") from error
