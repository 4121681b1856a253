"""Sessions of the console: begun with a key, ended by logging out, by time, or with their key; kept as hashes."""

from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from data.log.store import Store
from data.log.tables import SESSIONS


class Session(NamedTuple):
    """What is kept of a session: not the secret that its browser has."""

    key_id: str
    """The key that it was begun with."""
    proof: str
    """Made of that key and the session's secret: who can write the table alone begins no session."""
    expires_at: datetime


def begin(store: Store, session_hash: str, key_id: str, proof: str, lifetime: timedelta) -> None:
    """Keep a session, and forget those that have ended.

    Raises:
        StoreError: it is not kept.
    """
    with store.writing() as connection:
        now = store.now()
        connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.expires_at <= now))
        row = {"session_hash": session_hash, "key_id": key_id, "proof": proof}
        connection.execute(sa.insert(SESSIONS), row | {"created_at": now, "expires_at": now + lifetime})


def find(store: Store, session_hash: str) -> Session | None:
    """Return a session that has not ended; None: there is none.

    Raises:
        StoreError: it cannot be read.
    """
    columns = SESSIONS.c
    query = sa.select(columns.key_id, columns.proof, columns.expires_at).where(columns.session_hash == session_hash)
    with store.reading() as connection:
        row = connection.execute(query).one_or_none()
    found = None if row is None else Session(*row)
    return found if found is not None and store.now() < found.expires_at else None


def end(store: Store, session_hash: str) -> bool:
    """Forget a session; returns whether there was one.

    Raises:
        StoreError: it was not forgotten.
    """
    with store.writing() as connection:
        return bool(connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.session_hash == session_hash)).rowcount)
