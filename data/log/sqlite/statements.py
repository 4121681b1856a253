"""SQL that every database spells in its own way, as SQLite does."""

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

V = TypeVar("V")
_VALUES = 10_000  # SQLite binds at most 32,766 in a statement


def chunks(values: Collection[V]) -> Iterator[list[V]]:
    """Yield the values by as many as a statement can name."""
    rest = iter(values)
    while chunk := list(islice(rest, _VALUES)):
        yield chunk


def insert_new(table: sa.Table) -> sa.Insert:
    """Return what inserts those of some rows whose keys are new."""
    return sqlite.insert(table).on_conflict_do_nothing()


def insert_or_update(table: sa.Table) -> sa.Insert:
    """Return what inserts rows, and puts them in the place of those that have their primary keys."""
    statement = sqlite.insert(table)
    new = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=new)


def has_element(array: sa.Column[Any], value: str) -> sa.ColumnElement[bool]:
    """Return the condition that a JSON array has an element."""
    elements = sa.func.json_each(array).table_valued("value")
    return sa.exists(sa.select(1).select_from(elements).where(elements.c.value == value))


def contains(column: sa.Column[Any], text: str) -> sa.ColumnElement[bool]:
    """Return the condition that a text has another one in it, to the letter."""
    return sa.func.instr(column, text) > 0


def stored_integer(column: sa.Column[Any]) -> sa.ColumnElement[int]:
    """Return a time as the integer that is stored; 0 where something else is."""
    raw = sa.type_coerce(column, sa.BigInteger)
    return sa.case((sa.func.typeof(column) == "integer", raw), else_=0)


def stored_bytes(column: sa.Column[Any]) -> sa.ColumnElement[bytes]:
    """Return a text as it is stored: one that is not UTF-8 must not keep the others from being read."""
    return sa.cast(sa.type_coerce(column, sa.Text), sa.LargeBinary)
