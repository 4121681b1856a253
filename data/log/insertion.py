"""Rows into a table, many by one statement: most of a commit's time would go into SQLAlchemy's, value by value."""

from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import chain, islice
from typing import Any, Final

import sqlalchemy as sa

from data.log.tables import Key, Log
from data.schema import AnyRecord

_ROWS: Final = 1_000  # of a statement; SQLite binds at most 32,766 values


class _Insertion:
    """What is the same for all inserts into a table of one kind of database."""

    def __init__(self, log: Log[Any], dialect: sa.Dialect) -> None:
        columns = [column for column in log.table.c if column is not log.table.c.seq]
        self._names = [column.name for column in columns]
        binds = [column.type.dialect_impl(dialect).bind_processor(dialect) for column in columns]
        self._binds = [(place, bind) for place, bind in enumerate(binds) if bind]
        quote, types = dialect.identifier_preparer.quote, dialect.type_compiler_instance
        self._into = f"INSERT INTO {quote(log.table.name)} ({', '.join(map(quote, self._names))}) "
        self._returned = f" ON CONFLICT DO NOTHING RETURNING seq, {', '.join(quote(key.name) for key in log.key)}"
        arrays = ", ".join(f"%b::{types.process(column.type)}[]" for column in columns)
        # PostgreSQL gets an array a column: one short statement for any number of rows, which is parsed once.
        self._from_arrays = f"SELECT * FROM unnest({arrays})" if dialect.name == "postgresql" else None
        self._row = f"({', '.join('?' * len(columns))})"

    def execute(self, connection: sa.Connection, records: Iterable[AnyRecord]) -> Iterable[Any] | None:
        """Insert as many of the records as a statement may have; None: there were none."""
        if not (rows := [self._bind(record) for record in islice(records, _ROWS)]):
            return None
        if self._from_arrays:
            values, source = tuple(map(list, zip(*rows, strict=True))), self._from_arrays
        else:
            values, source = tuple(chain.from_iterable(rows)), "VALUES " + ", ".join([self._row] * len(rows))
        return connection.exec_driver_sql(self._into + source + self._returned, values)

    def _bind(self, record: AnyRecord) -> list[Any]:
        """Return the values of a row as the driver takes them."""
        values = [record.__dict__[name] for name in self._names]
        for place, bind in self._binds:
            values[place] = bind(values[place])
        return values


_insertion = lru_cache(_Insertion)


def insert_rows(connection: sa.Connection, log: Log[Any], records: Collection[AnyRecord]) -> dict[Key, int]:
    """Insert those of some records, of different keys, whose keys are new, and return the position of each.

    Raises:
        ValueError: a record does not fit a row.
    """
    insertion, rest, new = _insertion(log, connection.dialect), iter(records), dict[Key, int]()
    while (rows := insertion.execute(connection, rest)) is not None:
        new |= {tuple(row[1:]): row[0] for row in rows}
    return new
