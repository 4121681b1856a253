"""The right to be forgotten in the log: a user's rows out of it, so that their bytes are gone, and that it was done.

What is a user's: their decisions and the feedback about them, their events, their features, and the rejects that name
them (`data.nodes.naming`). What has their id in another place, such as a decision's context, is not found.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

import pyarrow as pa
import sqlalchemy as sa
from pydantic_core import from_json, to_json

from data.log.archived import keys
from data.log.archived.reading import Archived, from_both
from data.log.archiving.rewriting import Doomed, remove
from data.log.errors import StoreUnavailable
from data.log.statements import chunks, contains, one_of
from data.log.store import Store
from data.log.tables import DECISIONS, ERASURES, EVENTS, FEEDBACK, REJECTS, USERS
from data.nodes.naming import names_user, user_headers


class NotScrubbed(StoreUnavailable):
    """The rows are deleted, and their bytes may still be where they were."""

    client_message = (
        "the rows are deleted, but copies of their bytes may still be in the log's database, which was in use all the "
        "time: ask for it again, it then goes on from there"
    )


def erase_from_store(
    store: Store, user_id: str, noted: Callable[[int, datetime], object] = lambda seq, time: None
) -> dict[str, int]:
    """Delete what the store has of a user, and note that it was done, if it was anything.

    Feedback about their decisions that arrives later is an orphan. What is left of their rows is removed then, as far
    as the database can: see `scrub` of `data.log.sqlite` and `data.log.postgres`. It may be called again, and completes
    what a call that was killed has begun.

    Args:
        store: the log.
        user_id: the user.
        noted: is called before the deletion is committed, with position and time of the note of it; perhaps again.

    Returns:
        The number of rows by table.

    Raises:
        NotScrubbed: the rows are deleted, and their bytes are still there. Run it again.
        StoreUnavailable: nothing was deleted.
    """

    def find(archived: Archived) -> Doomed:
        return _archived_of(archived, user_id)

    def delete(connection: sa.Connection, doomed: Doomed) -> Counter[str]:
        counts = _delete(connection, user_id, doomed)
        gone = counts + Counter({log.table.name: table.num_rows for log, table in doomed.items()})
        if rows := gone.total():
            now = store.now()
            noted(note(connection, now, rows), now)
        return counts

    counts = Counter(dict.fromkeys(("feedback", "decisions", "events", "users", "rejects"), 0))
    counts.update(remove(store, find, delete))
    try:
        store.scrub(user_id)
    except OSError as error:
        raise NotScrubbed(f"the rows are deleted, but {error}") from error
    return dict(counts)


def _archived_of(archived: Archived, user_id: str) -> Doomed:
    """Return the archived rows that are a user's."""
    own = {log: archived.rows_of_user(log, user_id, keys.columns(log)) for log in (DECISIONS, EVENTS)}
    about = archived.about(own[DECISIONS]["seq"].to_pylist(), None, keys.columns(FEEDBACK))
    rejects = archived.every(REJECTS, ["record", "column", "value", *keys.columns(REJECTS)])
    naming = [table.filter(_naming(table, user_id)) for table in rejects]
    return own | {FEEDBACK: about} | ({REJECTS: pa.concat_tables(naming)} if naming else {})


def _naming(rejects: pa.Table, user_id: str) -> pa.Array:
    """Return which rejects name a user."""
    names = ("record", "column", "value", "node_id")
    rows = zip(*(rejects[name].to_pylist() for name in names), strict=True)
    spelt = to_json(user_id).decode()[1:-1]
    return pa.array(
        [
            (spelt in record or user_id in (value or ""))
            and names_user(dict(from_json(record)), column, value, user_headers(node_id), user_id)
            for record, column, value, node_id in rows
        ],
        pa.bool_(),
    )


def _delete(connection: sa.Connection, user_id: str, doomed: Doomed) -> Counter[str]:
    """Delete what the log itself has of a user; returns the number of rows by table."""
    decisions, feedback, events, rejects = DECISIONS.table, FEEDBACK.table, EVENTS.table, REJECTS.table
    own = sa.select(decisions.c.decision_id).where(decisions.c.user_id == user_id)
    deletions = {
        "feedback": sa.delete(feedback).where(feedback.c.decision_id.in_(own)),
        "decisions": sa.delete(decisions).where(decisions.c.user_id == user_id),
        "events": sa.delete(events).where(events.c.user_id == user_id),
        "users": sa.delete(USERS).where(USERS.c.user_id == user_id),
    }
    counts = Counter({name: connection.execute(deletion).rowcount for name, deletion in deletions.items()})
    archived = doomed[DECISIONS]["decision_id"].to_pylist() if DECISIONS in doomed else []
    for chunk in chunks(archived):
        late = sa.delete(feedback).where(one_of(connection, feedback.c.decision_id, chunk))
        counts["feedback"] += connection.execute(late).rowcount
    naming = list(_rejects_naming(connection, user_id))
    for chunk in chunks(naming):
        connection.execute(sa.delete(rejects).where(one_of(connection, rejects.c.seq, chunk)))
    counts["rejects"] = len(naming)
    return counts


def note(connection: sa.Connection, time: datetime, rows: int) -> int:
    """Note in a transaction that rows of the log were deleted; returns the note's position.

    What was folded from them cannot be repeated, unless a proof was kept (`rl.provenance`).
    """
    added = sa.insert(ERASURES).values(time=time, rows=rows).returning(ERASURES.c.seq)
    return int(connection.execute(added).scalar_one())


def count_erasures(store: Store) -> int:
    """Return how often rows of the log were deleted."""
    return int(store.read_once(sa.select(sa.func.coalesce(sa.func.max(ERASURES.c.seq), 0)))[0][0])


def list_erasures(store: Store) -> dict[int, datetime]:
    """Return when rows of the log were deleted, by position."""
    with store.reading() as connection:
        return {seq: time for seq, time in connection.execute(sa.select(ERASURES.c.seq, ERASURES.c.time))}


@from_both
def decisions_of(store: Store, user_id: str) -> dict[str, list[int]]:
    """Return the log positions of a user's decisions, by loop."""
    columns, found = DECISIONS.table.c, dict[int, str]()
    with store.reading() as connection:
        own = sa.select(columns.seq, columns.loop).where(columns.user_id == user_id)
        found |= {seq: loop for seq, loop in connection.execute(own)}
        archived = store.archived(connection).rows_of_user(DECISIONS, user_id, ["loop"])
        found |= dict(zip(archived["seq"].to_pylist(), archived["loop"].to_pylist(), strict=True))
    by_loop = dict[str, list[int]]()
    for seq, loop in sorted(found.items()):
        by_loop.setdefault(loop, []).append(seq)
    return by_loop


def _rejects_naming(connection: sa.Connection, user_id: str) -> Iterator[int]:
    """Yield the log positions of the rejects that name a user."""
    columns = REJECTS.table.c
    spelt = to_json(user_id).decode()[1:-1]  # as it stands within JSON
    near = sa.or_(contains(columns.record, spelt), contains(columns.value, user_id))
    for seq, reject in REJECTS.read(connection.execute(REJECTS.select().where(near))):
        if names_user(dict(reject.record), reject.column, reject.value, user_headers(reject.node_id), user_id):
            yield seq
