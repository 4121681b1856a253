"""What followers read of the log as it grows: positions and times of what is new, whole rows only where needed."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from data.fields import EPOCH, MICROSECOND
from data.log.statements import chunks, stored_bytes, stored_integer
from data.log.store import Store
from data.log.tables import DECISIONS, FEEDBACK
from data.log.unreadable import Fault, read
from data.schema import Decision, Feedback


class SeenDecision(NamedTuple):
    """What is known of a decision before it is due."""

    seq: int
    time_us: int
    """When it was made, in microseconds since 1970 UTC."""
    heard: bool
    """Some feedback about it has been read."""
    decision_id: str = ""
    user_id: str | None = None
    slate: str = "[]"
    """As JSON. This and the two before are read only for histories."""


class SeenFeedback(NamedTuple):
    """What is known of a report before its decision is judged."""

    seq: int
    received_us: int
    decision_seq: int | None
    """Position of its decision; None: the log has none of this loop."""
    decision_id: str = ""
    item_id: str | None = None
    kind: str = ""
    value: float = 0.0
    """This and the three before are read only for histories."""


def _rows(store: Store, query: sa.Select[Any]) -> list[list[Any]]:
    """Read the rows of a query whose texts are selected as `stored_bytes`."""
    with store.reading() as connection:
        return [
            [value.decode(errors="replace") if isinstance(value, bytes) else value for value in row]
            for row in connection.execute(query)
        ]


def new_decisions(
    store: Store, loop: str, after: int, limit: int | None, *, until: int | None, heard_until: int, with_slate: bool
) -> list[SeenDecision]:
    """Return what is new in the log of decisions of a loop, in log order, `limit` at most.

    Args:
        store: the log.
        loop: the learning loop.
        after: a log position.
        limit: the most that are returned; None: all.
        until: the last position that is looked at; None: the newest.
        heard_until: the last position of feedback that counts as heard.
        with_slate: read ids and slates too.
    """
    d, f = DECISIONS.table.c, FEEDBACK.table.c
    # The seq is added to so that SQLite looks up the decision's few reports, not the loop's many.
    about = sa.and_(f.decision_id == d.decision_id, f.loop.concat("") == d.loop, f.seq + 0 <= heard_until)
    columns: list[sa.ColumnElement[Any]] = [d.seq, stored_integer(d.time), sa.exists(sa.select(1).where(about))]
    columns += [stored_bytes(d.decision_id), stored_bytes(d.user_id), stored_bytes(d.slate)] if with_slate else []
    query = sa.select(*columns).where(*DECISIONS.between(after, until, loop)).order_by(d.seq).limit(limit)
    return [SeenDecision(*row) for row in _rows(store, query)]


def new_feedback(
    store: Store, loop: str, after: int, limit: int | None, *, until: int | None, with_content: bool
) -> list[SeenFeedback]:
    """Return what is new in the log of feedback of a loop, with the position of each report's decision.

    Args:
        store: the log.
        loop: the learning loop.
        after: a log position.
        limit: the most that are returned; None: all.
        until: the last position that is looked at; None: the newest.
        with_content: read what it says too.
    """
    d, f = DECISIONS.table.c, FEEDBACK.table.c
    about = sa.and_(d.decision_id == f.decision_id, d.loop.concat("") == f.loop)
    columns: list[sa.ColumnElement[Any]] = [f.seq, stored_integer(f.received_at), d.seq]
    columns += (
        [stored_bytes(f.decision_id), stored_bytes(f.item_id), stored_bytes(f.kind), f.value] if with_content else []
    )
    query = sa.select(*columns).select_from(FEEDBACK.table.outerjoin(DECISIONS.table, about))
    query = query.where(*FEEDBACK.between(after, until, loop)).order_by(f.seq).limit(limit)
    return [SeenFeedback(*row) for row in _rows(store, query)]


def last_feedback(store: Store, loop: str) -> int:
    """Return the log position of a loop's last feedback, 0 if there is none."""
    columns = FEEDBACK.table.c
    with store.reading() as connection:
        query = sa.select(columns.seq).where(columns.loop == loop).order_by(columns.seq.desc()).limit(1)
        return int(connection.execute(query).scalar() or 0)


