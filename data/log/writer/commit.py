"""Group commit: many requests, one transaction, each answered after its commit."""

from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Protocol, TypeVar

from data.log.errors import StoreError, StoreUnavailable
from data.log.insertion.appender import Stored
from data.schema import AnyRecord

T = TypeVar("T")
S = TypeVar("S")


class StoreBusy(StoreError):  # noqa: N818 - a state that passes, not a mistake
    """Too many records wait for their commit; the same records may be sent again a little later."""


class Writer(Protocol):
    """What a service commits records by; `data.log.writer.process` has the one that is served."""

    async def commit(self, records: Sequence[AnyRecord]) -> list[Stored]:
        """Commit the records in one transaction and return what the log then holds for each, as `Appender.insert` does.

        A commit cannot be taken back: who is cancelled while waiting for one has it nevertheless.
        """
        ...


def commit_together(
    insert: Callable[[Sequence[T]], Sequence[S]], submissions: Sequence[Sequence[T]]
) -> list[list[S] | Exception]:
    """Commit submissions in one transaction, and return what the log then holds for each, or why it was not committed.

    `insert` is `Store.insert` or `Store.insert_rows`. Where one submission spoils the transaction of all, each gets one
    of its own, so that only that one fails.
    """
    try:
        stored = iter(insert(list(chain.from_iterable(submissions))))
    except Exception as error:
        if len(submissions) == 1 or isinstance(error, StoreUnavailable):
            return [error] * len(submissions)
        return [outcome for records in submissions for outcome in commit_together(insert, [records])]
    return [list(islice(stored, len(records))) for records in submissions]
