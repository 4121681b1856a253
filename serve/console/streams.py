"""Server-sent events: what pages are told as it happens. Browsers come again by themselves where a stream breaks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

from starlette.responses import StreamingResponse

from serve.background import Signal

KEEP_ALIVE_S: Final = 15.0
"""How often a stream says that it lives: HAProxy cuts off who says nothing for a minute."""
_EVERY_S: Final = 0.25


class News:
    """One text that changes, for all who follow it: it is asked for once, and only while somebody does."""

    def __init__(self, ask: Callable[[], Awaitable[str]], every_s: float = _EVERY_S) -> None:
        """Say where the text comes from, and how often it is asked for; before the first answer it is ""."""
        self._ask, self._every_s = ask, every_s
        self._changed = Signal()
        self._followers = 0
        self._task: asyncio.Task[None] | None = None
        self.text = ""

    async def follow(self) -> AsyncIterator[str]:
        """Yield the text, then each that it changes to; after a while the last one again: a sign of life."""
        self._followers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            await self._changed.wait_for(lambda: bool(self.text), KEEP_ALIVE_S)
            while True:
                text = self.text
                yield text
                await self._changed.wait_for(partial(self._differs, text), KEEP_ALIVE_S)
        finally:
            self._followers -= 1

    def _differs(self, text: str) -> bool:
        return self.text != text

    async def _watch(self) -> None:
        while self._followers:
            text = await self._ask()
            if text != self.text:
                self.text = text
                self._changed.send()
            await asyncio.sleep(self._every_s)


def stream(name: str, texts: AsyncIterator[str]) -> StreamingResponse:
    """Return an answer that sends each text as an event of a name."""

    async def lines() -> AsyncIterator[str]:
        async for text in texts:
            data = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
            yield f"event: {name}\n{data}\n"

    headers = {"X-Accel-Buffering": "no"}  # proxies that collect answers are not to
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)
