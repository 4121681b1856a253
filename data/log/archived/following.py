"""What followers of the log read of archived days: the rows of `data.log.following`, from Parquet."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from data.log.archived.columns import DECISION_SEQ, as_json
from data.log.archived.keys import any_archived
from data.log.archived.reading import Archived
from data.log.statements import chunks, one_of, read_stored, stored_bytes
from data.log.tables import DECISIONS, FEEDBACK


def archived_decisions(
    connection: sa.Connection,
    archived: Archived,
    loop: str,
    after: int,
    limit: int | None,
    until: int | None,
    heard_until: int,
    with_slate: bool,
) -> Iterator[tuple[Any, ...]]:
    """Return the values of each `SeenDecision`; arguments as in `new_decisions`."""
    names = ["decision_id", "time", *(["user_id", "slate"] if with_slate else [])]
    table = archived.between(DECISIONS, after, until, limit, names, pc.field("loop") == loop)
    if not table.num_rows:
        return iter(())
    seqs, ids = table["seq"].to_pylist(), table["decision_id"].to_pylist()
    reports = archived.about(seqs, heard_until, ["loop"]).filter(pc.field("loop") == loop)
    heard, heard_in_log = set(reports[DECISION_SEQ].to_pylist()), set[str]()
    f = FEEDBACK.table.c
    for chunk in chunks(ids):
        about = (one_of(connection, f.decision_id, chunk), f.loop.concat("") == loop, f.seq + 0 <= heard_until)
        heard_in_log.update(connection.execute(sa.select(f.decision_id).where(*about)).scalars())
    columns: list[list[Any]] = [seqs, _us(table["time"])]
    columns.append([seq in heard or name in heard_in_log for seq, name in zip(seqs, ids, strict=True)])
    if with_slate:
        columns += [ids, table["user_id"].to_pylist(), [as_json(slate) for slate in table["slate"].to_pylist()]]
    return zip(*columns, strict=True)


def archived_feedback(
    archived: Archived, loop: str, after: int, limit: int | None, until: int | None, content: Collection[str]
) -> Iterator[tuple[Any, ...]]:
    """Return the values of each `SeenFeedback`; arguments as in `new_feedback`, `content` the columns that are read."""
    names = ["received_at", DECISION_SEQ, *content]
    table = archived.between(FEEDBACK, after, until, limit, names, pc.field("loop") == loop)
    columns = [table["seq"].to_pylist(), _us(table["received_at"])]
    columns += [table[name].to_pylist() for name in [DECISION_SEQ, *content]]
    return zip(*columns, strict=True)


def positions_about(
    connection: sa.Connection, archived: Archived, loop: str, reports: Sequence[int]
) -> dict[int, int | None]:
    """Return the position of the archived decision of a loop that each report is about; None: there is none.

    Empty where nothing is archived. The reports are given by their positions in the log.
    """
    if not any_archived(connection):
        return {}
    about, f = dict[int, str](), FEEDBACK.table.c
    for chunk in chunks(reports):
        query = sa.select(f.seq, stored_bytes(f.decision_id)).where(one_of(connection, f.seq, chunk))
        about |= {seq: name for seq, name in read_stored(connection, query)}
    found = archived.find(DECISIONS, {(name,) for name in about.values()}, ["loop"])
    rows = zip(found["decision_id"].to_pylist(), found["loop"].to_pylist(), found["seq"].to_pylist(), strict=True)
    seqs = {name: seq for name, of, seq in rows if of == loop}
    return {seq: seqs.get(name) for seq, name in about.items()}


def _us(times: pa.ChunkedArray) -> list[int]:
    """Return times as microseconds since 1970 UTC."""
    us: list[int] = times.cast(pa.int64()).to_pylist()
    return us
