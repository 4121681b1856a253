"""The tables as they were when there were no revisions: version 3."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_RAW_TEXT = sa.Text().with_variant(sa.LargeBinary(), "postgresql")


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "decisions",
        sa.Column("seq", _POSITION, nullable=False),
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("loop", sa.Text(), server_default="v1", nullable=False),
        sa.Column("user_id", sa.Text()),
        sa.Column("node_id", sa.Text()),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("candidates", sa.Text(), nullable=False),
        sa.Column("slate", sa.Text(), nullable=False),
        sa.Column("propensities", sa.Text(), nullable=False),
        sa.Column("scores", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("objective", sa.Text(), server_default="default", nullable=False),
        sa.Column("deferred", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("weight", sa.Double(), server_default=sa.text("1"), nullable=False),
        sa.Column("probabilities", sa.Text(), server_default="[]", nullable=False),
        sa.Column("features", sa.Text()),
        sa.Column("rules", sa.Text()),
        sa.Column("slots", sa.Text(), server_default="[]", nullable=False),
        sa.Column("request", sa.Text()),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("decision_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_decisions_loop_seq", "decisions", ["loop", "seq"])
    op.create_index("ix_decisions_time", "decisions", ["time"])
    op.create_index("ix_decisions_user_id", "decisions", ["user_id"])
    op.create_table(
        "erasures",
        sa.Column("seq", _POSITION, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "events",
        sa.Column("seq", _POSITION, nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text()),
        sa.Column("item_id", sa.Text()),
        sa.Column("time", sa.BigInteger()),
        sa.Column("outcome", sa.Double()),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("node_id", "event_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_node_id_seq", "events", ["node_id", "seq"])
    op.create_index("ix_events_user_id", "events", ["user_id"])
    op.create_table(
        "feedback",
        sa.Column("seq", _POSITION, nullable=False),
        sa.Column("feedback_id", sa.Text(), nullable=False),
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("loop", sa.Text(), server_default="v1", nullable=False),
        sa.Column("item_id", sa.Text()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("time", sa.BigInteger()),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("feedback_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_feedback_decision_id", "feedback", ["decision_id"])
    op.create_index("ix_feedback_loop_seq", "feedback", ["loop", "seq"])
    op.create_table(
        "items",
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("features", sa.Text(), nullable=False),
        sa.Column("categories", sa.Text(), nullable=False),
        sa.Column("available", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("deleted", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("item_id"),
    )
    op.create_index("ix_items_revision", "items", ["revision"])
    op.create_table(
        "keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("key_id"),
    )
    op.create_table(
        "rejects",
        sa.Column("seq", _POSITION, nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("reject_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("column", sa.Text()),
        sa.Column("value", _RAW_TEXT),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("node_id", "reject_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_rejects_node_id_seq", "rejects", ["node_id", "seq"])
    op.create_table(
        "settings",
        sa.Column("seq", _POSITION, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_settings_name", "settings", ["name"])
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("features", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id"),
    )
    op.create_table(
        "versions",
        sa.Column("seq", _POSITION, nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("objective", sa.Text(), nullable=False),
        sa.Column("fold_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("decision_seq", sa.BigInteger(), nullable=False),
        sa.Column("feedback_seq", sa.BigInteger(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("caught_up", sa.Boolean(), nullable=False),
        sa.Column("begins", sa.Text()),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("version_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_versions_fold_id_number", "versions", ["fold_id", "number"])
    op.create_index("ix_versions_number_loop", "versions", ["number", "loop"])