def routed_decisions(
    store: Store, after: int, node_id: str | None = None, limit: int | None = None
) -> list[tuple[int, Decision]]:
    """Return the decisions after a log position that are for an output node, or for any, with their positions."""
    columns = DECISIONS.table.c
    of_node = columns.node_id.is_not(None) if node_id is None else columns.node_id == node_id
    query = DECISIONS.select().where(columns.seq > after, of_node).order_by(columns.seq).limit(limit)
    with store.reading() as connection:
        return read(connection, DECISIONS, query)


def policy_versions(store: Store, since: datetime, until: datetime) -> list[tuple[int, str]]:
    """Return the log positions and policy versions of the decisions made from a time to another."""
    columns = DECISIONS.table.c
    query = sa.select(columns.seq, columns.policy_version).where(columns.time >= since, columns.time < until)
    with store.reading() as connection:
        return [(seq, version) for seq, version in connection.execute(query)]


def decision_ids(store: Store, seqs: Collection[int]) -> dict[int, str]:
    """Return the ids of the decisions at log positions; those that are gone are left out."""
    columns, ids = DECISIONS.table.c, dict[int, str]()
    with store.reading() as connection:
        for chunk in chunks(sorted(seqs)):
            query = sa.select(columns.seq, columns.decision_id).where(columns.seq.in_(chunk))
            ids |= {seq: decision_id for seq, decision_id in connection.execute(query)}
    return ids


def whole_decisions(
    store: Store, seqs: Collection[int], without: Collection[str] = ()
) -> tuple[list[tuple[int, Decision]], list[Fault]]:
    """Return the decisions at log positions, in their order, without some fields; those that are gone are left out."""
    decisions, faults = list[tuple[int, Decision]](), list[Fault]()
    with store.reading() as connection:
        for chunk in chunks(sorted(seqs)):
            query = DECISIONS.select(without=without).where(DECISIONS.table.c.seq.in_(chunk))
            decisions += read(connection, DECISIONS, query.order_by(DECISIONS.table.c.seq), faults)
    return decisions, faults


def whole_feedback(
    store: Store, loop: str, decision_ids: Collection[str], until: int
) -> tuple[dict[str, list[tuple[int, Feedback]]], list[Fault]]:
    """Return the feedback of decisions up to a log position, by decision and in log order, with its positions."""
    columns, faults = FEEDBACK.table.c, list[Fault]()
    grouped: dict[str, list[tuple[int, Feedback]]] = {}
    with store.reading() as connection:
        for chunk in chunks(decision_ids):
            query = FEEDBACK.select().where(columns.decision_id.in_(chunk), columns.seq + 0 <= until)
            for seq, report in read(connection, FEEDBACK, query.order_by(columns.seq), faults):
                if not isinstance(report.value, int | float) or not math.isfinite(report.value):
                    faults.append(
                        Fault("feedback", seq, f"its value must be a finite number, got {report.value!r:.100}")
                    )
                elif report.loop == loop:
                    grouped.setdefault(report.decision_id, []).append((seq, report))
    return grouped, faults


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a reader of a loop's log is behind."""

    decisions: int
    feedback: int
    seconds: float
    """Age of the oldest row that was not read; 0 where all were."""


def lag(store: Store, loop: str, decision_seq: int, feedback_seq: int) -> Lag:
    """Return how far one who has read up to two log positions is behind.

    Raises:
        StoreUnavailable: the log does not answer.
    """
    counts, oldest = list[int](), list[int]()
    with store.reading() as connection:
        for log, time, seq in ((DECISIONS, "time", decision_seq), (FEEDBACK, "received_at", feedback_seq)):
            columns = log.table.c
            new = (columns.loop == loop, columns.seq > seq)
            counts.append(connection.execute(sa.select(sa.func.count()).where(*new)).scalar_one())
            first = sa.select(stored_integer(columns[time])).where(*new).order_by(columns.seq).limit(1)
            oldest += [at for at in [connection.execute(first).scalar()] if at is not None]
    since = (store.now() - EPOCH) // MICROSECOND - min(oldest) if oldest else 0
    return Lag(counts[0], counts[1], max(since, 0) / 1e6)


def to_time(us: int) -> datetime:
    """Return microseconds since 1970 UTC as a time, the first or last there is where they are beyond all."""
    earliest, latest = -62_135_596_800_000_000, 253_402_300_799_999_999
    return EPOCH + timedelta(microseconds=max(earliest, min(us, latest)))
