"""Export the log as DSJSON lines, import such lines: `python -m data.dsjson export|import --help`.

The last line that it prints is a JSON object of counts. Lines that cannot be imported are left out and counted; the
first of them are named on stderr with what is wrong with them.
"""

import argparse
import io
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TextIO, TypeAlias, cast

from pydantic import ValidationError
from pydantic_core import to_json

from data.attribution.join import attribute
from data.command import DONE, argument_parser, command
from data.errors import DataError, first_fault
from data.formats.compressed import read_lines
from data.formats.dsjson.foreign import REWARD, Repeats
from data.formats.dsjson.lines import from_line, to_line
from data.log.loops import begun_folds
from data.log.store import Store
from data.log.unreadable import Fault, describe_error, log_unreadable
from data.private import keep_private
from data.reward import RewardSpec
from data.schema import Decision, Feedback
from data.settings import Settings

PERSONALIZER = "personalizer"
LISTED = 20
"""Rejected lines that are named."""
_AT_ONCE = 1_000

_Rejected: TypeAlias = list[tuple[int, str]]


def default_spec(loop: str) -> RewardSpec:
    """Return what feedback of a loop is worth if nothing else is said: Personalizer's rewards are what they are."""
    return RewardSpec(weights={REWARD: 1.0}, aggregation="first") if loop == PERSONALIZER else RewardSpec()


def find_reward_spec(store: Store, loop: str, objective: str) -> RewardSpec:
    """Return what feedback is worth under which the loop learns an objective: that of its last fold, if there is one.

    Raises:
        StoreError: the log cannot be read.
    """
    for version in begun_folds(store, loop, objective):
        spec = (version.begins or {}).get("spec")
        if isinstance(spec, dict) and "reward" in spec:
            return RewardSpec.model_validate(spec["reward"])
    return default_spec(loop)


def export_lines(store: Store, loop: str, spec: RewardSpec | None, counts: Counter[str]) -> Iterator[str]:
    """Yield a line for each decision of a loop that is due to be learned, in log order.

    A reward is that of `spec`; None: that of the decision's objective, see `spec_of`.

    `counts` gets how many were exported, how many are pending (their windows are open and nothing was observed, or they
    wait to be activated), how many are empty, and how many rows are set aside, as they cannot be read back.
    """
    last, faults, learned = 0, list[Fault](), cache(lambda objective: find_reward_spec(store, loop, objective))
    while rows := store.decisions(last, _AT_ONCE, loop=loop, faults=faults):
        last, now = rows[-1][0], store.now()
        feedback_of = store.feedback_of([decision.decision_id for _, decision in rows], faults)
        for seq, decision in rows:
            feedback = feedback_of.get(decision.decision_id, [])
            worth = spec or learned(decision.objective)
            try:
                outcome = attribute(decision, feedback, worth, now)
                state = "empty" if not decision.slate else "exported" if outcome.due else "pending"
                line = to_line(outcome, feedback) if state == "exported" else ""
            except Exception as error:  # a damaged row: the others are exported
                faults.append(Fault("decisions", seq, describe_error(error)))
                log_unreadable("decisions", seq, describe_error(error))
                continue
            counts[state] += 1
            if line:
                yield line
    if faults:
        counts["set_aside"] = len(faults)


def import_lines(
    store: Store, lines: Iterable[bytes | DataError], loop: str, time: datetime | None = None
) -> tuple[Counter[str], _Rejected]:
    """Put lines into the log; what is in it already, by its id, stays as it is.

    Args:
        store: the log.
        lines: see `read_lines`.
        loop: which loop the lines of others are to belong to.
        time: when it was, of lines that do not say so.

    Returns:
        Counts of decisions and of feedback that were new, how many of the feedback are `orphans` of no decision that
        the log has, of records that were known, of lines `passed_over` as they say nothing, and of rejected lines; and
        of the first `LISTED` of these the number, from 1, and what is wrong with it.

    Raises:
        DataError: the lines end before their end.
    """
    names = ("decisions", "feedback", "orphans", "known", "passed_over", "rejected")
    counts, rejected = Counter(dict.fromkeys(names, 0)), list[tuple[int, str]]()
    batch: list[tuple[int, Decision | Feedback]] = []
    repeats = _repeats()
    try:
        for number, line in enumerate(lines, start=1):
            try:
                if isinstance(line, DataError):
                    raise line
                if not (text := line.strip()):
                    continue
                found = from_line(text, loop, time, repeats)
            except DataError as error:
                _reject(number, str(error), counts, rejected)
                continue
            if found is None:
                counts["passed_over"] += 1
                continue
            batch += [(number, record) for record in (found.decision, *found.feedback) if record is not None]
            if len(batch) >= _AT_ONCE:
                _put(store, batch, counts, rejected)
                batch = []
    finally:
        _put(store, batch, counts, rejected)
    return counts, rejected


