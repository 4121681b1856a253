"""Group commit within the process that serves, for the plain peers."""

import asyncio
from collections.abc import Sequence

from data.log.insertion.appender import Stored
from data.log.store import Store
from data.log.writer.commit import commit_together
from data.schema import AnyRecord

_GATHER_S = 0.003
"""Longer than in a process of its own: here those who decide wait for the interpreter meanwhile."""


class GroupCommit:
    """Commits whatever was submitted while it was committing. Belongs to one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Sequence[AnyRecord], asyncio.Future[list[Stored]]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def commit(self, records: Sequence[AnyRecord]) -> list[Stored]:
        """See `data.log.writer.commit.Writer`."""
        future: asyncio.Future[list[Stored]] = asyncio.get_running_loop().create_future()
        self._waiting.append((records, future))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        return await future

    async def _commit(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            outcomes = await asyncio.to_thread(commit_together, self._store.insert, [records for records, _ in group])
            for (_, future), outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
            if len(group) > 1:  # most of a transaction's cost is the same for one record or many
                await asyncio.sleep(_GATHER_S)
        self._committing = None
