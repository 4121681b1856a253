"""What others see whole or not at all: files and folders that are replaced, and locks between processes.

Written aside, then renamed: NAME.new until it is complete, for a folder also NAME.old until the new one is in its
place. What a killed process has left there is no hindrance to the next.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from data.errors import RecommenderError


@contextmanager
def lock(path: Path, refusal: Callable[[str], RecommenderError]) -> Iterator[None]:
    """Keep other processes out; the system gives the lock back when this one ends, in whatever way.

    Args:
        path: of the lock's file, which stays; its folder is made.
        refusal: the error to raise where another process, of this id, holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        held.acquire(blocking=False)
    except Timeout:
        raise refusal(path.read_text().strip() or "unknown") from None
    try:
        path.write_text(str(os.getpid()))
        yield
    finally:
        held.release()


@contextmanager
def replace_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give the path of a file to write, which takes the place of `path` when it is complete.

    Args:
        path: readers of its folder pass over names that begin with an underscore, as the new file's does until then.
        durable: wait until the new file is on disk before it has the name.
    """
    new = path.with_name(f"_{path.name}.new")
    yield new
    if durable:
        sync(new)
    new.replace(path)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place of `path` when it is complete."""
    new, old = _beside(path)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    yield new
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def complete_replacements(parent: Path) -> None:
    """Bring replacements of folders in a folder to their end that were interrupted between the two renames."""
    for old in sorted(parent.glob("*.old")):
        path = old.with_suffix("")
        if not path.exists():
            _beside(path)[0].rename(path)
        shutil.rmtree(old)


def is_unfinished(path: Path) -> bool:
    """Return whether a folder is one that `replace_folder` gave, and not yet in its place."""
    return path.suffix == ".new"


def name_folder(new: Path, path: Path) -> None:
    """Give a complete folder its name; where another process was faster with the same content, its folder stays."""
    try:
        new.rename(path)
    except OSError:
        if not path.exists():
            raise
        shutil.rmtree(new)


def sync(path: str | Path) -> None:
    """Wait until a local file, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".new"), path.with_name(path.name + ".old")
