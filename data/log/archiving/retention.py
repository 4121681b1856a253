"""How long archived days are kept, by kind, and which days that leaves to prove decisions of.

The steps of a fold are kept as long as it runs, and for a time after its end; all else is kept for ever, unless a
number of days is given.
"""

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from data.fields import MAX_DAYS
from data.log.archived import keys
from data.log.archived.parts import Part, select_parts
from data.log.archiving.closing import time_column
from data.log.archiving.files import note_stray, sweep
from data.log.archiving.moving import Yielding
from data.log.archiving.rewriting import forget_names
from data.log.store import Store
from data.log.tables import DECISIONS, EVENTS, FEEDBACK, PARTS, REJECTS, VERSIONS, Log
from data.log.unreadable import read

_AT_ONCE = 1_000


class Retention(BaseModel):
    """Days that rows are kept after the day that they are of; None: for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    decisions: int | None = Field(
        default=None, ge=1, le=MAX_DAYS, description="days that decisions are kept; default: for ever"
    )
    feedback: int | None = Field(
        default=None, ge=1, le=MAX_DAYS, description="days that feedback is kept; default: for ever"
    )
    events: int | None = Field(
        default=None, ge=1, le=MAX_DAYS, description="days that events are kept; default: for ever"
    )
    rejects: int | None = Field(
        default=None, ge=1, le=MAX_DAYS, description="days that rejects are kept; default: for ever"
    )
    old_steps: int | None = Field(
        default=90,
        ge=1,
        le=MAX_DAYS,
        description="days that the steps of a fold are kept after its end, and with them what can be proved of its "
        "decisions; null: for ever",
    )


def expire(store: Store, retention: Retention, closed: datetime) -> Counter[str]:
    """Delete what need not be kept any more; returns the number of rows by table. Who calls holds the lock `archive`.

    Args:
        store: the log.
        retention: how long what is kept.
        closed: until when days are closed: no row of an open one is deleted, however short that is.

    Raises:
        StoreError: the log did not answer; the next call goes on.
        DataError: the archive did not.
    """
    expired, now = Counter[str](), store.now()
    kept: list[tuple[Log[Any], int | None]] = [
        (DECISIONS, retention.decisions),
        (FEEDBACK, retention.feedback),
        (EVENTS, retention.events),
        (REJECTS, retention.rejects),
    ]
    for log, days in kept:
        if days is None:
            continue
        before = min(now - timedelta(days=days), closed).date()
        with store.reading() as connection:
            parts = select_parts(connection, log.table.name, PARTS.c.day < str(before))
        for part in parts:
            _drop(store, log, part)
            expired[log.table.name] += part.rows
        expired[log.table.name] += _delete_left(store, log, before)
    if retention.old_steps is not None:
        ended = _ended(store, now - timedelta(days=retention.old_steps))
        with store.reading() as connection:
            parts = select_parts(connection, VERSIONS.table.name)
        for part in parts:
            if _folds(store, part) <= ended:
                _drop(store, VERSIONS, part)
                expired[VERSIONS.table.name] += part.rows
    return expired


def old_artefacts(store: Store, retention: Retention, now: datetime) -> set[str]:
    """Return the digests of the policies that only old folds had begun with."""
    if retention.old_steps is None:
        return set()
    ended, columns = _ended(store, now - timedelta(days=retention.old_steps)), VERSIONS.table.c
    with store.reading() as connection:
        begun = read(connection, VERSIONS, VERSIONS.select().where(columns.number == 0))
    digests: dict[bool, set[str]] = {True: set(), False: set()}
    for _, version in begun:
        policies = (version.begins or {}).get("policies")
        digests[version.fold_id in ended] |= {*map(str, policies.values())} if isinstance(policies, dict) else set()
    return digests[True] - digests[False]


class Expired(NamedTuple):
    """What the log lacks, as it was not kept any more."""

    last: datetime
    """Of the last row that is gone, of those that folds had learned from or that say their steps: a fold that had begun
    before cannot be made again from its beginning."""
    until: date
    """The last day that rows are gone of."""


def find_expired(store: Store) -> Expired | None:
    """Return what the log lacks of what folds are made again from; None: nothing was ever left out."""
    kinds = [log.table.name for log in (DECISIONS, FEEDBACK, VERSIONS)]
    query = sa.select(sa.func.max(PARTS.c.time_last), sa.func.max(PARTS.c.day))
    with store.reading() as connection:
        last, day = connection.execute(query.where(PARTS.c.kind.in_(kinds), PARTS.c.path.is_(None))).one()
    return Expired(last, date.fromisoformat(day)) if day else None


def _drop(store: Store, log: Log[Any], part: Part) -> None:
    """Delete a part: its names, then it, which its entry tells from then on, then its file."""
    for group in store.parts.groups(part, range(store.parts.footer(part).metadata.num_row_groups), keys.columns(log)):
        for start in range(0, group.num_rows, _AT_ONCE):
            with Yielding(), store.writing() as connection:
                forget_names(connection, log, group[start : start + _AT_ONCE])
    with store.writing() as connection:
        note_stray(connection, part.root, part.path)
        connection.execute(sa.update(PARTS).where(PARTS.c.seq == part.seq).values(path=None, bytes=0))
    sweep(store)


def _delete_left(store: Store, log: Log[Any], before: date) -> int:
    """Delete old rows that the log still has itself."""
    columns, deleted, rows = log.table.c, 0, _AT_ONCE
    until = datetime.combine(before, time(), UTC)
    old = sa.select(columns.seq).where(columns[time_column(log)] < until).order_by(columns.seq).limit(_AT_ONCE)
    while rows == _AT_ONCE:
        with Yielding(), store.writing() as connection:
            rows = connection.execute(sa.delete(log.table).where(columns.seq.in_(old))).rowcount
        deleted += rows
    return deleted


def _ended(store: Store, before: datetime) -> set[str]:
    """Return the folds that were followed by another one and made their last step before a time."""
    columns = VERSIONS.table.c
    last = sa.select(columns.fold_id).group_by(columns.fold_id).having(sa.func.max(columns.received_at) < before)
    with store.reading() as connection:
        begun = read(connection, VERSIONS, VERSIONS.select().where(columns.number == 0).order_by(columns.seq))
        quiet = set(connection.execute(last).scalars())
    newest = {(version.loop, version.objective): version.fold_id for _, version in begun}
    return quiet - {*newest.values()}


def _folds(store: Store, part: Part) -> set[str]:
    groups = store.parts.groups(part, range(store.parts.footer(part).metadata.num_row_groups), ["fold_id"])
    return {fold for group in groups for fold in group["fold_id"].unique().to_pylist()}