def _repeats() -> Repeats:
    seen: Counter[int] = Counter()  # by a hash, of the lines that have no other name

    def repeats(line: bytes) -> int:
        key = int.from_bytes(blake2b(line, digest_size=8).digest())
        seen[key] += 1
        return seen[key] - 1

    return repeats


def _reject(number: int, reason: str, counts: Counter[str], rejected: _Rejected) -> None:
    counts["rejected"] += 1
    if len(rejected) < LISTED:
        rejected.append((number, reason))


def _put(
    store: Store, batch: Sequence[tuple[int, Decision | Feedback]], counts: Counter[str], rejected: _Rejected
) -> None:
    for (number, record), stored in zip(
        batch, store.insert([record for _, record in batch], received=True), strict=True
    ):
        if stored.inserted:
            counts["decisions" if isinstance(record, Decision) else "feedback"] += 1
            counts["orphans"] += stored.orphan
        elif stored.record == record:
            counts["known"] += 1
        else:
            what = "decision" if isinstance(record, Decision) else "feedback"
            _reject(number, f"the log has another {what} of this id, which stays as it is", counts, rejected)


@command("data.dsjson")
def main(arguments: Sequence[str]) -> int:
    """Run the command: counts as JSON on standard output, or on standard error where the lines go there."""
    options = _parse(arguments)
    keep_private(Settings().home)
    store = Store.open(options.store or Settings().store_url, make=options.command == "import")
    try:
        counts = _export(store, options) if options.command == "export" else _import(store, options)
    except OSError as error:
        raise DataError(str(error)) from error
    finally:
        store.close()
    print(to_json(counts).decode(), file=sys.stderr if str(options.path) == "-" else sys.stdout)
    return DONE


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argument_parser("data.dsjson", "Exchange decisions with Vowpal Wabbit.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("export", "write the log as DSJSON"), ("import", "read DSJSON into the log")):
        subparser = commands.add_parser(name, help=what)
        subparser.add_argument("path", type=Path, help="file of DSJSON lines; - is standard input or output")
        subparser.add_argument("--store", help="URL of the log; default: RAYCOMMEND_STORE, or that of the home")
        subparser.add_argument("--loop", default=PERSONALIZER, help="which learning loop; default: %(default)s")
        if name == "export":
            subparser.add_argument(
                "--reward", type=Path, help="JSON file of a reward specification; default: the loop's"
            )
        else:
            subparser.add_argument("--time", type=_time, help="when it was, of lines that do not say so; ISO 8601, UTC")
    return parser.parse_args(arguments)


def _export(store: Store, options: argparse.Namespace) -> Counter[str]:
    spec, counts = None, Counter({"exported": 0, "pending": 0, "empty": 0})
    if options.reward is not None:
        try:
            spec = RewardSpec.model_validate_json(options.reward.read_bytes())
        except ValidationError as error:
            raise DataError(f"{options.reward} is no reward specification: {first_fault(error)}") from error
    lines = export_lines(store, options.loop, spec, counts)
    if str(options.path) == "-":
        _write(lines, sys.stdout)
    else:
        with options.path.open("w", encoding="utf-8") as file:
            _write(lines, file)
    return counts


def _write(lines: Iterable[str], file: TextIO) -> None:
    file.writelines(f"{line}\n" for line in lines)


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _import(store: Store, options: argparse.Namespace) -> Counter[str]:
    if str(options.path) == "-":
        return _load(store, cast(io.BufferedReader, sys.stdin.buffer), options)
    with options.path.open("rb") as file:
        return _load(store, file, options)


def _load(store: Store, file: io.BufferedReader, options: argparse.Namespace) -> Counter[str]:
    try:
        counts, rejected = import_lines(store, read_lines(file), options.loop, options.time)
    except DataError as error:
        raise DataError(f"{options.path}: {error}; the lines before are in the log") from error
    if not any(counts[name] for name in ("decisions", "feedback", "known")):
        why = "it has no line of DSJSON"
        if rejected:
            why = f"rejected lines: {counts['rejected']:,}, the first, line {rejected[0][0]}: {rejected[0][1]}"
        raise DataError(f"nothing of {options.path} could be imported: {why}")
    for number, reason in rejected:
        print(f"line {number}: {reason}", file=sys.stderr)
    if more := counts["rejected"] - len(rejected):
        print(f"and {more:,} more", file=sys.stderr)
    return counts


if __name__ == "__main__":
    sys.exit(main())
