"""Which revision of the tables a database has, and how it gets this one.

A new database gets the tables as they are declared, and is stamped with the newest revision; an older one goes through
the revisions after its own, with Alembic. That both come to the same is tested.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa

from data.log.tables import METADATA

if TYPE_CHECKING:
    from alembic.config import Config

REVISION: Final = "0004"
"""The newest: that of the tables as `data.log.tables` declares them."""
_FIRST, _FIRST_VERSION = "0001", 3
"""A database of this version, which was made before there were revisions, has the tables of the first."""
_STAMP = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own, as Alembic makes it."""
_REMEDY = (
    "export it with the version of the code that made it (python -m data.dsjson export), and import that into a new one"
)
_ALEMBIC = threading.Lock()  # its `op` and `context` are of one migration at a time


class Contents(NamedTuple):
    """What a database is, by the least that tells it."""

    revision: str | None
    """Of its tables, as Alembic keeps it."""
    user_version: int
    """The version that stores had before there were revisions."""
    tables: int
    """How many tables and indexes it has."""


def refusal(found: Contents) -> str | None:
    """Return why a database cannot be used as a log, and what would be right; None if it can be."""
    if found.revision is not None:
        if found.revision == REVISION or found.revision in _known():
            return None
        return (
            f"is a log of revision {found.revision}, which is later than {REVISION}, the newest that is known here: "
            "open it with the version of the code that made it, or a later one"
        )
    if found.user_version == _FIRST_VERSION or not (found.user_version or found.tables):
        return None
    if 0 < found.user_version < _FIRST_VERSION:
        return f"is a log of version {found.user_version}, from before the first release: {_REMEDY}"
    return (
        f"is no log of revision {REVISION}: expected a new database or a log, got a database of version "
        f"{found.user_version} with {found.tables} tables and indexes"
    )


def upgrade(connection: sa.Connection, found: Contents) -> str | None:
    """Make the tables, or bring them to the newest revision, in the transaction of the connection.

    Args:
        connection: holds the write lock.
        found: what is in the database, read within the transaction.

    Returns:
        What was done, as a line of the log; None: another process had done it.

    Raises:
        ValueError: the tables are not those of their revision.
    """
    if found.revision == REVISION:
        return None
    if not found.tables:
        METADATA.create_all(connection, checkfirst=False)
        _STAMP.create(connection, checkfirst=False)
        connection.execute(sa.insert(_STAMP).values(version_num=REVISION))
        return "is a new log"
    from alembic import command

    with _ALEMBIC:
        if found.revision is None:
            command.stamp(_config(connection), _FIRST)
        command.upgrade(_config(connection), "head")
    if wrong := differences(connection):
        was = found.revision or f"version {found.user_version}"
        raise ValueError(f"is a log of {was} whose tables are not those of {was}: {wrong}; {_REMEDY}")
    return f"was upgraded to revision {REVISION}"


def _config(connection: sa.Connection | None = None) -> "Config":
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def _known() -> set[str]:
    """Return the revisions of which there are modules."""
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def differences(connection: sa.Connection) -> list[Any]:
    """Return what of the tables of a database is not as it is declared, as Alembic says it."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    return list(compare_metadata(MigrationContext.configure(connection), METADATA))
