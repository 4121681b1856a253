"""A value that takes longer to read than a page may take: read in a thread, once at a time, and kept."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Final, Generic, TypeVar

from data.errors import RecommenderError

T = TypeVar("T")
_REST: Final = 4.0
"""Times what reading has taken: the pause before the next. So a value that is dear takes a fifth of a core at most."""


@dataclass(frozen=True)
class Found(Generic[T]):
    """What was read last."""

    value: T | None
    """None: reading has failed, `problem` says why."""
    problem: str | None
    at: datetime


class Kept(Generic[T]):
    """One value for all who look. It is read only when somebody asks; who asks while it is read gets the last one."""

    def __init__(self, read: Callable[[], T], fresh_s: float) -> None:
        """Read nothing yet.

        Args:
            read: blocks; a RecommenderError of it is kept as the problem, anything else is raised where it is awaited.
            fresh_s: for how long a value is not read again.
        """
        self._read, self._fresh_s = read, fresh_s
        self._last: Found[T] | None = None
        self._next = 0.0
        self._task: asyncio.Task[Found[T]] | None = None
        self._stale = False

    async def get(self, within_s: float = 0.0) -> Found[T] | None:
        """Return what was read last; None: nothing yet, ask again.

        Args:
            within_s: how long to wait for a first value, or for one that was read after `expire`.
        """
        deadline = monotonic() + within_s
        while True:
            self._collect()
            if self._task is None and (self._stale or monotonic() >= self._next):
                self._stale = False
                self._task = asyncio.create_task(self._run())
            left_s = deadline - monotonic()
            if self._task is None or self._last is not None or left_s <= 0:
                return self._last
            await asyncio.wait([self._task], timeout=left_s)

    def expire(self) -> None:
        """Forget the value: something has changed it."""
        self._last, self._stale = None, True

    def _collect(self) -> None:
        """Take over what a reading has ended with; of one that was begun before `expire` nothing."""
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            if not self._stale:
                self._last = task.result()

    async def _run(self) -> Found[T]:
        began = monotonic()
        try:
            found = Found[T](await asyncio.to_thread(self._read), None, datetime.now(UTC))
        except RecommenderError as error:
            found = Found[T](None, str(error), datetime.now(UTC))
        self._next = monotonic() + max(self._fresh_s, _REST * (monotonic() - began))
        return found
