"""The log of one loop as a whole: where it ends, from when to when it is, its folds, and how it is deleted."""

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from data.log.archived import keys
from data.log.archived.columns import to_records
from data.log.archived.parts import last_part
from data.log.archived.reading import Archived, from_both, merge
from data.log.archiving.closing import time_column
from data.log.archiving.rewriting import Doomed, remove
from data.log.erasures import note
from data.log.store import Store
from data.log.tables import DECISIONS, FEEDBACK, PARTS, VERSIONS, Log
from data.log.unreadable import read
from data.schema import Version

_ROWS = 5_000  # deleted in one transaction, so that nobody waits long for the lock


class Ends(NamedTuple):
    """The last log positions at which there are rows, 0 where there are none."""

    decisions: int
    feedback: int


class LoopEnds:
    """Follows where the log of each of some loops ends: who has read so far has nothing to read. Belongs to one thread.

    Each look is one statement, and reads only what has come since the one before, of all loops: in an index of all
    positions, which a server may well take to find the last one of a loop, there may be none of it for long.
    """

    def __init__(self, store: Store) -> None:
        """Look at nothing yet."""
        self._store = store
        self._looked = Ends(0, 0)
        self._known = dict[str, Ends]()

    def look(self, loops: Collection[str]) -> dict[str, Ends]:
        """Return the end of each loop; that of the archive where it goes further, of whatever loop its last row is.

        Raises:
            StoreUnavailable: the log does not answer.
        """
        names, ends = sorted({*loops}), list[sa.ColumnElement[int]]()
        logs: tuple[Log[Any], ...] = (DECISIONS, FEEDBACK)
        for log, looked in zip(logs, self._looked, strict=True):
            seq, of_kind = log.table.c.seq, (PARTS.c.kind == log.table.name, PARTS.c.path.is_not(None))
            ends.append(sa.select(sa.func.max(seq)).scalar_subquery())
            ends.append(sa.select(sa.func.max(PARTS.c.last)).where(*of_kind).scalar_subquery())
            for name in names:
                new = log.between(looked if name in self._known else 0, None, name)
                ends.append(sa.select(sa.func.max(seq)).where(*new).scalar_subquery())
        query = sa.select(*(sa.func.coalesce(end, 0).label(f"end_{number}") for number, end in enumerate(ends)))
        [row] = self._store.read_once(query)
        half = len(row) // 2
        last, archived, *of_loops = (Ends(*of_both) for of_both in zip(row[:half], row[half:], strict=True))
        self._looked = _later(self._looked, last)
        self._known |= {
            name: _later(end, self._known.get(name, Ends(0, 0))) for name, end in zip(names, of_loops, strict=True)
        }
        return {name: _later(archived, self._known[name]) for name in names}


def _later(one: Ends, other: Ends) -> Ends:
    return Ends(*map(max, one, other))


@from_both
def date_range(store: Store, loop: str) -> tuple[datetime, datetime] | None:
    """Return when the first and the last decision of a loop were made, or None if there is none.

    Raises:
        StoreError: the log cannot be read.
    """
    columns, of_loop = DECISIONS.table.c, pc.field("loop") == loop
    query = sa.select(columns.seq, columns.time).where(columns.loop == loop).limit(1)
    with store.reading() as connection:
        archived = store.archived(connection)
        ends = [
            archived.between(DECISIONS, 0, None, 1, ["time"], of_loop),
            archived.last(DECISIONS, None, ["time"], of_loop),
        ]
        rows = [(row["seq"], row["time"]) for table in ends for row in table.to_pylist()]
        for order in (columns.seq, columns.seq.desc()):
            rows += [(seq, time) for seq, time in connection.execute(query.order_by(order))]
    times = [time for _, time in sorted(rows)]
    return (times[0].astimezone(UTC), times[-1].astimezone(UTC)) if times else None


