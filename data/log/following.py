"""What followers read of the log as it grows: positions and times of what is new, whole rows only where needed.

Days that lie in the archive are read from there, in the same order of positions: what a follower comes to does not
depend on where a row is.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from data.fields import from_us, to_us
from data.log.archived.columns import to_records
from data.log.archived.following import archived_decisions, archived_feedback, positions_about
from data.log.archived.parts import archived_after, select_parts
from data.log.archived.reading import from_both, merge
from data.log.statements import chunks, one_of, read_stored, stored_bytes, stored_integer
from data.log.store import Store
from data.log.tables import DECISIONS, FEEDBACK, PARTS
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


@from_both
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
    with store.reading() as connection:
        archive, archived = store.archived(connection), list[SeenDecision]()
        if archive.reaches(DECISIONS, after):
            rows = archived_decisions(connection, archive, loop, after, limit, until, heard_until, with_slate)
            archived = [SeenDecision(*row) for row in rows]
        if limit is not None and len(archived) == limit:
            until = archived[-1].seq  # of the log only what stands between
        d, f = DECISIONS.table.c, FEEDBACK.table.c
        # The seq is added to so that SQLite looks up the decision's few reports, not the loop's many; and one report is
        # looked for, as PostgreSQL would read all of the log into a table to ask whether there are any.
        about = sa.and_(f.decision_id == d.decision_id, f.loop.concat("") == d.loop, f.seq + 0 <= heard_until)
        heard = sa.select(1).where(about).limit(1).scalar_subquery().is_not(None)
        columns: list[sa.ColumnElement[Any]] = [d.seq, stored_integer(d.time), heard]
        columns += [stored_bytes(d.decision_id), stored_bytes(d.user_id), stored_bytes(d.slate)] if with_slate else []
        query = sa.select(*columns).where(*DECISIONS.between(after, until, loop)).order_by(d.seq).limit(limit)
        logged = [SeenDecision(*row) for row in read_stored(connection, query)]
    return _in_order(logged, archived)[:limit]


@from_both
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
    content = ["decision_id", "item_id", "kind", "value"] if with_content else []
    with store.reading() as connection:
        archive, archived = store.archived(connection), list[SeenFeedback]()
        if archive.reaches(FEEDBACK, after):
            rows = archived_feedback(archive, loop, after, limit, until, content)
            archived = [SeenFeedback(*row) for row in rows]
        if limit is not None and len(archived) == limit:
            until = archived[-1].seq
        d, f = DECISIONS.table.c, FEEDBACK.table.c
        about = sa.and_(d.decision_id == f.decision_id, d.loop.concat("") == f.loop)
        decision = sa.select(d.seq).where(about).scalar_subquery()  # not a join: PostgreSQL may read all decisions
        selected: list[sa.ColumnElement[Any]] = [f.seq, stored_integer(f.received_at), decision]
        selected += (
            [stored_bytes(f.decision_id), stored_bytes(f.item_id), stored_bytes(f.kind), f.value]
            if with_content
            else []
        )
        query = sa.select(*selected).where(*FEEDBACK.between(after, until, loop)).order_by(f.seq).limit(limit)
        logged = [SeenFeedback(*row) for row in read_stored(connection, query)]
        lacking = [report.seq for report in logged if report.decision_seq is None]
        if lacking and (found := positions_about(connection, archive, loop, lacking)):
            logged = [r._replace(decision_seq=found[r.seq]) if r.seq in found else r for r in logged]
    return _in_order(logged, archived)[:limit]


S = TypeVar("S", SeenDecision, SeenFeedback)


def _in_order(logged: list[S], archived: list[S]) -> list[S]:
    """Return rows of both in the order of their positions, each position once."""
    if not archived:
        return logged
    return [row for _, row in merge(((row.seq, row) for row in archived), ((row.seq, row) for row in logged))]


@from_both
def last_feedback(store: Store, loop: str) -> int:
    """Return the log position of a loop's last feedback, 0 if there is none."""
    columns = FEEDBACK.table.c
    with store.reading() as connection:
        query = sa.select(columns.seq).where(columns.loop == loop).order_by(columns.seq.desc()).limit(1)
        last = int(connection.execute(query).scalar() or 0)
        of_loop = store.archived(connection).last(FEEDBACK, None, (), pc.field("loop") == loop)
        archived: list[int] = of_loop["seq"].to_pylist()
        return max([last, *archived])


@from_both
def routed_decisions(
    store: Store, after: int, node_id: str | None = None, limit: int | None = None
) -> list[tuple[int, Decision]]:
    """Return the decisions after a log position that are for an output node, or for any, with their positions."""
    columns, archived_node = DECISIONS.table.c, pc.field("node_id")
    of_node = columns.node_id.is_not(None) if node_id is None else columns.node_id == node_id
    where = archived_node.is_valid() if node_id is None else archived_node == node_id
    query = DECISIONS.select().where(columns.seq > after, of_node).order_by(columns.seq).limit(limit)
    with store.reading() as connection:
        archived = store.archived(connection)
        table = archived.between(DECISIONS, after, None, limit, archived.columns(DECISIONS), where)
        logged = read(connection, DECISIONS, query)
    return merge(to_records(DECISIONS, table), logged)[:limit]


