"""What is kept of a user: features, history, and which items they have seen and bought."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import JsonValue
from pydantic_core import from_json

from data.feature_objects import FeatureObject
from data.fields import Id, UtcTime
from data.log.archived.reading import Archived, from_both, merge
from data.log.statements import chunks, insert_or_update, one_of
from data.log.store import Store
from data.log.tables import (
    DECISIONS,
    EVENTS,
    FEEDBACK,
    USERS,
    Log,
    R,
)
from data.log.unreadable import read
from data.schema import (
    ACTIVATE,
    SHADOW,
    Decision,
    Event,
    Feedback,
    Record,
)

PURCHASE = "purchase"
"""The kind of feedback that says that an item was bought."""
_LATEST = 1_000
"""Decisions and events of a user that `past` looks at, at most."""
_AFTER_ALL = 10**17
"""A log position that none is after."""


class User(Record):
    """What a client says of a user."""

    user_id: Id
    features: FeatureObject = {}  # noqa: RUF012 - a field of a frozen record
    updated_at: UtcTime


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a user's history: a decision with its feedback, or an event."""

    time: datetime
    """When the decision was made, or the event received."""
    record: Decision | Event
    feedback: Sequence[Feedback] = ()


@dataclass(frozen=True, slots=True)
class Past:
    """Items that a user has seen and bought, as far as the log tells."""

    seen: frozenset[str] = frozenset()
    """Shown to them, with feedback of any kind about it: who clicks or buys has seen."""
    bought: frozenset[str] = frozenset()
    """With feedback of the kind purchase, or an event of theirs that took none back."""


NOTHING = Past()


def upsert_user(store: Store, user_id: str, features: Mapping[str, JsonValue]) -> User:
    """Keep a user's features, in place of those that were kept before.

    Raises:
        StoreError: nothing was changed.
    """
    with store.writing() as connection:
        user = User(user_id=user_id, features=dict(features), updated_at=store.now())
        connection.execute(insert_or_update(USERS), user.model_dump())
    return user


def get_user(store: Store, user_id: str) -> User | None:
    """Return a user's features; None if none were ever given, whatever the history."""
    with store.reading() as connection:
        row = connection.execute(sa.select(USERS).where(USERS.c.user_id == user_id)).one_or_none()
    return None if row is None else User.model_construct(**row._mapping)


@from_both
def history(
    store: Store, user_id: str, limit: int, before: tuple[int, int] | None = None
) -> tuple[list[Entry], tuple[int, int] | None]:
    """Return a page of what the log has of a user, newest first.

    Args:
        store: the log.
        user_id: the user.
        limit: of the page, at least 1.
        before: where the page before it ended; None: the newest.

    Returns:
        The page, and where it ended: the log positions of its oldest decision and event. None: there is no more.
    """
    newest = before or (_AFTER_ALL, _AFTER_ALL)
    with store.reading() as connection:
        archived = store.archived(connection)
        decisions = _of_user(connection, archived, DECISIONS, user_id, newest[0], limit + 1)
        events = _of_user(connection, archived, EVENTS, user_id, newest[1], limit + 1)
    feedback = store.feedback_of([decision.decision_id for _, decision in decisions])
    entries = [(Entry(d.time, d, feedback.get(d.decision_id, ())), seq, 0) for seq, d in decisions]
    entries += [(Entry(event.received_at or store.now(), event), seq, 1) for seq, event in events]
    entries.sort(key=lambda entry: entry[0].time, reverse=True)  # stable: of one kind the newer stays first
    page = entries[:limit]
    if len(entries) == len(page):
        return [entry for entry, _, _ in page], None
    # Of a kind that the page has none of, the next page begins where this one did.
    ends = [min((seq for _, seq, kind in page if kind == which), default=newest[which]) for which in (0, 1)]
    return [entry for entry, _, _ in page], (ends[0], ends[1])


