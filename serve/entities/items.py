"""The items of the catalogue: what the log has, and this replica's copy of it."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from data.log.current import items
from data.log.current.catalogue_copy import Catalogue
from data.log.current.items import Item, StoredItem
from data.log.current.replica_copy import ReplicaCopy
from data.log.store import Store
from data.schema import Change


class Items:
    """Methods raise StoreError where the log does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._copy = ReplicaCopy(self._read, Catalogue())

    @property
    def catalogue(self) -> Catalogue:
        """The replica's copy: refreshed now and then, and at once after a change that came here."""
        return self._copy.current

    def refresh(self) -> None:
        """Bring the copy up to date. Blocks."""
        self._copy.refresh()

    def now(self) -> datetime:
        """Return the time by which items expire."""
        return self._store.now()

    async def upsert(self, new: Sequence[Item]) -> list[Change]:
        """See `data.log.current.items.upsert`."""
        changes = await asyncio.to_thread(items.upsert, self._store, new)
        await asyncio.to_thread(self.refresh)
        return changes

    async def page(self, after: int, limit: int, category: str | None, available: bool | None) -> list[StoredItem]:
        """See `data.log.current.items.page`."""
        return await asyncio.to_thread(items.page, self._store, after, limit, category=category, available=available)

    async def get(self, item_id: str) -> StoredItem | None:
        """Return an item; None if there is none of this id."""
        return await asyncio.to_thread(items.get, self._store, item_id)

    async def delete(self, item_id: str) -> bool:
        """Delete an item; returns whether there was one."""
        deleted = await asyncio.to_thread(items.delete, self._store, item_id)
        if deleted:
            await asyncio.to_thread(self.refresh)
        return deleted

    def _read(self, known: Catalogue) -> Catalogue:
        known.refresh(self._store)
        return known
