"""Settings that change while the service runs: every value that one has had, in the store. The last one counts."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from pydantic import JsonValue

from data.log.store import Store
from data.log.tables import SETTINGS

_LAST = sa.select(sa.func.coalesce(sa.func.max(SETTINGS.c.seq), 0))


class Setting(NamedTuple):
    """A value that a setting has or had."""

    seq: int
    """Grows with every value of any setting."""
    name: str
    value: JsonValue
    time: datetime
    """When it was set."""


class SettingsTable:
    """The settings as they are in one transaction; made by `reading` and `writing`."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def append(self, name: str, value: JsonValue, time: datetime) -> None:
        """Set a value; the transaction must be one of `writing`."""
        self._connection.execute(sa.insert(SETTINGS).values(name=name, value=value, time=time))

    def history(self, names: Collection[str]) -> list[Setting]:
        """Return all values of some settings, the oldest first."""
        query = sa.select(SETTINGS).where(SETTINGS.c.name.in_(names)).order_by(SETTINGS.c.seq)
        return [Setting(*row) for row in self._connection.execute(query)]

    def last_change(self) -> int:
        """Return the `seq` of the last value of any setting, 0 if there is none: whoever has seen it has seen all."""
        return int(self._connection.execute(_LAST).scalar_one())


def last_change(store: Store) -> int:
    """Return what `SettingsTable.last_change` does, by one statement: for those who ask again and again.

    Raises:
        StoreError: it cannot be read.
    """
    return int(store.read_once(_LAST)[0][0])


@contextmanager
def reading(store: Store) -> Iterator[SettingsTable]:
    """Open a transaction that reads the settings.

    Raises:
        StoreError: they cannot be read.
    """
    with store.reading() as connection:
        yield SettingsTable(connection)


@contextmanager
def writing(store: Store) -> Iterator[SettingsTable]:
    """Open a transaction in which nobody else changes the settings, and commit it at the end.

    Raises:
        StoreError: nothing was changed.
    """
    with store.writing() as connection:
        yield SettingsTable(connection)
