"""The log in bulk, as tables: decisions between two positions and what was reported about them, archived or not.

Who reads so divides the log into ranges of positions first. A range stays what it is while rows move to the archive.
"""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from numpy.typing import NDArray

from data.log.archived.columns import DECISION_SEQ, UNFIT, schema, select, to_arrow
from data.log.archived.keys import any_archived
from data.log.archived.parts import parts_between, select_parts
from data.log.archived.reading import from_both
from data.log.statements import chunks, one_of
from data.log.store import Store
from data.log.tables import DECISIONS, FEEDBACK, PARTS, Log
from data.log.unreadable import describe_error, log_unreadable, pass_on

_EVERYTHING: Final = 2**62


@from_both
def divide(store: Store, rows: int, after: int = -1, until: int | None = None) -> list[tuple[int, int]]:
    """Divide the positions of decisions into ranges, (first, last), with about as many rows in each.

    Args:
        store: the log.
        rows: of a range.
        after: a position: the ranges begin after it.
        until: a position that the last range need not go beyond; default: they go to the end.
    """
    ends, columns = list[int](), DECISIONS.table.c
    with store.reading() as connection:
        for part in parts_between(connection, DECISIONS, after, until):
            metadata = store.parts.footer(part)
            sizes = [metadata.metadata.row_group(group).num_rows for group in range(len(metadata.seqs))]
            ends += _ends(sizes, metadata.seqs[:, 1].tolist(), rows)
        last = connection.execute(sa.select(sa.func.max(columns.seq))).scalar_one() or 0
        at, last = max([after, *ends]), last if until is None else min(last, until)
        while at < last:
            query = sa.select(columns.seq).where(columns.seq > at).order_by(columns.seq).offset(rows - 1).limit(1)
            at = connection.execute(query).scalar() or last
            ends.append(at)
    ends = sorted({end for end in ends if end > after})
    return list(zip([after + 1, *(end + 1 for end in ends[:-1])], ends, strict=True)) if ends else []


def _ends(sizes: list[int], last: list[int], rows: int) -> list[int]:
    """Return the positions at which about so many rows have gathered, and the last one."""
    ends, gathered = list[int](), 0
    for size, end in zip(sizes, last, strict=True):
        gathered += size
        if gathered >= rows:
            ends, gathered = [*ends, end], 0
    return [*ends, last[-1]] if gathered else ends


@from_both
def decisions_between(store: Store, first: int, last: int, columns: Collection[str], loop: str) -> pa.Table:
    """Return some columns of a loop's decisions between two positions, in order, without rows that cannot be read."""
    names = [field.name for field in schema(DECISIONS) if field.name in {"seq", "loop", *columns}]
    c = DECISIONS.table.c
    with store.reading() as connection:
        archived = store.archived(connection).between(DECISIONS, first - 1, last, None, names, pc.field("loop") == loop)
        logged = _read(connection, DECISIONS, c.seq.between(first, last), c.loop == loop)
    return _merge(archived.select(names), logged.select(names))


@from_both
def columns_between(store: Store, first: int, last: int, columns: Collection[str], loop: str) -> pa.Table:
    """Return the same for who adds up what was shown: of a row nothing is read, or checked, but these columns."""
    names = [field.name for field in schema(DECISIONS) if field.name in {"seq", "loop", *columns}]
    c = DECISIONS.table.c
    with store.reading() as connection:
        archived = store.archived(connection).between(DECISIONS, first - 1, last, None, names, pc.field("loop") == loop)
        logged = _read(connection, DECISIONS, c.seq.between(first, last), c.loop == loop, names=names)
    return _merge(archived.select(names), logged.select(names))


def first_position(store: Store, since: datetime) -> int:
    """Return a position before which all decisions were made before a time; as late as is easily known."""
    c = DECISIONS.table.c
    with store.reading() as connection:
        parts = select_parts(connection, "decisions", PARTS.c.time_last >= since)
        logged = connection.execute(sa.select(sa.func.min(c.seq)).where(c.time >= since)).scalar()
    found = [*(part.first for part in parts), *([int(logged)] if logged is not None else [])]
    return min(found, default=store.last_decision() + 1)


@from_both
def decisions_of_test(
    store: Store,
    abtest: str,
    loop: str,
    since: datetime,
    until: datetime,
    columns: Collection[str],
    after: int = 0,
    limit: int | None = None,
) -> pa.Table:
    """Return some columns of a loop's decisions for an A/B test, made from a time to another, in order.

    Only those after a log position, and the first `limit` of them. Rows that cannot be read are left out.
    """
    names = [field.name for field in schema(DECISIONS) if field.name in {"seq", "loop", "time", "abtest", *columns}]
    c, at = DECISIONS.table.c, pc.field("time")
    first, last = (pa.scalar(time, pa.timestamp("us", tz="UTC")) for time in (since, until))
    wanted = (
        (pc.field("seq") > after)
        & (at >= first)
        & (at < last)
        & (pc.field("abtest") == abtest)
        & (pc.field("loop") == loop)
    )
    tables = list[pa.Table]()
    with store.reading() as connection:
        archived = store.archived(connection)
        in_time = (PARTS.c.time_first < until, PARTS.c.time_last >= since, PARTS.c.last > after)
        for part in select_parts(connection, "decisions", *in_time):
            tables.append(archived.between(DECISIONS, part.first - 1, part.last, None, names).filter(wanted))
        of_log = [c.seq > after, c.abtest == abtest, c.loop == loop, c.time >= since, c.time < until]
        if limit is not None:
            of_log.append(c.seq.in_(sa.select(c.seq).where(*of_log).order_by(c.seq).limit(limit)))
        logged = _read(connection, DECISIONS, *of_log)
    whole = pa.concat_tables([_schema_of(names).empty_table(), *tables]).select(names)
    return _merge(whole, logged.select(names))[:limit]


