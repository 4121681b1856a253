"""API keys: made, rotated and ended, kept as hashes."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

import sqlalchemy as sa

from data.errors import RecommenderError
from data.log.store import Store
from data.log.tables import KEYS

Role: TypeAlias = Literal["node", "reader", "admin"]
"""node: asks and reports; reader: reads; admin: everything."""

PREFIX: Final = "rk"
MAX_NAME: Final = 64
GRACE: Final = timedelta(hours=24)
_ALL = sa.select(KEYS).order_by(KEYS.c.created_at, KEYS.c.key_id)


class KeyRefused(RecommenderError):  # noqa: N818 - an answer to whoever gave the command
    """A key cannot be made, rotated or revoked; says why, and what would be right."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key: not its secret."""

    key_id: str
    name: str
    role: Role
    hash: str
    created_at: datetime
    expires_at: datetime | None
    """When it ends, or has ended; None: never."""

    def lives(self, now: datetime) -> bool:
        """Say whether it lets requests in."""
        return self.expires_at is None or now < self.expires_at


def digest(token: str) -> str:
    """Return the hash that is kept of a key.

    Passwords need a slow hash because they can be guessed; 256 random bits cannot, however fast the hash is, and this
    one is computed for every request.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def create(store: Store, name: str, role: Role, lifetime: timedelta | None = None) -> str:
    """Make a key and return its token, which is kept nowhere.

    Raises:
        KeyRefused: a key of this name lives, or the name or the lifetime is none.
    """
    if lifetime is not None and lifetime <= timedelta():
        raise KeyRefused(f"a key lives for a time of more than 0, got {lifetime}")
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise KeyRefused(f"a key's name is 1 to {MAX_NAME} printable characters, got {name[:80]!r}")
    with store.writing() as connection:
        now = store.now()
        if _living(connection, name, now):
            raise KeyRefused(f"a key named {name!r} lives already: rotate it, or revoke it first")
        return _insert(connection, name, role, now, lifetime)


def rotate(store: Store, name: str, grace: timedelta = GRACE) -> str:
    """Make a new key of the name, role and lifetime of the last one, and let the others of that name end after `grace`.

    Raises:
        KeyRefused: no key of this name lives, or `grace` is negative.
    """
    if grace < timedelta():
        raise KeyRefused(f"the old key lives on for a time of 0 or more, got {grace}")
    with store.writing() as connection:
        now = store.now()
        living = [key for key in _living(connection, name, now) if key.name == name]
        if not living:
            raise KeyRefused(f"no key named {name!r} lives: create it")
        last = living[-1]
        _end(connection, living, now + grace)
        lifetime = last.expires_at - last.created_at if last.expires_at else None
        return _insert(connection, name, last.role, now, lifetime)


def revoke(store: Store, name: str) -> int:
    """End the keys of a name, or the key of an id, at once; return how many lived.

    Raises:
        KeyRefused: there is none.
    """
    with store.writing() as connection:
        now = store.now()
        living = _living(connection, name, now)
        if not living:
            raise KeyRefused(f"no living key has the name or id {name!r}")
        _end(connection, living, now)
        return len(living)


def list_keys(store: Store) -> list[Key]:
    """Return all keys, the ended ones too, in the order in which they were made."""
    return [Key(**row._mapping) for row in store.read_once(_ALL)]


def _living(connection: sa.Connection, name: str, now: datetime) -> list[Key]:
    keys = connection.execute(_ALL.where(sa.or_(KEYS.c.name == name, KEYS.c.key_id == name)))
    return [key for row in keys if (key := Key(**row._mapping)).lives(now)]


def _insert(connection: sa.Connection, name: str, role: Role, now: datetime, lifetime: timedelta | None) -> str:
    key_id = secrets.token_hex(8)
    token = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    expires_at = now + lifetime if lifetime is not None else None
    row = {"key_id": key_id, "name": name, "role": role, "hash": digest(token)}
    connection.execute(sa.insert(KEYS).values(**row, created_at=now, expires_at=expires_at))
    return token


def _end(connection: sa.Connection, keys: Sequence[Key], at: datetime) -> None:
    # Rows stay for ever: a service whose last key was deleted would count as one without keys, open to all.
    for key in keys:
        ends = at if key.expires_at is None else min(at, key.expires_at)
        connection.execute(sa.update(KEYS).where(KEYS.c.key_id == key.key_id).values(expires_at=ends))
