"""`python -m rl.drift [--since TIME]`: whether anything has changed in what the service logs.

Watched are the reward (is it predicted worse than before?), what decisions alike earn (do they earn something less
often?), the propensities (are items shown as often as was logged?) and the fields of the context (are their values as
before?). The report is one JSON object; a drift is no error.

Where nothing changes there is ever a false alarm with probability `alpha` at most, however long the log and however
often one looks: contexts are then drawn alike, whatever the policy does, predictions do not get worse, and what is
shown in a context does not earn something less often.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data.attribution.join import GRACE, Outcome
from data.command import DONE, argument_parser, command
from data.dsjson import find_reward_spec
from data.errors import DataError, first_fault
from data.log.store import Store
from data.log.unreadable import Fault
from data.private import keep_private
from data.settings import Settings
from rl.config import read_toml
from rl.evaluation.drift.report import DriftReport as DriftReport
from rl.evaluation.drift.report import DriftSpec as DriftSpec
from rl.evaluation.drift.report import StreamReport
from rl.evaluation.drift.streams import Streams
from rl.experience.events import logged_outcomes

_ROWS = 5_000
_UNREAD = ("candidates", "slate", "propensities", "scores", "probabilities", "rules", "slots", "request")


def find_drift(
    store: Store, spec: DriftSpec | None = None, *, since: datetime | None = None, until: datetime | None = None
) -> DriftReport:
    """Return whether anything has changed in a loop.

    Args:
        store: the log.
        spec: what is watched; None: the defaults.
        since: decisions from then on are watched, and compared with what was before; None: all are.
        until: later decisions are left out; None, or later than that: the last whose wait windows have closed.

    Raises:
        StoreUnavailable: the log does not answer.
    """
    spec = spec or DriftSpec()
    closed = store.now() - timedelta(seconds=spec.reward.wait_s) - GRACE
    until = closed if until is None else min(until, closed)
    after = 0 if since is None else max(_position_before(store, spec.loop, since) - spec.reference, 0)
    faults, reference, streams, watched = list[Fault](), list[Outcome](), None, 0
    try:
        for some in logged_outcomes(store, spec.reward, until, faults, _ROWS, after, spec.loop):
            due = [outcome for outcome in some if outcome.due and outcome.decision.mode != "apprentice"]
            if streams is None and since is not None:
                reference += [outcome for outcome in due if outcome.decision.time < since]
                due = [outcome for outcome in due if outcome.decision.time >= since]
            if streams is None and due:
                streams = Streams(spec, reference, due)
            if streams is not None:
                streams.watch(due)
                watched += len(due)
    except DataError:  # there is no decision at all
        pass
    found = {} if streams is None else streams.report()
    return DriftReport(
        drifted=any(one.drifted for one in found.values()),
        verdict=_put_in_words(found, watched),
        loop=spec.loop,
        since=since,
        until=until,
        reference=len(reference),
        decisions=watched,
        left_out=len(faults),
        streams=found,
    )


def _position_before(store: Store, loop: str, time: datetime) -> int:
    """Return the log position of the last decision before a time, by halves: the log is in order of time, or about."""
    low, high = 0, store.last_decision()
    while low < high:
        middle = (low + high + 1) // 2
        at = store.decisions(middle - 1, 1, loop=loop, without=_UNREAD)
        if at and at[0][1].time < time:
            low = max(middle, at[0][0])
        else:
            high = middle - 1
    return low


def _put_in_words(streams: Mapping[str, StreamReport], watched: int) -> str:
    if not watched:
        return "no decision to watch: none was made since whose wait window has closed"
    drifted = [f"{name} since about {one.began:%Y-%m-%d %H:%M}" for name, one in streams.items() if one.began]
    if drifted:
        return f"changed: {', '.join(drifted)}"
    return f"nothing has changed, as far as {watched:,} decisions can tell"


def read_spec(path: Path | None) -> DriftSpec:
    """Return what is asked, by the file that was named, or the defaults.

    Raises:
        DataError: a field is unknown or out of range.
    """
    fields: Mapping[str, Any] = read_toml(path) if path else {}
    try:
        return DriftSpec.model_validate(fields)
    except ValidationError as error:
        raise DataError(f"{path}: {first_fault(error)}") from error


def _time(text: str) -> datetime:
    """Parse a time; argparse turns the ValueError of another text into its message."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} has no offset; write it like 2026-10-01T00:00:00Z")
    return time.astimezone(UTC)


@command("rl.drift")
def main(arguments: Sequence[str]) -> int:
    """Run the command: one JSON object on standard output."""
    parser = argument_parser("rl.drift", __doc__)
    parser.add_argument("--since", type=_time, help="decisions before are what later ones are compared with")
    parser.add_argument("--until", type=_time, help="later decisions are left out")
    parser.add_argument("--spec", type=Path, metavar="FILE", help="TOML file of what is watched (see rl/README.md)")
    options, settings = parser.parse_args(arguments), Settings()
    keep_private(settings.home)
    store = Store.open(settings.store_url, make=False)
    try:
        spec = read_spec(options.spec)
        if "reward" not in spec.model_fields_set:
            spec = spec.model_copy(update={"reward": find_reward_spec(store, spec.loop, "default")})
        report = find_drift(store, spec, since=options.since, until=options.until)
    finally:
        store.close()
    print(report.model_dump_json(), flush=True)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
