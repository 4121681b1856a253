"""`python -m serve.abtest start|show|shares|off|stop`: A/B tests of the service that answers from this log.

    start TEST.toml                      as the file says; or by options, which count before the file:
    start --name greener --control old --variant old=linear_thompson --variant new=registry:challenger,share=0.1
    show [NAME]                          all tests; or one, with its history and what it says so far
    shares NAME old=0.8 new=0.2          other shares of the users
    off NAME VARIANT --why REASON        give the users of a variant to the control
    stop NAME --why REASON               its users go back to the configured routing

Prints one JSON object. Replicas and the learner follow within seconds, without a restart. Exit status 2: refused, and
standard error says why; nothing was changed.
"""

import argparse
import getpass
import sys
import tomllib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import to_json

from data.command import DONE, argument_parser, command
from data.dsjson import find_reward_spec
from data.errors import DataError, reason
from data.log.store import Store
from data.private import keep_private
from data.settings import Settings
from serve.abtests.changes import find_test, list_tests, set_shares, start, stop, switch_off
from serve.abtests.contracts import ABTestsResponse, describe, describe_with
from serve.abtests.results import describe_results
from serve.abtests.specification import ABTest, Kind, Variant

_OF_VARIANT = [name for name in Variant.model_fields if name != "policy"]
_PLAIN = ("name", "objective", "control", "salt", "starts", "ends")
"""Fields of a test that an option gives as they are."""


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser("serve.abtest", __doc__)
    parser.add_argument("--store", help="SQLAlchemy URL of the store; default: RAYCOMMEND_STORE, or that of the home")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("start", help="start a test")
    new.add_argument("file", nargs="?", type=Path, help="TOML, with the fields of a test")
    fields = ABTest.model_fields
    for name in _PLAIN:
        new.add_argument(f"--{name}", help=fields[name].description)
    new.add_argument("--kind", choices=get_args(Kind))
    new.add_argument("--training", choices=("isolated", "shared"), help=fields["training"].description)
    new.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME=POLICY[,share=S][,mode=M]",
        help="; ".join(f"{name}: {Variant.model_fields[name].description}" for name in Variant.model_fields),
    )
    shown = commands.add_parser("show", help="all tests, or one with its history and results")
    shown.add_argument("name", nargs="?")
    other = commands.add_parser("shares", help="change the shares of the users")
    other.add_argument("name")
    other.add_argument("shares", nargs="+", metavar="VARIANT=SHARE")
    off = commands.add_parser("off", help="give the users of a variant to the control")
    off.add_argument("name")
    off.add_argument("variant")
    end = commands.add_parser("stop", help="end a test")
    end.add_argument("name")
    for changing in (new, other, off, end):
        changing.add_argument("--why", help="the reason, for the history")
        changing.add_argument("--by", default=_user(), help="who, for the history (default: %(default)s)")
    return parser


@command("serve.abtest")
def main(arguments: Sequence[str]) -> int:
    """Run the command: a test, or all, as one JSON object on standard output."""
    options, settings = _parser().parse_args(arguments), Settings()
    keep_private(settings.home)
    with closing(Store.open(options.store or settings.store_url)) as store:
        print(to_json(_run(options, store)).decode())
    return DONE


def _run(given: argparse.Namespace, store: Store) -> Any:
    match given.command:
        case "start":
            state = start(store, _read_test(given), by=given.by, why=given.why)
        case "shares":
            state = set_shares(store, given.name, _read_shares(given.shares), by=given.by, why=given.why)
        case "off":
            state = switch_off(store, given.name, given.variant, by=given.by, why=given.why)
        case "stop":
            state = stop(store, given.name, by=given.by, why=given.why)
        case _ if given.name is None:
            states, now = list_tests(store), store.now()
            return ABTestsResponse(tests=[describe(state, now) for state in reversed(states.values())])
        case _:
            state = find_test(store, given.name)
            spec = find_reward_spec(store, state.test.loop, state.test.objective)
            return describe_with(state, store.now(), describe_results(store, state, spec))
    return describe(state, store.now())


def _read_test(given: argparse.Namespace) -> ABTest:
    """Return the test that a file and options say.

    Raises:
        DataError: the file cannot be read, or they say none; which field, and what would be right.
    """
    said: dict[str, Any] = {}
    if given.file is not None:
        try:
            said = tomllib.loads(given.file.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{given.file} is no TOML: {error}") from error
    said |= {name: value for name in (*_PLAIN, "kind", "training") if (value := getattr(given, name)) is not None}
    if given.variant:
        said["variants"] = dict(map(_read_variant, given.variant))
    try:
        return ABTest.model_validate(said)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'test'}: {reason(fault)}" for fault in error.errors()]
        raise DataError("; ".join(faults)) from None


def _read_variant(text: str) -> tuple[str, dict[str, str]]:
    first, *others = text.split(",")
    pairs = [part.partition("=") for part in (first, *others)]
    fields = [(name, value) for name, _, value in pairs[1:]]
    if not all(equals for _, equals, _ in pairs) or any(name not in _OF_VARIANT for name, _ in fields):
        raise DataError(f"--variant is NAME=POLICY[,share=S][,mode=M], got {text!r}")
    return pairs[0][0], {"policy": pairs[0][2], **dict(fields)}


def _read_shares(texts: Sequence[str]) -> dict[str, float]:
    try:
        return {name: float(share) for name, _, share in (text.partition("=") for text in texts)}
    except ValueError:
        raise DataError(f"shares are VARIANT=SHARE, such as old=0.9 new=0.1, got {' '.join(texts)}") from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "command"


if __name__ == "__main__":
    sys.exit(main())
