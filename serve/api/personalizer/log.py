"""The log of the Personalizer loop as a whole: from when to when it is, and how it is deleted. No HTTP."""

from datetime import datetime

import sqlalchemy as sa

from data.log.state_tables import ERASURES
from data.log.store import Store
from data.log.tables import DECISIONS, FEEDBACK
from serve.api.personalizer.configuration.values import LOOP

_ROWS = 5_000  # deleted in one transaction, so that nobody waits long for the lock


def date_range(store: Store) -> tuple[datetime, datetime] | None:
    """Return when the first and the last decision were made, or None if there is none.

    Raises:
        StoreError: the log cannot be read.
    """
    columns = DECISIONS.table.c
    query = sa.select(columns.time).where(columns.loop == LOOP).limit(1)
    with store.reading() as connection:
        first = connection.execute(query.order_by(columns.seq)).scalar()
        last = connection.execute(query.order_by(columns.seq.desc())).scalar()
    return (first, last) if first and last else None


def last_learned(store: Store, learned_through: int) -> datetime | None:
    """Return when the feedback at a log position was received, or the last before it; None if there is none.

    Raises:
        StoreError: the log cannot be read.
    """
    columns = FEEDBACK.table.c
    query = sa.select(columns.received_at).where(columns.loop == LOOP, columns.seq <= learned_through)
    with store.reading() as connection:
        found: datetime | None = connection.execute(query.order_by(columns.seq.desc()).limit(1)).scalar()
    return found


def delete(store: Store, until: datetime) -> int:
    """Delete the decisions that were made, and the feedback that was received, until a time; return how many rows.

    It is noted as an erasure: what was folded from the rows cannot be repeated without them.

    Raises:
        StoreError: not all was deleted; it can be called again.
    """
    decisions, feedback = DECISIONS.table, FEEDBACK.table
    deleted = 0
    for table, time in ((decisions, decisions.c.time), (feedback, feedback.c.received_at)):
        some = sa.select(table.c.seq).where(table.c.loop == LOOP, time <= until).order_by(table.c.seq).limit(_ROWS)
        rows = _ROWS
        while rows == _ROWS:
            with store.writing() as connection:
                rows = connection.execute(sa.delete(table).where(table.c.seq.in_(some))).rowcount
            deleted += rows
    if deleted:
        with store.writing() as connection:
            connection.execute(sa.insert(ERASURES).values(time=store.now(), rows=deleted))
    return deleted
