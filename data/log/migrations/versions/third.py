"""A/B tests: which variant of which test a decision is an exposure of, and which policy chose which slot."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns: at the end of the table, which both databases do without writing its rows anew."""
    op.add_column("decisions", sa.Column("abtest", sa.Text()))
    op.add_column("decisions", sa.Column("variant", sa.Text()))
    op.add_column("decisions", sa.Column("teams", sa.Text(), server_default="[]", nullable=False))
