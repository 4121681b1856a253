"""Bytes of what was deleted, out of a SQLite file: neither free pages nor the write-ahead log nor gaps keep them.

The store overwrites what it deletes (`secure_delete`). Two things remain. The write-ahead log has pages as they were
before. And when SQLite divides a full page, the half that moves leaves its bytes in the gap, where no deletion finds
them. Only writing the file anew removes those.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic_core import to_json

from data.log.backend import Identity

EMPTYING_TIMEOUT_S = 30.0
"""How long to try; others read, write and move pages to the file all the time."""
_ATTEMPT_S = 0.5
"""How long one attempt waits for readers of the write-ahead log: nobody can write meanwhile."""
_PAUSE_S = 0.05
_READ_BYTES = 1 << 22
_DESCRIPTORS: dict[Identity, int] = {}
"""Of files that were looked through. They stay open: by closing any descriptor of a file, a process gives up all locks
that SQLite has on it, and the next one to close the database elsewhere deletes the write-ahead log that is in use."""


def scrub(path: Path, text: str) -> None:
    """Empty the write-ahead log, and write the file anew if it still holds a text that was deleted.

    That takes about half a minute a gigabyte, and room for a second file; writers wait. A text that other rows have
    too, such as a short number, is always found.

    Raises:
        OSError: somebody was reading or writing all the time, or the disk is full.
    """
    deadline = time.monotonic() + EMPTYING_TIMEOUT_S
    with _opened(path) as connection:
        _repeat(lambda: _empty_wal(connection), deadline)
        if _holds(path, text):
            _repeat(lambda: _rewrite(connection), deadline)
            _repeat(lambda: _empty_wal(connection), time.monotonic() + EMPTYING_TIMEOUT_S)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    attempt_s = min(_ATTEMPT_S, EMPTYING_TIMEOUT_S)
    try:
        with closing(sqlite3.connect(path, attempt_s, isolation_level=None)) as connection:
            yield connection
    except sqlite3.OperationalError as error:
        raise OSError(f"the file could not be written anew: {error}") from error


def _repeat(attempt: Callable[[], bool], deadline: float) -> None:
    """Attempt again and again until it succeeds or the time is over."""
    while not attempt():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the log's file was in use for {EMPTYING_TIMEOUT_S:g} s")
        time.sleep(_PAUSE_S)


def _empty_wal(connection: sqlite3.Connection) -> bool:
    # Busy at once, without waiting, while another process moves pages to the file.
    (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _rewrite(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("VACUUM")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return False
        raise
    return True


def _holds(path: Path, text: str) -> bool:
    """Return whether the file has a text, as it is or as JSON spells it."""
    wanted = {text.encode(), to_json(text)[1:-1]}
    overlap = max(map(len, wanted)) - 1
    descriptor = _descriptor(path)
    offset, before = 0, b""
    while data := os.pread(descriptor, _READ_BYTES, offset):
        offset += len(data)
        data = before + data
        if any(one in data for one in wanted):
            return True
        before = data[-overlap:] if overlap else b""
    return False


def _descriptor(path: Path) -> int:
    status = os.stat(path)
    key = status.st_dev, status.st_ino
    if key not in _DESCRIPTORS:
        _DESCRIPTORS[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return _DESCRIPTORS[key]