@from_both
def policy_versions(store: Store, since: datetime, until: datetime) -> list[tuple[int, str]]:
    """Return the log positions and policy versions of the decisions made from a time to another."""
    columns = DECISIONS.table.c
    query = sa.select(columns.seq, columns.policy_version).where(columns.time >= since, columns.time < until)
    with store.reading() as connection:
        rows, archived = {seq: version for seq, version in connection.execute(query)}, store.archived(connection)
        in_time = (PARTS.c.time_first < until, PARTS.c.time_last >= since)
        at, of = pc.field("time"), pa.timestamp("us", tz="UTC")
        for part in select_parts(connection, "decisions", *in_time):
            table = archived.between(DECISIONS, part.first - 1, part.last, None, ["time", "policy_version"])
            table = table.filter((at >= pa.scalar(since, of)) & (at < pa.scalar(until, of)))
            rows |= dict(zip(table["seq"].to_pylist(), table["policy_version"].to_pylist(), strict=True))
    return sorted(rows.items())


@from_both
def decision_ids(store: Store, seqs: Collection[int]) -> dict[int, str]:
    """Return the ids of the decisions at log positions; those that are gone are left out."""
    columns, ids = DECISIONS.table.c, dict[int, str]()
    with store.reading() as connection:
        for chunk in chunks(sorted(seqs)):
            query = sa.select(columns.seq, columns.decision_id).where(one_of(connection, columns.seq, chunk))
            ids |= {seq: decision_id for seq, decision_id in connection.execute(query)}
        if missing := [seq for seq in seqs if seq not in ids]:
            table = store.archived(connection).at(DECISIONS, missing, ["decision_id"])
            ids |= dict(zip(table["seq"].to_pylist(), table["decision_id"].to_pylist(), strict=True))
    return ids


@from_both
def whole_decisions(
    store: Store, seqs: Collection[int], without: Collection[str] = ()
) -> tuple[list[tuple[int, Decision]], list[Fault]]:
    """Return the decisions at log positions, in their order, without some fields; those that are gone are left out."""
    decisions, faults = list[tuple[int, Decision]](), list[Fault]()
    with store.reading() as connection:
        for chunk in chunks(sorted(seqs)):
            query = DECISIONS.select(without=without).where(one_of(connection, DECISIONS.table.c.seq, chunk))
            decisions += read(connection, DECISIONS, query.order_by(DECISIONS.table.c.seq), faults)
        if missing := {*seqs}.difference(seq for seq, _ in decisions):
            archived = store.archived(connection)
            table = archived.at(DECISIONS, missing, archived.columns(DECISIONS, without))
            if table.num_rows:
                decisions = merge(to_records(DECISIONS, table, faults), decisions)
    return decisions, faults


@from_both
def whole_feedback(
    store: Store, loop: str, decisions: Mapping[str, int], until: int
) -> tuple[dict[str, list[tuple[int, Feedback]]], list[Fault]]:
    """Return the feedback of decisions up to a log position, by decision and in log order, with its positions.

    `decisions` are the positions of the decisions, by id.
    """
    columns, faults = FEEDBACK.table.c, list[Fault]()
    rows = list[tuple[int, Feedback]]()
    with store.reading() as connection:
        for chunk in chunks(decisions):
            query = FEEDBACK.select().where(one_of(connection, columns.decision_id, chunk), columns.seq + 0 <= until)
            rows += read(connection, FEEDBACK, query.order_by(columns.seq), faults)
        archived = store.archived(connection)
        table = archived.about(list(decisions.values()), until, archived.columns(FEEDBACK))
        if table.num_rows:
            rows = merge(to_records(FEEDBACK, table, faults), rows)
    grouped: dict[str, list[tuple[int, Feedback]]] = {}
    for seq, report in rows:
        if not isinstance(report.value, int | float) or not math.isfinite(report.value):
            faults.append(Fault("feedback", seq, f"its value must be a finite number, got {report.value!r:.100}"))
        elif report.loop == loop:
            grouped.setdefault(report.decision_id, []).append((seq, report))
    return grouped, faults


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a reader of a loop's log is behind. Of archived days, parts count whole, with the rows of all loops."""

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
            archived, first_archived = archived_after(connection, log, seq)
            counts.append(connection.execute(sa.select(sa.func.count()).where(*new)).scalar_one() + archived)
            first = sa.select(stored_integer(columns[time])).where(*new).order_by(columns.seq).limit(1)
            oldest += [at for at in (connection.execute(first).scalar(), first_archived) if at is not None]
    since = to_us(store.now()) - min(oldest) if oldest else 0
    return Lag(counts[0], counts[1], max(since, 0) / 1e6)


def to_time(us: int) -> datetime:
    """Return microseconds since 1970 UTC as a time, the first or last there is where they are beyond all."""
    earliest, latest = -62_135_596_800_000_000, 253_402_300_799_999_999
    return from_us(max(earliest, min(us, latest)))