def _schema_of(names: Collection[str]) -> pa.Schema:
    """Return some columns of archived decisions, as they stand there."""
    return pa.schema([field for field in schema(DECISIONS) if field.name in names])


@from_both
def feedback_about(store: Store, decisions: pa.Table, late: NDArray[np.int64]) -> pa.Table:
    """Return all feedback about decisions, in order, with the position of its decision.

    Args:
        store: the log.
        decisions: `seq` and `decision_id`, in the order of `seq`.
        late: as `late_feedback` returns it.
    """
    seqs: NDArray[np.int64] = decisions["seq"].to_numpy()
    if not len(seqs):
        return schema(FEEDBACK).empty_table()
    d, f = DECISIONS.table.c, FEEDBACK.table.c
    with store.reading() as connection:
        archive = store.archived(connection)
        archived = archive.about(seqs, None, schema(FEEDBACK).names)
        of_log = f.decision_id.in_(sa.select(d.decision_id).where(d.seq.between(int(seqs[0]), int(seqs[-1]))))
        logged = [_read(connection, FEEDBACK, of_log)]
        with_late = decisions.filter(pc.is_in(decisions["seq"], pa.array(late)))["decision_id"].to_pylist()
        logged += [_read(connection, FEEDBACK, one_of(connection, f.decision_id, chunk)) for chunk in chunks(with_late)]
    if not any(table.num_rows for table in logged):
        return archived.select(schema(FEEDBACK).names)
    reports = pa.concat_tables(logged)
    place = pc.index_in(reports["decision_id"], decisions["decision_id"])
    reports = reports.filter(place.is_valid())
    about = pa.array(seqs[place.drop_null().to_numpy()])
    with_seq = reports.append_column(schema(FEEDBACK).field(DECISION_SEQ), about)
    return _merge(archived.select(schema(FEEDBACK).names), with_seq)


@from_both
def late_feedback(store: Store, after: int = -1, until: int | None = None) -> NDArray[np.int64]:
    """Return the positions of archived decisions that there is feedback about in the log itself, in order.

    If none between two positions are archived, as of what is new, the log is not asked.
    """
    found = list[NDArray[np.int64]]()
    with store.reading() as connection:
        if parts_between(connection, DECISIONS, after, until):
            names = connection.execute(_without_decision(FEEDBACK.table.c.decision_id).distinct()).scalars()
            archived = store.archived(connection)
            for some in chunks(list(names)):
                found.append(archived.find(DECISIONS, {(name,) for name in some})["seq"].to_numpy())
    return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)


@from_both
def count_orphans(store: Store, loop: str) -> int:
    """Count a loop's feedback about decisions that are neither in the log nor in its archive; it is never archived."""
    f = FEEDBACK.table.c
    query = _without_decision(f.decision_id, sa.func.count()).where(f.loop == loop).group_by(f.decision_id)
    with store.reading() as connection:
        counts: dict[str, int] = {name: count for name, count in connection.execute(query)}
        if any_archived(connection):
            archived = store.archived(connection)
            for some in chunks(list(counts)):
                for name in archived.find(DECISIONS, {(name,) for name in some})["decision_id"].to_pylist():
                    counts.pop(name)
    return sum(counts.values())


def _without_decision(*columns: Any) -> sa.Select[Any]:
    """Return a query of columns of the feedback whose decision is not in the log itself."""
    d, f = DECISIONS.table.c, FEEDBACK.table.c
    of = sa.select(*columns).outerjoin_from(FEEDBACK.table, DECISIONS.table, d.decision_id == f.decision_id)
    return of.where(d.seq.is_(None))


def _read(
    connection: sa.Connection, log: Log[Any], *where: sa.ColumnElement[bool], names: Collection[str] | None = None
) -> pa.Table:
    """Return rows of the log itself, all columns or some; in order, and only those that fit their columns."""
    return pa.concat_tables([to_arrow(log, [], names), *_fitting(connection, log, where, 0, _EVERYTHING, names)])


def _fitting(
    connection: sa.Connection,
    log: Log[Any],
    where: Collection[sa.ColumnElement[bool]],
    first: int,
    last: int,
    names: Collection[str] | None,
) -> Iterator[pa.Table]:
    seq = log.table.c.seq
    query = select(log, names).where(*where, seq.between(first, last)).order_by(seq)
    try:
        yield to_arrow(log, connection.execute(query).all(), names)
        return
    except (*UNFIT, sa.exc.OperationalError) as error:
        pass_on(error)
        reason = describe_error(error)
    seqs = list(connection.execute(sa.select(seq).where(*where, seq.between(first, last)).order_by(seq)).scalars())
    if len(seqs) == 1:
        log_unreadable(log.table.name, seqs[0], reason)
        return
    middle = seqs[len(seqs) // 2]
    yield from _fitting(connection, log, where, seqs[0], middle - 1, names)
    yield from _fitting(connection, log, where, middle, seqs[-1], names)


def _merge(archived: pa.Table, logged: pa.Table) -> pa.Table:
    """Return rows of both in the order of their positions, each position once."""
    if not logged.num_rows:
        return archived
    table = pa.concat_tables([archived, logged.cast(archived.schema)])
    return table.take(np.unique(table["seq"].to_numpy(), return_index=True)[1])
