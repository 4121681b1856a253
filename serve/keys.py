"""API keys: made, rotated and ended by a command, checked against a copy in memory."""

import argparse
import hmac
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import get_args

from pydantic_core import to_json

from data.command import DONE, argument_parser, command
from data.log.keys import GRACE, PREFIX, Key, KeyRefused, Role, create, digest, list_keys, revoke, rotate
from data.log.store import Store
from data.private import keep_private
from data.settings import Settings


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
        self._store, self._clock = store, clock
        self._admin = digest(admin_key) if admin_key is not None else None
        self._keys: Mapping[str, tuple[Key, Principal]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the keys anew. Blocks.

        Raises:
            StoreError: they cannot be read; what was read before goes on to count.
        """
        if self._store is not None:
            keys = list_keys(self._store)
            self._keys = {key.key_id: (key, Principal(key.key_id, key.name, key.role)) for key in keys}

    @property
    def open(self) -> bool:
        """Whether no key was ever made, and all are let in."""
        return not self._keys and self._admin is None

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
        known = self._keys.get(rest.partition("_")[0]) if prefix == PREFIX else None
        if known is None:
            return None
        key, principal = known
        return principal if hmac.compare_digest(given, key.hash) and key.lives(self._clock()) else None


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser("serve.keys", "The service's API keys.")
    parser.add_argument("--store", help="SQLAlchemy URL of the store; default: RAYCOMMEND_STORE, or that of the home")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("create", help="make a key and print it; it is shown only now")
    new.add_argument("name")
    new.add_argument(
        "--role", choices=get_args(Role), required=True, help="node asks and reports, reader reads, admin may all"
    )
    new.add_argument("--days", type=float, help="how long it lives; default: until it is rotated or revoked")
    again = commands.add_parser("rotate", help="make a new key of this name and print it; the old one ends later")
    again.add_argument("name")
    again.add_argument("--grace", type=float, default=GRACE / timedelta(hours=1), help="hours that the old one lives")
    end = commands.add_parser("revoke", help="end all keys of a name, or one by its id, now")
    end.add_argument("name", metavar="name|id")
    commands.add_parser("list", help="print all keys, one JSON object a line")
    return parser


@command("serve.keys")
def main(arguments: Sequence[str]) -> int:
    """Run the command: a key, or what was asked for, on standard output."""
    options, settings = _parser().parse_args(arguments), Settings()
    keep_private(settings.home)
    store = Store.open(options.store or settings.store_url)
    try:
        print(_run(options, store))
    except (ValueError, OverflowError) as error:  # of timedelta: no number, or beyond the year 9999
        raise KeyRefused(str(error)) from error
    finally:
        store.close()
    return DONE


def _run(given: argparse.Namespace, store: Store) -> str:
    match given.command:
        case "create":
            lifetime = timedelta(days=given.days) if given.days is not None else None
            return create(store, given.name, given.role, lifetime)
        case "rotate":
            return rotate(store, given.name, timedelta(hours=given.grace))
        case "revoke":
            return f"{revoke(store, given.name)} ended"
        case _:
            return "\n".join(_describe(key, store.now()) for key in list_keys(store))


def _describe(key: Key, now: datetime) -> str:
    shown = {"key_id": key.key_id, "name": key.name, "role": key.role, "lives": key.lives(now)}
    return to_json({**shown, "created_at": key.created_at, "expires_at": key.expires_at}).decode()


if __name__ == "__main__":
    sys.exit(main())