def _of_user(
    connection: sa.Connection, archived: Archived, log: Log[R], user_id: str, before: int, limit: int
) -> list[tuple[int, R]]:
    columns = log.table.c
    shown = [columns.loop != SHADOW] if log is DECISIONS else []
    query = log.select().where(columns.user_id == user_id, columns.seq < before, *shown).order_by(columns.seq.desc())
    logged = read(connection, log, query.limit(limit))
    return merge(archived.of_user(log, user_id, before, limit), logged)[::-1][:limit]


@from_both
def past(store: Store, user_id: str, seen_since: datetime, bought_since: datetime) -> Past:
    """Return what a user has seen and bought since; of their 1,000 latest decisions and events at most.

    Raises:
        StoreUnavailable: the log does not answer now.
    """
    decisions, feedback, events = DECISIONS.table.c, FEEDBACK.table.c, EVENTS.table.c
    recent = (
        sa.select(decisions.decision_id, sa.type_coerce(decisions.slate, sa.Text).label("slate"), decisions.time)
        .where(decisions.user_id == user_id, decisions.time >= min(seen_since, bought_since), decisions.loop != SHADOW)
        .order_by(decisions.seq.desc())
        .limit(_LATEST)
        .subquery()
    )
    reports = (
        sa.select(recent.c.slate, recent.c.time, feedback.item_id, feedback.kind)
        .join(FEEDBACK.table, feedback.decision_id == recent.c.decision_id)
        .where(feedback.kind != ACTIVATE)
    )
    event_time = sa.func.coalesce(events.time, events.received_at)
    purchases = (
        sa.select(events.item_id, events.outcome)
        .where(events.user_id == user_id, events.item_id.is_not(None), event_time >= bought_since)
        .order_by(events.seq.desc())
        .limit(_LATEST)
    )
    with store.reading() as connection:
        archived = store.archived(connection)
        reported = [about for row in connection.execute(reports) if (about := _about(row)) is not None]
        reported += _archived_reports(connection, archived, user_id, min(seen_since, bought_since))
        bought = {row.item_id for row in connection.execute(purchases) if row.outcome is None or row.outcome > 0}
        bought |= {
            event.item_id
            for _, event in archived.of_user(EVENTS, user_id, None, _LATEST)
            if (event.time or event.received_at or bought_since) >= bought_since
            and (event.outcome is None or event.outcome > 0)
        }
    bought.update(item for item, kind, time in reported if kind == PURCHASE and time >= bought_since)
    return Past(
        frozenset(item for item, _, time in reported if item and time >= seen_since), frozenset(bought - {None})
    )


def _about(row: Any) -> tuple[str | None, str, datetime] | None:
    """Return the item that a report is about (none given: the first slot's; None: it was not shown), kind and time.

    None of all: the decision's slate cannot be read back.
    """
    try:
        slate = from_json(row.slate)
    except ValueError:
        return None
    return _of_slate(slate, row.item_id), row.kind, row.time


def _of_slate(slate: Sequence[str], item_id: str | None) -> str | None:
    item = item_id if item_id is not None else (slate[0] if slate else None)
    return item if item in slate else None


def _archived_reports(
    connection: sa.Connection, archived: Archived, user_id: str, since: datetime
) -> list[tuple[str | None, str, datetime]]:
    """Return the same as `_about` of all reports about a user's archived decisions since a time."""
    decisions = [
        (seq, decision)
        for seq, decision in archived.of_user(DECISIONS, user_id, None, _LATEST)
        if decision.time >= since
    ]
    if not decisions:
        return []
    about = archived.about([seq for seq, _ in decisions], None, ["decision_id", "item_id", "kind"])
    reports = list(zip(*(about[name].to_pylist() for name in ("decision_id", "item_id", "kind")), strict=True))
    columns = FEEDBACK.table.c
    for chunk in chunks([decision.decision_id for _, decision in decisions]):
        query = sa.select(columns.decision_id, columns.item_id, columns.kind)
        reports += connection.execute(query.where(one_of(connection, columns.decision_id, chunk))).all()
    known = {decision.decision_id: decision for _, decision in decisions}
    return [
        (_of_slate(known[decision_id].slate, item_id), kind, known[decision_id].time)
        for decision_id, item_id, kind in reports
        if kind != ACTIVATE
    ]
