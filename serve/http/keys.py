"""Who sends a request: API keys checked against a replica's copy of them, so that no request waits for the log."""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from data.log.current.keys import PREFIX, Key, Role, digest, list_keys
from data.log.current.replica_copy import ReplicaCopy
from data.log.store import Store


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request comes from."""

    key_id: str
    name: str
    role: Role

    def may(self, *roles: Role) -> bool:
        """Say whether it may do what is for these roles; an admin may do everything."""
        return self.role == "admin" or self.role in roles


ANYONE = Principal("", "anyone", "admin")
"""Whoever asks a service without keys."""
ENVIRONMENT = Principal("environment", "RAYCOMMEND_API_KEY", "admin")
"""Whoever has the key that the environment gives."""


_Keys: TypeAlias = Mapping[str, tuple[Key, Principal]]
"""By the keys' ids."""


class KeyRing:
    """A replica's copy of the keys. `refresh` it from a thread; `authenticate` waits for nothing."""

    def __init__(
        self,
        store: Store | None = None,
        admin_key: str | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read the keys.

        Args:
            store: where they are kept; None: there are none but `admin_key`.
            admin_key: one more, of role admin, that does not end.
            clock: the time by which keys end.

        Raises:
            StoreError: the keys cannot be read.
        """
        self._clock = clock
        self._admin = digest(admin_key) if admin_key is not None else None
        self._keys = ReplicaCopy[_Keys](lambda _: _read(store) if store else {}, {})
        self.refresh()

    def refresh(self) -> None:
        """Read the keys anew. Blocks.

        Raises:
            StoreError: they cannot be read; what was read before goes on to count.
        """
        self._keys.refresh()

    @property
    def open(self) -> bool:
        """Whether no key was ever made, and all are let in."""
        return not self._keys.current and self._admin is None

    def authenticate(
        self, authorization: str | None = None, x_api_key: str | None = None, subscription_key: str | None = None
    ) -> Principal | None:
        """Return who sends a request with these headers, or None if that is nobody known.

        Args:
            authorization: `Authorization`; counts if it is `Bearer KEY`, and before the others.
            x_api_key: `X-API-Key`.
            subscription_key: `Ocp-Apim-Subscription-Key`, which Personalizer's clients send.
        """
        if self.open:
            return ANYONE
        token = x_api_key or subscription_key
        if authorization is not None and authorization[:7].lower() == "bearer ":
            token = authorization[7:].strip()
        if not token:
            return None
        given = digest(token)
        # Compared first and always: how long it takes says nothing about the environment's key.
        if self._admin is not None and hmac.compare_digest(given, self._admin):
            return ENVIRONMENT
        prefix, _, rest = token.partition("_")
        known = self._keys.current.get(rest.partition("_")[0]) if prefix == PREFIX else None
        if known is None:
            return None
        key, principal = known
        return principal if hmac.compare_digest(given, key.hash) and key.lives(self._clock()) else None

    def find(self, key_id: str) -> tuple[Principal, str] | None:
        """Return whose a key is and the hash that is kept of it; None: it does not live."""
        if key_id == ENVIRONMENT.key_id:
            return None if self._admin is None else (ENVIRONMENT, self._admin)
        key, principal = self._keys.current.get(key_id, (None, ANYONE))
        return (principal, key.hash) if key is not None and key.lives(self._clock()) else None


def _read(store: Store) -> _Keys:
    return {key.key_id: (key, Principal(key.key_id, key.name, key.role)) for key in list_keys(store)}
