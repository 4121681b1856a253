"""The newest rows, for people who look; the log's own, not those that were archived."""

import sqlalchemy as sa

from data.log.store import Store
from data.log.tables import DECISIONS
from data.log.unreadable import read
from data.schema import SHADOW, Decision


def newest_decisions(store: Store, limit: int, user_id: str | None = None) -> list[Decision]:
    """Return the newest decisions that somebody was shown, the newest first.

    Args:
        store: the log.
        limit: how many at most.
        user_id: only those that were made for this user.
    """
    columns = DECISIONS.table.c
    where = [columns.loop != SHADOW, *([columns.user_id == user_id] if user_id is not None else [])]
    query = DECISIONS.select().where(*where).order_by(columns.seq.desc()).limit(limit)
    with store.reading() as connection:
        return [decision for _, decision in read(connection, DECISIONS, query)]


def seen_users(store: Store, begins: str, limit: int) -> list[str]:
    """Return users of decisions whose ids begin with a text, in the order of the ids."""
    user = DECISIONS.table.c.user_id
    query = sa.select(user).where(user >= begins, user.startswith(begins, autoescape=True)).distinct()
    with store.reading() as connection:
        return list(connection.execute(query.order_by(user).limit(limit)).scalars())
