"""Settings that change while the service runs: every value that one has had, in the store. The last one counts."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from pydantic import JsonValue

from data.log.state_tables import SETTINGS


class Setting(NamedTuple):
    """A value that a setting has or had."""

    seq: int
    """Grows with every value of any setting."""
    name: str
    value: JsonValue
    time: datetime
    """When it was set."""


def append(connection: sa.Connection, name: str, value: JsonValue, time: datetime) -> None:
    """Set a value, in a transaction of `Store.writing`."""
    connection.execute(sa.insert(SETTINGS).values(name=name, value=value, time=time))


def history(connection: sa.Connection, names: Collection[str]) -> list[Setting]:
    """Return all values of some settings, the oldest first."""
    query = sa.select(SETTINGS).where(SETTINGS.c.name.in_(names)).order_by(SETTINGS.c.seq)
    return [Setting(*row) for row in connection.execute(query)]


def last_change(connection: sa.Connection) -> int:
    """Return the `seq` of the last value of any setting, 0 if there is none: whoever has seen it has seen all."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(SETTINGS.c.seq), 0))).scalar_one())
