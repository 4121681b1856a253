"""Group commit: many requests, one transaction, each answered after its commit. One writer a process."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import islice
from types import TracebackType
from typing import NamedTuple, Protocol

from data.database import StoreError, StoreUnavailable
from data.store import Store, Stored
from data.tables import AnyRecord


class StoreBusy(StoreError):  # noqa: N818 - a state that passes, not a mistake
    """Too many records wait for their commit; the same records may be sent again a little later."""


class Writer(Protocol):
    """Commits records; what each implementation adds is its own."""

    async def commit(self, records: Sequence[AnyRecord]) -> list[Stored]:
        """Commit the records in one transaction and return what the log then holds for each, as `Store.insert` does.

        A commit cannot be taken back: who is cancelled while waiting for one has it nevertheless.
        """
        ...


class _Submission(NamedTuple):
    records: Sequence[AnyRecord]
    future: "Future[list[Stored]]"


class GroupCommitWriter:
    """A thread that commits whatever was submitted while it was committing. A context manager that closes itself.

    A future is resolved only after its records are committed, and all records of one submission are in one
    transaction. `max_batch` bounds the records of a transaction (a larger submission gets one of its own),
    `max_pending` the records that were taken and are not yet answered. Where the last transaction was of several
    submissions, the next waits `gather_s` for company: most of a transaction's cost is the same for one record or many.
    """

    def __init__(
        self, store: Store, max_batch: int = 1_000, max_pending: int = 10_000, gather_s: float = 0.003
    ) -> None:
        self._store = store
        self._max_batch = max_batch
        self._max_pending = max_pending
        self._gather_s = gather_s
        self._several = False
        self._queue: deque[_Submission] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.pending = 0
        """Records taken and not yet answered."""
        # A daemon: a process that ends without close() must not hang; what is lost then was never acknowledged.
        self._thread = threading.Thread(target=self._run, name="group-commit-writer", daemon=True)
        self._thread.start()

    def submit(self, records: Sequence[AnyRecord]) -> "Future[list[Stored]]":
        """Queue the records and return a future of what `Store.insert` says about them.

        A submission cannot be cancelled: once taken, it is committed or fails. Raises StoreBusy if `max_pending`
        would be exceeded (never if nothing is pending), StoreError if the writer is closed.
        """
        submission = _Submission(tuple(records), Future())
        submission.future.set_running_or_notify_cancel()
        with self._changed:
            if self._closed:
                raise StoreError("the writer is closed")
            if self.pending and self.pending + len(records) > self._max_pending:
                raise StoreBusy(f"{self.pending} records wait for their commit, at most {self._max_pending} may")
            self.pending += len(records)
            self._queue.append(submission)
            self._changed.notify()
        return submission.future

    async def commit(self, records: Sequence[AnyRecord]) -> list[Stored]:
        """Submit the records and wait for them; raises as `submit` and `Store.insert` do."""
        return await asyncio.wrap_future(self.submit(records))

    def close(self) -> None:
        """Commit what was taken, then end the thread. May be called more than once."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> "GroupCommitWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while group := self._take():
            self._commit(group)

    def _take(self) -> list[_Submission]:
        """Wait for submissions and take as many as fit one transaction; none means closed and done."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
        if self._several and not self._closed:
            time.sleep(self._gather_s)
        with self._changed:
            group: list[_Submission] = []
            room = self._max_batch
            while self._queue and (not group or len(self._queue[0].records) <= room):
                group.append(self._queue.popleft())
                room -= len(group[-1].records)
            self._several = len(group) > 1
            return group

    def _commit(self, group: list[_Submission]) -> None:
        outcomes = commit_together(self._store, [submission.records for submission in group])
        # Before the futures: whoever is told that its records are committed may submit the next ones at once.
        with self._changed:
            self.pending -= sum(len(submission.records) for submission in group)
        for submission, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Exception):
                submission.future.set_exception(outcome)
            else:
                submission.future.set_result(outcome)


def commit_together(store: Store, submissions: Sequence[Sequence[AnyRecord]]) -> list[list[Stored] | Exception]:
    """Commit submissions in one transaction, and return what the log then holds for each, or why it was not committed.

    Where one spoils the transaction of all, each gets one of its own, so that only that one fails.
    """
    try:
        stored = iter(store.insert([record for records in submissions for record in records]))
    except Exception as error:
        if len(submissions) == 1 or isinstance(error, StoreUnavailable):
            return [error] * len(submissions)
        return [outcome for records in submissions for outcome in commit_together(store, [records])]
    return [list(islice(stored, len(records))) for records in submissions]
