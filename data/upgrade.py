"""From the tables of an earlier version to those of this one, in place and in one transaction."""

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn

from data.tables import LOGS, METADATA

UPGRADABLE = (1, 2)
"""Versions of the schema that `upgrade` can bring to this one. What was added since has a default in every column."""


def upgrade(connection: sa.Connection) -> None:
    """Add the columns, tables and indices that are missing; nothing is removed or rewritten."""
    inspector = sa.inspect(connection)
    for log in LOGS:
        if not inspector.has_table(log.table.name):
            continue
        known = {column["name"] for column in inspector.get_columns(log.table.name)}
        for column in log.table.columns:
            if column.name not in known:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {log.table.name} ADD COLUMN {definition}")
    METADATA.create_all(connection)
    for table in METADATA.tables.values():
        for index in table.indexes:
            index.create(connection, checkfirst=True)
