"""Rows taken out of the archive: the files that have them are written anew without them, and take their places at once.

A file is written beside, and nobody reads it. One transaction then enters it in the place of the old one, deletes the
names of the rows, and deletes what there is of them in the log. Then the old file is deleted. A process that dies on
the way leaves files that were noted and not entered, or not deleted: the next one deletes them first.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from data.filesystems import locate
from data.log.archived import keys
from data.log.archived.columns import schema
from data.log.archived.parts import Part, last_part, parts_between
from data.log.archived.reading import Archived, from_both
from data.log.archiving.files import begin_file, enter, note_stray, sweep, write_file
from data.log.errors import StoreUnavailable
from data.log.statements import chunks
from data.log.store import Store
from data.log.tables import ARCHIVED_KEYS, PARTS, Log

Doomed: TypeAlias = Mapping[Log[Any], pa.Table]
"""Archived rows by table, with the columns of `keys.columns`."""
_TRIES = 5


def remove(
    store: Store, find: Callable[[Archived], Doomed], then: Callable[[sa.Connection, Doomed], Counter[str]]
) -> Counter[str]:
    """Take rows out of the archive and out of the log, in one transaction.

    Args:
        store: the log.
        find: returns the archived rows.
        then: deletes rows of the log in the transaction; returns how many, by table.

    Returns:
        How many rows, by table, those of the archive among them. A row that is in both counts once.

    Raises:
        StoreUnavailable: nothing was removed; or days are being archived.
        DataError: the archive cannot be read or written to; nothing was removed.
    """
    for _ in range(_TRIES):
        with store.reading() as connection:
            archives = last_part(connection) > 0
        if archives:
            with store.exclusively("archive"):
                sweep(store)
                counts = _try(store, find, then)
                sweep(store)  # the old files, or the new ones
        else:  # the first part may be being written now: then it is seen that it was entered, and done again
            counts = _try(store, find, then)
        if counts is not None:
            return counts
    raise StoreUnavailable("the archive changes all the time")


def _try(
    store: Store, find: Callable[[Archived], Doomed], then: Callable[[sa.Connection, Doomed], Counter[str]]
) -> Counter[str] | None:
    doomed, old, generation = _find(store, find)
    new = [_rewrite(store, part, doomed) for part in old]
    return _replace(store, old, [part for part in new if part], doomed, generation, then)


@from_both
def _find(store: Store, find: Callable[[Archived], Doomed]) -> tuple[Doomed, list[Part], int]:
    """Return the rows, the parts that have them, and the newest entry of the archive."""
    with store.reading() as connection:
        doomed = {log: table for log, table in find(store.archived(connection)).items() if table.num_rows}
        parts = list[Part]()
        for log, table in doomed.items():
            seqs = np.sort(table["seq"].to_numpy())
            for part in parts_between(connection, log, int(seqs[0]) - 1, int(seqs[-1])):
                place = np.searchsorted(seqs, part.first)
                parts += [part] if place < len(seqs) and seqs[place] <= part.last else []
        return doomed, parts, last_part(connection)


def _rewrite(store: Store, part: Part, doomed: Doomed) -> Part | None:
    """Write the file of a part without some rows; None: there are no others."""
    log, seqs = next((log, table["seq"]) for log, table in doomed.items() if log.table.name == part.kind)
    groups = (group for group in _without(store, log, part, seqs.combine_chunks()) if group.num_rows)
    if (first := next(groups, None)) is None:
        return None
    filesystem, root = locate(store.parts.uri(part.root))
    path = begin_file(store, part.root, part.path.rpartition("/")[0], part.first)

    def rows() -> Iterator[pa.Table]:
        yield first
        yield from groups

    summary = write_file(filesystem, root, path, log, rows())
    return summary.part(log, part.day, part.root, path, part.cleared)


def _without(store: Store, log: Log[Any], part: Part, seqs: pa.Array) -> Iterator[pa.Table]:
    groups = range(store.parts.footer(part).metadata.num_row_groups)
    for group in store.parts.groups(part, groups, schema(log).names):
        yield group.filter(pc.invert(pc.is_in(group["seq"], seqs)))


def _replace(
    store: Store,
    old: Sequence[Part],
    new: Sequence[Part],
    doomed: Doomed,
    generation: int,
    then: Callable[[sa.Connection, Doomed], Counter[str]],
) -> Counter[str] | None:
    """Do what is done in one transaction; None: the archive has changed meanwhile, and nothing was done."""
    with store.writing() as connection:
        if last_part(connection) != generation:
            return None
        for log, table in doomed.items():
            forget_names(connection, log, table)
            for some in chunks(table["seq"].to_pylist()):  # those that are in both
                connection.execute(sa.delete(log.table).where(log.table.c.seq.in_(some)))
        counts = then(connection, doomed)
        for part in new:
            enter(connection, replace(part, seq=0))
        for part in old:
            note_stray(connection, part.root, part.path)
            connection.execute(sa.delete(PARTS).where(PARTS.c.seq == part.seq))
        return counts + Counter({log.table.name: table.num_rows for log, table in doomed.items()})


def forget_names(connection: sa.Connection, log: Log[Any], table: pa.Table) -> None:
    """Delete the entries of archived rows from the index of names, in a transaction."""
    columns = ARCHIVED_KEYS.c
    by_number: dict[int, list[int]] = {}
    for number, seq in keys.entries(log, table):
        by_number.setdefault(number, []).append(seq)
    for number, seqs in by_number.items():
        for some in chunks(seqs):
            connection.execute(sa.delete(ARCHIVED_KEYS).where(columns.number == number, columns.seq.in_(some)))
