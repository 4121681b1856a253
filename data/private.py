"""What a run writes is for its owner alone: files 600, folders 700, and what an earlier run left wider is mended."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
log = logging.getLogger("raycommend.private")


def keep_private(home: Path) -> None:
    """Let what this process and its children create be for their owner only, and make a home so that is not.

    Called where a process begins, before it writes. A folder that everybody may write to, such as /tmp, stays as it
    is, and only what is in it is taken back.
    """
    create_private()
    if mended := make_private(*_within(home)):
        log.warning("%d files and folders in %s were open to others, and are no longer", mended, home)


def create_private() -> None:
    """Let what this process and its children create be for their owner only; for tasks of a Ray that others started."""
    os.umask(_OTHERS)


def make_private(*paths: Path) -> int:
    """Take away what others than the owner may do with files and folders that are there; returns with how many."""
    mended = 0
    for path in paths:
        try:
            mode = path.lstat().st_mode
            if mode & _OTHERS and not stat.S_ISLNK(mode) and not mode & stat.S_ISVTX:
                path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
                mended += 1
        except FileNotFoundError:
            pass  # it was there a moment ago
        except PermissionError as error:
            log.warning("%s is open to others and belongs to another user: %s", path, error)
    return mended


def _within(home: Path) -> Iterator[Path]:
    yield home
    for folder, folders, files in os.walk(home):
        yield from (Path(folder, name) for name in (*folders, *files))
