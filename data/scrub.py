"""Bytes of what was deleted, out of a SQLite file: neither free pages nor the write-ahead log nor gaps keep them.

The store overwrites what it deletes (`secure_delete`). Two things remain. The write-ahead log has pages as they were
before. And when SQLite divides a full page, the half that moves leaves its bytes in the gap, where no deletion finds
them. Only writing the file anew removes those.
"""

import mmap
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic_core import to_json

from data.database import BUSY_TIMEOUT_S, StoreUnavailable

EMPTYING_TIMEOUT_S = 2.0
"""How long to wait for readers of the write-ahead log: nobody can write meanwhile."""


def scrub(path: Path, text: str) -> None:
    """Empty the write-ahead log, and write the file anew if it still holds a text that was deleted.

    That takes about half a minute a gigabyte, and room for a second file; writers wait. A text that other rows have
    too, such as a short number, is always found.

    Raises:
        StoreUnavailable: somebody was reading or writing all the time, or the disk is full.
    """
    with _opened(path) as connection:
        _empty_wal(connection)
        if _holds(path, text):
            connection.execute("VACUUM")
            _empty_wal(connection)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(path, BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            yield connection
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"the log's database cannot answer now: {error}") from error


def _empty_wal(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * EMPTYING_TIMEOUT_S)}")
    (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StoreUnavailable(f"the write-ahead log was in use for {EMPTYING_TIMEOUT_S:g} s and is not empty yet")
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * BUSY_TIMEOUT_S)}")


def _holds(path: Path, text: str) -> bool:
    """Return whether the file has a text, as it is or as JSON spells it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(spelt) >= 0 for spelt in {text.encode(), to_json(text)[1:-1]})
