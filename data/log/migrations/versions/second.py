"""The archive of closed days: which files have which rows of the log, and where a named row is."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "archived_parts",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("first", "last")),
        *(sa.Column(name, sa.BigInteger()) for name in ("refers_first", "refers_last")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("time_first", "time_last", "rows", "bytes")),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("path", sa.Text()),
        sa.Column("cleared", sa.Boolean(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_archived_parts_kind_last", "archived_parts", ["kind", "last"])
    op.create_table(
        "archived_strays",
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("root", "path"),
    )
    op.create_table(
        "archived_keys",
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", "seq"),
        sqlite_with_rowid=False,
    )
