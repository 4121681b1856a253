"""Who may read what a run has written."""

import stat
from pathlib import Path


def open_to_others(folder: Path) -> list[str]:
    """Return the files and folders within a folder that others than the owner may do anything with."""
    found = ((path, path.lstat().st_mode) for path in folder.rglob("*"))
    return [str(path) for path, mode in found if not stat.S_ISLNK(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO)]
