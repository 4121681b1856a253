"""What replicas tell the learner: by which requests that are traced decisions were made, and reported on.

Not through the log: a place in a trace is of no use once it was exported, and most requests are in none. What is lost
on the way, with a process that dies, is a link between two spans.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

MAX_TOLD: Final = 10_000
"""Decisions that wait to be told, at most; of more, the oldest are left out."""
_EVERY_S = 0.2
_WITHIN_S = 15.0
log = logging.getLogger("ray.serve")


class Outbox:
    """Decisions with the `traceparent` of a request each, until they are taken."""

    def __init__(self) -> None:
        self._waiting = deque[tuple[str, str]](maxlen=MAX_TOLD)

    def put(self, decision_id: str, parent: str) -> None:
        """Let the learner be told that a request was for a decision."""
        self._waiting.append((decision_id, parent))

    def take(self) -> list[tuple[str, str]]:
        """Return what was put in since the last time."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    async def tell(self, hear: Callable[[list[tuple[str, str]]], Awaitable[Any]]) -> None:
        """Tell the learner for ever; it `hear`s. What it is not told of, for it does not answer, is lost."""
        while True:
            await asyncio.sleep(_EVERY_S)
            if told := self.take():
                try:
                    await asyncio.wait_for(hear(told), _WITHIN_S)
                except (RayError, RayServeException, TimeoutError) as error:
                    log.warning("the learner was not told of %d requests that are traced: %r", len(told), error)
