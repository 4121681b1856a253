"""What nodes have sent of late, and what was shown where: from the newest rows of the log alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from data.archive.summary import Reason
from data.log.recent.arrivals import (
    LogSize,
    list_nodes,
    measure_log,
    newest_events,
    newest_feedback,
    newest_rejects,
    newest_slates,
)
from data.log.store import Store
from data.schema import Reject

_ROWS: Final = 2_000
"""Of each kind, the newest that are looked at; of rejects a quarter."""
_WINDOW: Final = timedelta(minutes=5)
_MINUTES: Final = 60
_EXAMPLES: Final = 3


@dataclass(frozen=True)
class Rate:
    """How often something comes."""

    last: datetime | None
    """When it came last; None: not in the log."""
    per_minute: float
    """Over the last five minutes."""

    @classmethod
    def of(cls, newest: Sequence[datetime], now: datetime, limit: int = _ROWS) -> "Rate":
        """Return the rate of what came at these times, the newest first; `limit` at most were asked for."""
        if not newest:
            return cls(None, 0.0)
        within = [time for time in newest if time > now - _WINDOW]
        minutes = _WINDOW / timedelta(minutes=1)
        if len(within) == limit:  # there were more, earlier: these are of a shorter time
            minutes = max((now - within[-1]) / timedelta(minutes=1), 1 / 60)
        return cls(newest[0], len(within) / minutes)


@dataclass(frozen=True)
class InputNode:
    """What a node has sent over HTTP."""

    name: str
    events: Rate
    rejects: Rate
    reasons: tuple[Reason, ...]
    """Of its newest rejects."""
    rejects_read: int


@dataclass(frozen=True)
class OutputNode:
    """Where slates are shown; no name: of requests that named no node."""

    name: str | None
    slates: Rate


@dataclass(frozen=True)
class Activity:
    """All that has come of late."""

    inputs: tuple[InputNode, ...]
    outputs: tuple[OutputNode, ...]
    decisions: Rate
    feedback: Rate
    size: LogSize
    minutes: Mapping[str, Any] | None
    """A chart of events a minute by node; None: there are none."""


def read_activity(store: Store) -> Activity:
    """Read the newest rows. Blocks; a bounded number of rows, however long the log is.

    Raises:
        StoreError: the log does not answer.
    """
    now = store.now()
    arrivals = {name: newest_events(store, name, _ROWS) for name in list_nodes(store)}
    slates = newest_slates(store, _ROWS)
    return Activity(
        inputs=tuple(_input(store, name, times, now) for name, times in arrivals.items()),
        outputs=tuple(_outputs(slates, now)),
        decisions=Rate.of([time for _, time in slates], now),
        feedback=Rate.of(newest_feedback(store, _ROWS), now),
        size=measure_log(store),
        minutes=count_minutes(arrivals, now),
    )


def _input(store: Store, name: str, times: Sequence[datetime], now: datetime) -> InputNode:
    limit = _ROWS // 4
    rejects = newest_rejects(store, name, limit)
    received = [reject.received_at for reject in rejects if reject.received_at is not None]
    return InputNode(name, Rate.of(times, now), Rate.of(received, now, limit), count_reasons(rejects), len(rejects))


def _outputs(slates: Sequence[tuple[str | None, datetime]], now: datetime) -> list[OutputNode]:
    names = Counter(name for name, _ in slates)
    # A limit that all nodes share: where it is reached, each has its part of the shorter time.
    minutes = max((now - slates[-1][1]) / timedelta(minutes=1), 1 / 60) if slates else 1.0
    found = []
    for name in names:
        times = [time for node, time in slates if node == name]
        rate = Rate.of(times, now)
        if len(slates) == _ROWS and slates[-1][1] > now - _WINDOW:
            rate = Rate(rate.last, len(times) / minutes)
        found.append(OutputNode(name, rate))
    return found


def count_reasons(rejects: Sequence[Reject]) -> tuple[Reason, ...]:
    """Return the rules that rejects broke, the most frequent first, with examples, the newest first."""
    counts = Counter((reject.rule, reject.column) for reject in rejects)
    examples = dict[tuple[str, str | None], dict[str | None, None]]()
    for reject in rejects:
        seen = examples.setdefault((reject.rule, reject.column), {})
        if len(seen) < _EXAMPLES:
            seen.setdefault(reject.value)
    return tuple(Reason(rule, column, n, tuple(examples[rule, column])) for (rule, column), n in counts.most_common())


def count_minutes(arrivals: Mapping[str, Sequence[datetime]], now: datetime) -> Mapping[str, Any] | None:
    """Return events a minute of the last hour as a chart, by node; a minute that is not known whole has no value."""
    end = int(now.timestamp()) // 60
    starts = range(end - _MINUTES, end)  # the minute that goes on is no whole one
    series = []
    for name, times in arrivals.items():
        counts = Counter(int(time.timestamp()) // 60 for time in times)
        first = int(times[-1].timestamp()) // 60 if len(times) == _ROWS else -1
        series.append({"label": name, "values": [counts[minute] if minute > first else None for minute in starts]})
    if not any(value for one in series for value in one["values"]):
        return None
    return {"x": [60 * minute for minute in starts], "time": True, "digits": 0, "series": series}


def mask(value: str | None, most: int = 60) -> str | None:
    """Return a value's form without what it says: letters as x, digits as 9; long ones are cut."""
    if value is None:
        return None
    shown = "".join(
        "x" if c.isalpha() else "9" if c.isdigit() else c if c.isascii() and c.isprintable() else "·"
        for c in value[:most]
    )
    return shown + "…" if len(value) > most else shown
