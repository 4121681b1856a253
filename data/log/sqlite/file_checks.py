"""The file that a log is in, as the file system has it: whether it is still that file, and whether it is sound."""

import os
import sqlite3
import threading
from pathlib import Path

from data.log.backend import Identity


def identity(path: Path | str) -> Identity | None:
    """Return which file a path is now, by device and inode; None: there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


class WatchedFile:
    """The file of a database in WAL mode, and its write-ahead log, as they were when they were opened.

    SQLite goes on with the file that it has opened, whatever has become of the path: what is committed to a file that
    was deleted or replaced is gone when the last process closes it. The write-ahead log is the same one as long as a
    connection is open.
    """

    def __init__(self, path: Path) -> None:
        self._own: tuple[tuple[str, Identity | None], ...] = ()
        self.paths = tuple(Path(f"{path}{end}") for end in ("", "-wal", "-shm"))

    @property
    def own(self) -> Identity | None:
        """The database file that was opened."""
        return self._own[0][1] if self._own else None

    def watch(self) -> None:
        """Take the files as they are now for those that are open."""
        self._own = tuple((str(path), identity(path)) for path in self.paths[:2])

    def fault(self) -> str | None:
        """Say what has become of the files since; None: they are there."""
        for path, own in self._own:
            if own is not None and (now := identity(path)) != own:
                return f"{path} was {'deleted' if now is None else 'replaced'} while it was open"
        return None


def damage(driver: sqlite3.Connection, limit_s: float) -> str | None:
    """Look for damage in the structure of a database for some seconds at most; returns the first that is found."""
    end = threading.Timer(limit_s, driver.interrupt)
    end.start()
    try:
        ((first,),) = driver.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return None  # none within the time
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        end.cancel()
        end.join()
    return None if first == "ok" else str(first)
