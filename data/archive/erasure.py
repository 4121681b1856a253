"""The right to be forgotten: a user's rows out of the store and the archive, so that their bytes are gone. No Ray.

What is his: his decisions and the feedback about them, his events, his features, and the rejects that name him: in
the column that is the user's by the node's declaration (in any, where the declaration is not to be had), or in a line
that could not be parsed. What has his id in another place, such as a decision's context, is not found.

Each function may be run again, and completes what a run that was killed has begun.
"""

import re
import uuid
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa
from pydantic_core import to_json

from data.archive.parquet import KINDS, Archive, Kind, sync, write_part
from data.errors import DataError
from data.log.scrub import scrub
from data.log.state_tables import ERASURES, USERS
from data.log.store import Store
from data.log.tables import (
    DECISIONS,
    EVENTS,
    FEEDBACK,
    REJECTS,
    chunks,
)
from data.nodes.node import load_node
from data.schema import Reject


def erase_from_store(store: Store, user_id: str) -> dict[str, int]:
    """Delete what the store has of a user, and note in `ERASURES` that it was done, if it was anything.

    Feedback about his decisions that arrives later is an orphan. Where copies of his id are left in the file, it is
    rewritten whole, and other writers wait: see `data.log.scrub`.

    Returns:
        The number of rows by table.

    Raises:
        NotScrubbed: the rows are deleted, and their bytes are still there. Run it again.
        StoreUnavailable: nothing was deleted.
    """
    decisions, feedback, events, rejects = DECISIONS.table, FEEDBACK.table, EVENTS.table, REJECTS.table
    with store.writing() as connection:
        own = sa.select(decisions.c.decision_id).where(decisions.c.user_id == user_id)
        deletions = {
            "feedback": sa.delete(feedback).where(feedback.c.decision_id.in_(own)),
            "decisions": sa.delete(decisions).where(decisions.c.user_id == user_id),
            "events": sa.delete(events).where(events.c.user_id == user_id),
            "users": sa.delete(USERS).where(USERS.c.user_id == user_id),
        }
        counts = {name: connection.execute(deletion).rowcount for name, deletion in deletions.items()}
        naming = list(_rejects_naming(connection, user_id))
        for chunk in chunks(naming):
            connection.execute(sa.delete(rejects).where(rejects.c.seq.in_(chunk)))
        counts["rejects"] = len(naming)
        if rows := sum(counts.values()):
            connection.execute(sa.insert(ERASURES).values(time=store.now(), rows=rows))
    scrub(store.path, user_id)
    return counts


def erase_from_archive(archive: Archive, user_id: str) -> dict[str, int]:
    """Rewrite the files of the archive that have rows of a user, each at once.

    What killed ingestions have left unfinished is removed. On object storage, ingest nothing meanwhile.

    Returns:
        The number of rows by kind.

    Raises:
        DataError: a node is being ingested; run it again when that has ended.
    """
    counts = dict.fromkeys(KINDS, 0)
    for node_id in archive.nodes():
        with archive.lock(node_id), archive.staging(node_id, f"erasure{uuid.uuid4().hex[:8]}") as staging:
            for kind in KINDS:
                for _, path in archive.parts(kind, node_id):
                    counts[kind] += _rewrite(archive, kind, node_id, path, user_id, staging)
    return {f"archive_{kind}": count for kind, count in counts.items()}


def _rewrite(archive: Archive, kind: Kind, node_id: str, path: str, user_id: str, staging: str) -> int:
    """Replace a file by one without a user's rows; returns how many it had."""
    with archive.filesystem.open_input_file(path) as stream:
        file = pq.ParquetFile(stream)
        if kind == "events":
            his = pc.equal(file.read(["user_id"])["user_id"], user_id).fill_null(False)
        else:
            headers = _user_headers(node_id)
            judged = file.read(["rule", "column", "value", "record"]).to_pylist()
            his = pa.array(
                [_names(row["record"], row["column"], row["value"], headers, user_id) for row in judged], pa.bool_()
            )
        count: int = pc.sum(his).as_py() or 0
        if not count:
            return 0
        rest = file.read().filter(pc.invert(his))
    if rest.num_rows:
        write_part(rest, f"{staging}/rest.parquet", f"{kind.removesuffix('s')}_id", archive)
        archive.publish(f"{staging}/rest.parquet", path)
    else:
        archive.filesystem.delete_file(path)
    if archive.is_local:
        sync(archive.folder(kind, node_id))
    return count


def _rejects_naming(connection: sa.Connection, user_id: str) -> Iterator[int]:
    """Yield the log positions of the rejects that name a user."""
    columns = REJECTS.table.c
    spelt = to_json(user_id).decode()[1:-1]  # as it stands within JSON
    near = sa.or_(sa.func.instr(columns.record, spelt) > 0, sa.func.instr(columns.value, user_id) > 0)
    for seq, reject in REJECTS.read(connection.execute(REJECTS.select().where(near))):
        if _reject_names(reject, user_id):
            yield seq


def _reject_names(reject: Reject, user_id: str) -> bool:
    return _names(dict(reject.record), reject.column, reject.value, _user_headers(reject.node_id), user_id)


def _names(
    record: dict[str, object], column: str | None, value: str | None, headers: list[str] | None, user_id: str
) -> bool:
    if column is None and value is not None and re.search(rf"(?<!\w){re.escape(user_id)}(?!\w)", value):
        return True  # a line that could not be parsed
    told = record.values() if headers is None else (record.get(header) for header in headers)
    return any(_is(given, user_id) for given in told)


def _is(given: object, user_id: str) -> bool:
    """Return whether a value as it was read is the user's id: where that is a number, 12347.0 is 12347."""
    text = str(given).strip()
    return text == user_id or (user_id.isdecimal() and text.removesuffix(".0") == user_id)


def _user_headers(node_id: str) -> list[str] | None:
    """Return the headers of the columns that a node declares to be the user's; None: its declaration is not known."""
    try:
        column = load_node(node_id).with_role("user")
    except DataError:
        return None
    return [column.header] if column else []
