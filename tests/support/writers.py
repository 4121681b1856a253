"""A writer for services in the tests' own process: each submission is a transaction of its own."""

import asyncio
from collections.abc import Sequence

from data.log.insertion.appender import Stored
from data.log.store import Store
from data.schema import AnyRecord


class StoreWriter:
    """See `data.log.writer.commit.Writer`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def commit(self, records: Sequence[AnyRecord]) -> list[Stored]:
        return await asyncio.to_thread(self._store.insert, records)
