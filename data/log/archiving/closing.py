"""Which days of the log are closed: nothing of them can change any more, and whoever follows the log has read them.

A day is one of UTC. It is closed when the longest wait window of a decision of it is over, under the objectives of all
loops, and every fold that runs has learned it. What the folds wait for they have said in the log where they began.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

import sqlalchemy as sa

from data.attribution.join import GRACE
from data.errors import DataError
from data.fields import MAX_DAYS
from data.log.store import Store
from data.log.tables import DECISIONS, FEEDBACK, VERSIONS, Log
from data.log.unreadable import read
from data.reward import RewardSpec
from data.schema import Version

STALLED = timedelta(days=7)
"""A fold that has rows to read and has made no step for so long does not run any more: it is not waited for."""


@dataclass(frozen=True)
class Closed:
    """Until when days are closed, and what that depended on."""

    until: datetime
    """Midnight, UTC: the days before it are closed."""
    wait_s: float
    """The longest wait window."""
    waits_for: tuple[str, ...]
    """Folds that have not read up to now what would be closed otherwise."""
    not_waited_for: tuple[str, ...]
    """Folds that have not either, and do not run any more."""


def closed_until(store: Store, wait_s: float | None = None, keep_days: int = 0) -> Closed:
    """Return until when the days of a log are closed.

    Args:
        store: the log.
        wait_s: the longest wait window; None: that of the folds, or where there is none that of a specification that
            says nothing else.
        keep_days: closed days that count as open.

    Raises:
        DataError: the window is negative or no number, or the days are negative or beyond a century.
    """
    if wait_s is not None and not wait_s >= 0:  # what is open would count as closed
        raise DataError(f"the longest wait window must be a number of seconds from 0, got {wait_s}")
    if not 0 <= keep_days <= MAX_DAYS:
        raise DataError(f"the closed days that stay in the log must be from 0 to {MAX_DAYS:,}, got {keep_days}")
    with store.reading() as connection:
        begun = read(
            connection, VERSIONS, VERSIONS.select().where(VERSIONS.table.c.number == 0).order_by(VERSIONS.table.c.seq)
        )
        newest = {(version.loop, version.objective): version for _, version in begun}.values()
        wait = max(map(wait_of, newest), default=RewardSpec().wait_s) if wait_s is None else wait_s
        now = store.now()
        until = _midnight(now - timedelta(seconds=min(wait, 1e9)) - GRACE - timedelta(days=keep_days))
        waits, ignored = list[str](), list[str]()
        for first in newest:
            last = _last_step(connection, first)
            if (unread := _first_unread(connection, last)) is None or unread >= until:
                continue
            name = f"{first.loop}/{first.objective} ({first.fold_id})"
            if now - (last.received_at or last.as_of) > STALLED:
                ignored.append(name)
                continue
            waits.append(name)
            until = _midnight(unread)
    return Closed(until, wait, tuple(waits), tuple(ignored))


def wait_of(begun: Version) -> float:
    """Return the wait window of a fold, by its first step."""
    spec = (begun.begins or {}).get("spec")
    reward = spec.get("reward") if isinstance(spec, dict) else None
    return RewardSpec.model_validate(reward or {}).wait_s


def cut(connection: sa.Connection, log: Log[Any], until: datetime, now: datetime) -> int:
    """Return the last position of a table before the first row of an open day.

    A row counts by when it was received, a decision by when it was made. One that says to be of the future counts for
    nothing: a clock that has jumped must not keep the log from being archived for ever.
    """
    columns = log.table.c
    at = columns[time_column(log)]
    first_open = connection.execute(
        sa.select(columns.seq).where(at >= until, at <= now).order_by(columns.seq).limit(1)
    ).scalar()
    if first_open is not None:
        return int(first_open) - 1
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(columns.seq), 0))).scalar_one())


def time_column(log: Log[Any]) -> str:
    """Return the name of the column that says which day a row is of."""
    return "time" if log is DECISIONS else "received_at"


def _last_step(connection: sa.Connection, first: Version) -> Version:
    columns = VERSIONS.table.c
    query = VERSIONS.select().where(columns.fold_id == first.fold_id).order_by(columns.number.desc()).limit(1)
    steps: Sequence[tuple[int, Version]] = read(connection, VERSIONS, query)
    return steps[0][1] if steps else first


def _first_unread(connection: sa.Connection, step: Version) -> datetime | None:
    """Return the time of the first row that a fold has not read; None: it has read all."""
    times = list[datetime]()
    for log, read_until in ((DECISIONS, step.decision_seq), (FEEDBACK, step.feedback_seq)):
        columns = log.table.c
        query = sa.select(columns[time_column(log)]).where(columns.loop == step.loop, columns.seq > read_until)
        times += connection.execute(query.order_by(columns.seq).limit(1)).scalars()
    return min(times, default=None)


def _midnight(at: datetime) -> datetime:
    return datetime.combine(at.date(), time(), at.tzinfo)
