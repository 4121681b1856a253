"""From the tables of an earlier version to those of this one, in place and in one transaction."""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn

from data.log.tables import METADATA

UPGRADABLE = (1, 2)
"""Versions of the schema that `upgrade` can bring to this one. What was added since has a default in every column."""


def upgrade(connection: sa.Connection) -> None:
    """Add the columns, tables and indices that are missing, as far as that can be; nothing is removed or rewritten."""
    inspector = sa.inspect(connection)
    for table in METADATA.tables.values():
        if not inspector.has_table(table.name):
            continue
        known = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known and (column.nullable or column.server_default is not None):
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
        columns = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
        for index in table.indexes:
            if columns.issuperset(index.columns.keys()):
                index.create(connection, checkfirst=True)
    METADATA.create_all(connection)


def lacking(connection: sa.Connection) -> list[str]:
    """Compare the tables of a database with those that are needed; returns what of them it lacks."""
    return list(_lacking(sa.inspect(connection)))


def _lacking(inspector: sa.Inspector) -> Iterator[str]:
    for table in METADATA.tables.values():
        name = table.name
        if not inspector.has_table(name):
            yield f"table {name}"
            continue
        columns = {column["name"]: column for column in inspector.get_columns(name)}
        needed = {column.name for column in table.columns}
        yield from (f"column {name}.{column}" for column in sorted(needed - columns.keys()))
        for extra in sorted(columns.keys() - needed):
            if not columns[extra]["nullable"] and columns[extra]["default"] is None:
                yield f"a default of column {name}.{extra}"
        known = {index["name"] for index in inspector.get_indexes(name)}
        yield from (f"index {index.name}" for index in table.indexes if index.name not in known)
        unique = {tuple(key["column_names"]) for key in inspector.get_unique_constraints(name)}
        unique.add(tuple(inspector.get_pk_constraint(name)["constrained_columns"]))
        for key in table.constraints:
            if isinstance(key, sa.UniqueConstraint | sa.PrimaryKeyConstraint):
                wanted = tuple(column.name for column in key.columns)
                if wanted not in unique:
                    yield f"the key {name} ({', '.join(wanted)})"
