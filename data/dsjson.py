"""Export the log as DSJSON lines, import such lines: `python -m data.dsjson export|import --help`. No Ray.

The last line that it prints is a JSON object of counts; lines that cannot be imported are named on stderr with what is
wrong with them, and left out.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

from pydantic import ValidationError
from pydantic_core import to_json

from data.attribution import attribute
from data.database import StoreError
from data.errors import DataError
from data.private import keep_private
from data.schema import Decision, Feedback, RewardSpec
from data.settings import Settings
from data.sources.dsjson import REWARD, from_line, to_line
from data.store import Store

PERSONALIZER = "personalizer"
_AT_ONCE = 1_000


def default_spec(loop: str) -> RewardSpec:
    """Return what feedback of a loop is worth if nothing else is said: Personalizer's rewards are what they are."""
    return RewardSpec(weights={REWARD: 1.0}, aggregation="first") if loop == PERSONALIZER else RewardSpec()


def export(store: Store, loop: str, spec: RewardSpec, counts: Counter[str]) -> Iterator[str]:
    """Yield a line for each decision of a loop that is due to be learned, in log order.

    `counts` gets how many were exported, how many are pending (their windows are open and nothing was observed, or they
    wait to be activated), and how many are empty.
    """
    last = 0
    while rows := store.decisions(last, _AT_ONCE, loop=loop):
        last, now = rows[-1][0], store.now()
        feedback_of = store.feedback_of([decision.decision_id for _, decision in rows])
        for _, decision in rows:
            feedback = feedback_of.get(decision.decision_id, [])
            outcome = attribute(decision, feedback, spec, now)
            state = "empty" if not decision.slate else "exported" if outcome.due else "pending"
            counts[state] += 1
            if state == "exported":
                yield to_line(outcome, feedback)


def load(store: Store, lines: Iterable[bytes], loop: str) -> tuple[Counter[str], list[tuple[int, str]]]:
    """Put lines into the log; what is in it already, by its id, stays as it is.

    Returns:
        Counts of decisions and of feedback that were new, of what was known, and of rejected lines; and for each of
        these its number, from 1, and what is wrong with it.
    """
    counts, rejected = Counter({"decisions": 0, "feedback": 0, "known": 0, "rejected": 0}), list[tuple[int, str]]()
    batch: list[Decision | Feedback] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found = from_line(line, loop)
                batch += [found.decision, *found.feedback]
            except DataError as error:
                rejected.append((number, str(error)))
        if len(batch) >= _AT_ONCE:
            _put(store, batch, counts)
            batch = []
    _put(store, batch, counts)
    counts["rejected"] = len(rejected)
    return counts, rejected


def _put(store: Store, batch: Sequence[Decision | Feedback], counts: Counter[str]) -> None:
    for stored in store.insert(batch, received=True) if batch else []:
        name = "decisions" if isinstance(stored.record, Decision) else "feedback"
        counts[name if stored.inserted else "known"] += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 where the log or a file cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m data.dsjson", description="Exchange decisions with Vowpal Wabbit.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("export", "write the log as DSJSON"), ("import", "read DSJSON into the log")):
        command = commands.add_parser(name, help=what)
        command.add_argument("path", type=Path, help="file of DSJSON lines; - is standard input or output")
        command.add_argument("--store", default=Settings().store_url, help="the log; default: %(default)s")
        command.add_argument("--loop", default=PERSONALIZER, help="which learning loop; default: %(default)s")
        if name == "export":
            command.add_argument("--reward", type=Path, help="JSON file of a reward specification")
    options = parser.parse_args(arguments)
    keep_private(Settings().home)
    try:
        store = Store.open(options.store)
        try:
            counts = _export(store, options) if options.command == "export" else _import(store, options)
        finally:
            store.close()
    except (DataError, StoreError, OSError) as error:
        print(f"data.dsjson: {error}", file=sys.stderr)
        return 2
    print(to_json(counts).decode(), file=sys.stderr if str(options.path) == "-" else sys.stdout)
    return 0


def _export(store: Store, options: argparse.Namespace) -> Counter[str]:
    spec, counts = default_spec(options.loop), Counter({"exported": 0, "pending": 0, "empty": 0})
    if options.reward is not None:
        try:
            spec = RewardSpec.model_validate_json(options.reward.read_bytes())
        except ValidationError as error:
            raise DataError(f"{options.reward} is no reward specification: {error}") from error
    lines = export(store, options.loop, spec, counts)
    if str(options.path) == "-":
        _write(lines, sys.stdout)
    else:
        with options.path.open("w", encoding="utf-8") as file:
            _write(lines, file)
    return counts


def _write(lines: Iterable[str], file: TextIO) -> None:
    file.writelines(f"{line}\n" for line in lines)


def _import(store: Store, options: argparse.Namespace) -> Counter[str]:
    if str(options.path) == "-":
        return _load(store, sys.stdin.buffer, options.loop)
    with options.path.open("rb") as file:
        return _load(store, file, options.loop)


def _load(store: Store, file: BinaryIO, loop: str) -> Counter[str]:
    counts, rejected = load(store, file, loop)
    for number, reason in rejected:
        print(f"line {number}: {reason}", file=sys.stderr)
    return counts


if __name__ == "__main__":
    sys.exit(main())
