"""Group commit by a thread of the process that serves, for the plain peers."""

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from data.store import Store, Stored
from data.tables import AnyRecord
from data.writer import commit_together

_GATHER_S = 0.003
"""Longer than in a process of its own: here those who decide wait for the interpreter meanwhile."""


class GroupCommitThread:
    """Commits whatever was submitted while it was committing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Sequence[AnyRecord], Future[list[Stored]]]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    async def commit(self, records: Sequence[AnyRecord]) -> list[Stored]:
        """See `data.writer.Writer`."""
        future: Future[list[Stored]] = Future()
        with self._changed:
            self._waiting.append((records, future))
            self._changed.notify()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Commit what was submitted, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        several = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
            if several:  # most of a transaction's cost is the same for one record or many
                time.sleep(_GATHER_S)
            with self._changed:
                group, self._waiting = self._waiting, []
            if not group:
                return
            several = len(group) > 1
            outcomes = commit_together(self._store, [records for records, _ in group])
            for (_, future), outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
