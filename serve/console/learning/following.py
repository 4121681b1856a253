"""Tallies of the places that somebody looks at, kept up to date in the background."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from threading import Lock
from time import monotonic
from typing import Final, TypeVar

from data.errors import RecommenderError
from data.log.store import Store
from data.reward import RewardSpec
from serve.console.learning.tallying import PlaceTally, Progress

LOOKED_S: Final = 60.0
"""How long a tally is kept up to date after somebody has looked at it."""
_EVERY_S: Final = 1.0
_REST: Final = 1.0
"""While there is more to read: seconds of rest for each second of reading, so that pages get the processor."""
_FIRST_S: Final = 0.15
"""How long a view waits for a tally that has not begun: most logs are read by then."""

log = logging.getLogger("ray.serve")
T = TypeVar("T")
Place = tuple[str, str]


class _Followed:
    def __init__(self, make: Callable[[], PlaceTally]) -> None:
        self.make, self.lock = make, Lock()
        self.tally: PlaceTally | None = None
        self.looked = monotonic()
        self.task: asyncio.Task[None] | None = None
        self.error: RecommenderError | None = None
        self.current = asyncio.Event()


class Tallies:
    """By place. One for each is made when somebody looks, and stays."""

    def __init__(self, store: Store, history: timedelta) -> None:
        self._store, self._history = store, history
        self._places = dict[tuple[Place, str], _Followed]()

    async def read(self, place: Place, spec: RewardSpec, look: Callable[[PlaceTally], T]) -> tuple[T | None, Progress]:
        """Return what a function makes of a place's tally, and how far that is; None: nothing was read yet.

        Raises:
            StoreError, DataError: the log cannot be read.
        """
        followed = self._follow(place, spec)
        if followed.tally is None or not followed.current.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(followed.current.wait(), _FIRST_S)
        if followed.error is not None:
            raise followed.error
        return await asyncio.to_thread(self._look, followed, look)

    def _look(self, followed: _Followed, look: Callable[[PlaceTally], T]) -> tuple[T | None, Progress]:
        with followed.lock:
            if followed.tally is None:
                return None, Progress(0, 1, self._store.now() - self._history, 0, None)
            return look(followed.tally), followed.tally.progress

    def _follow(self, place: Place, spec: RewardSpec) -> _Followed:
        key = (place, spec.version)
        if key not in self._places:  # with another specification, what it was is worth nothing
            self._places = {at: one for at, one in self._places.items() if at[0] != place}
            self._places[key] = _Followed(lambda: PlaceTally(self._store, *place, spec, self._history))
        followed = self._places[key]
        followed.looked = monotonic()
        if followed.task is None or followed.task.done():
            if followed.task is not None and (fault := followed.task.exception()) is not None:
                followed.task = None  # a fault of ours: it is said once, and the next view tries again
                raise fault
            followed.task = asyncio.create_task(self._keep(followed))
        return followed

    async def _keep(self, followed: _Followed) -> None:
        """Read what is new until nobody has looked for a while, or another tally has taken its place."""
        while monotonic() - followed.looked < LOOKED_S and followed in self._places.values():
            began, more = monotonic(), False
            try:
                more = await asyncio.to_thread(self._step, followed)
                followed.error = None
            except RecommenderError as error:
                log.warning("the log cannot be tallied now: %s", error)
                followed.error = error
            if not more:
                followed.current.set()
            await asyncio.sleep(_REST * (monotonic() - began) if more else _EVERY_S)
        followed.current.clear()

    @staticmethod
    def _step(followed: _Followed) -> bool:
        with followed.lock:
            if followed.tally is None:
                followed.tally = followed.make()
            return followed.tally.step()
