"""SQL that databases spell in their own ways, as constructs that each of them compiles: `sqlite`, `postgres`."""

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

V = TypeVar("V")
_VALUES = 10_000  # SQLite binds at most 32,766 in a statement


def chunks(values: Collection[V]) -> Iterator[list[V]]:
    """Yield the values by as many as a statement can name."""
    rest = iter(values)
    while chunk := list(islice(rest, _VALUES)):
        yield chunk


def one_of(connection: sa.Connection, column: sa.Column[Any], values: Collection[V]) -> sa.ColumnElement[bool]:
    """Return the condition that a column has one of some values."""
    if connection.dialect.name == "postgresql":  # an array: one statement for any number, which is prepared once
        return column == sa.any_(sa.literal(list(values), postgresql.ARRAY(column.type)))
    return column.in_(values)


def insert_new(table: sa.Table) -> sa.Insert:
    """Return what inserts those of some rows whose keys are new."""
    return postgresql.insert(table).on_conflict_do_nothing()  # SQLite spells it alike, SQLAlchemy compiles it for both


def insert_or_update(table: sa.Table) -> sa.Insert:
    """Return what inserts rows, and puts them in the place of those that have their primary keys."""
    statement = postgresql.insert(table)
    new = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=new)


def arguments(element: FunctionElement[Any], compiler: SQLCompiler, options: Any) -> list[str]:
    """Return the arguments of one of the constructs below as a database spells them."""
    return [compiler.process(argument, **options) for argument in element.clauses]


class has_element(FunctionElement[bool]):  # noqa: N801 - read as a function
    """The condition that a JSON array, a column of text, has a text among its elements."""

    type = sa.Boolean()
    inherit_cache = True

    def __init__(self, array: sa.Column[Any], value: str) -> None:
        super().__init__(sa.type_coerce(array, sa.Text), sa.literal(value, sa.Text))


class contains(FunctionElement[bool]):  # noqa: N801
    """The condition that a text has another one in it, to the letter."""

    type = sa.Boolean()
    inherit_cache = True

    def __init__(self, column: sa.Column[Any], text: str) -> None:
        super().__init__(column, sa.literal(text, sa.Text))


class stored_integer(FunctionElement[int]):  # noqa: N801
    """A time as the integer that is stored; 0 where something else is."""

    type = sa.BigInteger()
    inherit_cache = True

    def __init__(self, column: sa.Column[Any]) -> None:
        super().__init__(sa.type_coerce(column, sa.BigInteger))


class database_bytes(FunctionElement[int]):  # noqa: N801
    """How many bytes the database takes, as it says itself."""

    type = sa.BigInteger()
    inherit_cache = True


def read_stored(connection: sa.Connection, query: sa.Select[Any]) -> list[list[Any]]:
    """Read the rows of a query whose texts are selected as `stored_bytes`."""
    return [
        [value.decode(errors="replace") if isinstance(value, bytes) else value for value in row]
        for row in connection.execute(query)
    ]


class stored_bytes(FunctionElement[Any]):  # noqa: N801
    """A text as it is stored, bytes where the database may have some that are not UTF-8: others can be read then."""

    inherit_cache = True

    def __init__(self, column: sa.Column[Any]) -> None:
        super().__init__(sa.type_coerce(column, sa.Text))
