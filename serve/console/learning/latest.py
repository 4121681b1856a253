"""What others have said last: they are asked while somebody looks, and no page waits long for them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from data.errors import RecommenderError

T = TypeVar("T")


class Latest(Generic[T]):
    """The last answer to one question."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        """Take what asks; it may raise RecommenderError."""
        self._ask = ask
        self._task: asyncio.Task[None] | None = None
        self._answer: T | None = None
        self._problem: str | None = None

    async def read(self, patience_s: float) -> tuple[T | None, str | None]:
        """Ask again, unless it is being asked, and wait a little; returns the last answer, and what went wrong since.

        None and None: there was no answer yet.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._renew())
        await asyncio.wait([self._task], timeout=patience_s)
        return self._answer, self._problem

    async def renew(self, patience_s: float) -> None:
        """Wait until what has been changed just now is known, as far as the patience goes."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=patience_s)
        await self.read(patience_s)

    async def _renew(self) -> None:
        try:
            self._answer, self._problem = await self._ask(), None
        except RecommenderError as error:
            self._problem = str(error)