@from_both
def last_received(store: Store, loop: str, until: int) -> datetime | None:
    """Return when the feedback of a loop at a log position was received, or the last before it; None if there is none.

    Raises:
        StoreError: the log cannot be read.
    """
    columns = FEEDBACK.table.c
    query = sa.select(columns.seq, columns.received_at).where(columns.loop == loop, columns.seq <= until)
    with store.reading() as connection:
        table = store.archived(connection).last(FEEDBACK, until, ["received_at"], pc.field("loop") == loop)
        rows = [(row["seq"], row["received_at"].astimezone(UTC)) for row in table.to_pylist()]
        rows += [(seq, time) for seq, time in connection.execute(query.order_by(columns.seq.desc()).limit(1))]
    return max(rows)[1] if rows else None


@from_both
def fold_steps(store: Store, fold_id: str) -> list[Version]:
    """Return the steps of a fold, in their order."""
    query = VERSIONS.select().where(VERSIONS.table.c.fold_id == fold_id).order_by(VERSIONS.table.c.seq)
    with store.reading() as connection:
        logged = read(connection, VERSIONS, query)
        if not logged:
            return []
        archived, first, last = store.archived(connection), logged[0][0], logged[-1][0]  # both stay in the log
        table = archived.between(
            VERSIONS, first, last, None, archived.columns(VERSIONS), pc.field("fold_id") == fold_id
        )
    return [version for _, version in merge(to_records(VERSIONS, table), logged)]


@from_both
def fold_step(store: Store, fold_id: str, number: int) -> Version | None:
    """Return a step of a fold, None if the log has none of this number."""
    columns = VERSIONS.table.c
    query = VERSIONS.select().where(columns.fold_id == fold_id, columns.number == number)
    of_fold = sa.select(sa.func.min(columns.seq), sa.func.max(columns.seq)).where(columns.fold_id == fold_id)
    with store.reading() as connection:
        rows = read(connection, VERSIONS, query)
        first, last = connection.execute(of_fold).one()
        if not rows and first is not None:  # both stay in the log
            archived = store.archived(connection)
            where = (pc.field("fold_id") == fold_id, pc.field("number") == number)
            table = archived.between(VERSIONS, first, last, None, archived.columns(VERSIONS), *where)
            rows = to_records(VERSIONS, table)
    return rows[0][1] if rows else None


def begun_folds(store: Store, loop: str, objective: str | None) -> list[Version]:
    """Return the first step of every fold of a loop and an objective (None: any), newest first.

    First steps are not archived.
    """
    columns = VERSIONS.table.c
    where = [columns.loop == loop, columns.number == 0, *([columns.objective == objective] if objective else [])]
    query = VERSIONS.select().where(*where).order_by(columns.seq)
    with store.reading() as connection:
        return [version for _, version in read(connection, VERSIONS, query)][::-1]


def delete(store: Store, loop: str, until: datetime) -> int:
    """Delete the decisions of a loop that were made, and the feedback that was received, until a time; count them.

    It is noted as an erasure.

    Raises:
        StoreError: not all was deleted; it can be called again.
    """
    deleted = _delete_archived(store, loop, until)
    for log in (DECISIONS, FEEDBACK):
        columns, table = log.table.c, log.table
        of_loop = (columns.loop == loop, columns[time_column(log)] <= until)
        some = sa.select(columns.seq).where(*of_loop).order_by(columns.seq).limit(_ROWS)
        rows = _ROWS
        while rows == _ROWS:
            with store.writing() as connection:
                rows = connection.execute(sa.delete(table).where(columns.seq.in_(some))).rowcount
            deleted += rows
    if deleted:
        with store.writing() as connection:
            note(connection, store.now(), deleted)
    return deleted


def _delete_archived(store: Store, loop: str, until: datetime) -> int:
    with store.reading() as connection:
        if not last_part(connection):
            return 0

    def find(archived: Archived) -> Doomed:
        doomed = dict[Log[Any], pa.Table]()
        for log in (DECISIONS, FEEDBACK):
            at, columns = time_column(log), keys.columns(log)
            old = pc.field(at) <= pa.scalar(until, pa.timestamp("us", tz="UTC"))
            tables = [
                table.filter((pc.field("loop") == loop) & old) for table in archived.every(log, [at, "loop", *columns])
            ]
            if tables:
                doomed[log] = pa.concat_tables(tables)
        return doomed

    return remove(store, find, lambda connection, doomed: Counter()).total()
