"""`python -m serve.keys`: make, rotate, revoke and list the API keys of the service."""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import get_args

from pydantic_core import to_json

from data.command import DONE, argument_parser, command
from data.log.current.keys import GRACE, Key, KeyRefused, Role, create, list_keys, revoke, rotate
from data.log.store import Store
from data.private import keep_private
from data.settings import Settings


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
    store = Store.open(options.store or settings.store_url, make=options.command == "create")
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
