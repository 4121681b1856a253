"""What a command that was started has left in its folder: what it was asked, what it has said, how it has ended."""

import fcntl
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

RUN, OUT, ERR, STATUS, LOCK, PROCESS = "run.json", "out", "err", "status", "lock", "process"
_TAIL: Final = 4_000
"""Bytes of what a command says that are shown."""

State: TypeAlias = Literal["running", "ended", "lost"]


class Asked(BaseModel):
    """What was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    module: str
    arguments: tuple[str, ...]
    by: str
    began: datetime
    about: dict[str, Any] = {}
    """What pages show of it."""


class Run(BaseModel):
    """A command that was started, as it is now."""

    model_config = ConfigDict(frozen=True)
    name: str
    asked: Asked
    state: State
    """lost: its process was killed."""
    status: int | None
    """Its exit status."""
    ended: datetime | None
    said: str
    """The end of what it has said on standard error."""
    found: dict[str, Any] | None
    """The JSON object that it has printed."""

    @property
    def complaint(self) -> str:
        """The last line that it has said: what is wrong, where it was refused."""
        lines = self.said.strip().splitlines()
        return lines[-1] if lines else ""


def read_run(folder: Path) -> Run:
    """Read a run.

    Raises:
        OSError, ValidationError: there is none, or its record is damaged.
    """
    asked = Asked.model_validate_json((folder / RUN).read_bytes())
    running = is_locked(folder)  # before the status, which is written while it is locked
    status, ended, found = None, None, None
    if not running and (path := folder / STATUS).exists():
        status, ended = int(path.read_text()), datetime.fromtimestamp(path.stat().st_mtime, UTC)
        with suppress(ValueError, OSError):
            said = json.loads((folder / OUT).read_text())
            found = said if isinstance(said, dict) else None
    return Run(
        name=folder.name,
        asked=asked,
        state="running" if running else "lost" if status is None else "ended",
        status=status,
        ended=ended,
        said=_tail(folder / ERR),
        found=found,
    )


def is_locked(folder: Path) -> bool:
    """Return whether the process of a run lives."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
