"""What a log holds, whole tables at a time, for tests of who writes it."""

from pathlib import Path

import sqlalchemy as sa

from data.log.store import Store
from data.log.tables import FEEDBACK, LOGS, REJECTS, Log, R
from data.log.unreadable import read
from data.schema import Feedback, Reject


def rows(store: Store, log: Log[R]) -> list[tuple[int, R]]:
    """Return all rows of a table that can be read, with their log positions."""
    with store.reading() as connection:
        return read(connection, log, log.select().order_by(log.table.c.seq))


def feedback_rows(store: Store) -> list[tuple[int, Feedback]]:
    return rows(store, FEEDBACK)


def reject_rows(store: Store) -> list[tuple[int, Reject]]:
    return rows(store, REJECTS)


def count_rows(store: Store) -> dict[str, int]:
    """Return the number of rows by table, those that cannot be read too."""
    with store.reading() as connection:
        counts = [sa.select(sa.func.count()).select_from(log.table) for log in LOGS]
        return {log.table.name: connection.execute(count).scalar_one() for log, count in zip(LOGS, counts, strict=True)}


def raw_bytes(folder: Path) -> bytes:
    """Return all that is in the files of a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
