"""The tables of what is so now, beside the log of what has happened: items, users, keys, settings, erasures.

Rows of these change. Who reads and writes them: `data.log.catalogue_copy` items, `data.log.users` users and erasures,
`serve.keys` keys, `data.log.settings_table` settings.
"""

import sqlalchemy as sa

from data.log.tables import METADATA, Json, Time

ITEMS = sa.Table(
    "items",
    METADATA,
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("features", Json, nullable=False),
    sa.Column("categories", Json, nullable=False),
    sa.Column("available", sa.Boolean, nullable=False),
    sa.Column("expires_at", Time),
    # A deleted item's row stays, so that whoever follows the revisions hears of it.
    sa.Column("deleted", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("updated_at", Time, nullable=False),
    # Grows with every change of any item: whoever has read up to one asks for what is after it.
    sa.Column("revision", sa.BigInteger, nullable=False, index=True),
)

USERS = sa.Table(
    "users",
    METADATA,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("features", Json, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
)

KEYS = sa.Table(
    "keys",
    METADATA,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("expires_at", Time),
)

SETTINGS = sa.Table(
    "settings",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False, index=True),
    sa.Column("value", Json, nullable=False),
    sa.Column("time", Time, nullable=False),
    sqlite_autoincrement=True,
)
"""Every value that a setting has had; the last of a name is the one that counts."""

ERASURES = sa.Table(
    "erasures",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", Time, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
"""When a user was forgotten, and how many rows of the log that took; not who."""
