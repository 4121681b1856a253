"""Users: the features that are kept of them, their history, and forgetting them."""

import asyncio
from collections.abc import Mapping

from pydantic import JsonValue

from data.log.current.users import Entry, User, get_user, history, upsert_user
from data.log.store import Store
from data.settings import Settings
from rl.provenance.capture import ProofSettings
from serve.entities.forgetting import forget


class Users:
    """Methods raise StoreError where the log does not answer."""

    def __init__(self, store: Store, settings: Settings, proof: ProofSettings) -> None:
        self._store, self._settings, self._proof = store, settings, proof

    async def upsert(self, user_id: str, features: Mapping[str, JsonValue]) -> User:
        """Keep a user's features, in place of those before."""
        return await asyncio.to_thread(upsert_user, self._store, user_id, features)

    def get(self, user_id: str) -> User | None:
        """Return a user; None if nothing is kept of them. Blocks."""
        return get_user(self._store, user_id)

    def read_history(
        self, user_id: str, limit: int, before: tuple[int, int] | None
    ) -> tuple[list[Entry], tuple[int, int] | None]:
        """See `data.log.current.users.history`. Blocks."""
        return history(self._store, user_id, limit, before)

    async def forget(self, user_id: str) -> dict[str, int]:
        """See `serve.entities.forgetting.forget`."""
        return await asyncio.to_thread(forget, self._store, self._settings, user_id, self._proof)
