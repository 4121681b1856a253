"""How closed days move from the log to Parquet, so that a process may die at any moment.

A part is written under a name that is noted before, and nobody reads it. Then the names of its rows are entered, and
with the entry of the part, in one transaction, it counts: its rows are in both, and whoever reads takes each once.
Then they are deleted from the log, some at a time. Where a process died, the next one goes on: files that were noted
and not entered are deleted, and rows of parts that are not cleared yet.

What stays in the log: rows that do not fit their columns (another hand wrote them, or a disk has damaged them);
feedback whose decision is not archived, or of another loop; the first and the last step of each fold.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import chain, islice
from typing import Any, Final, TypeAlias

import pyarrow as pa
import sqlalchemy as sa

from data.errors import DataError
from data.filesystems import locate
from data.log.archived import keys
from data.log.archived.parts import Part, last_part, select_parts
from data.log.archiving.closing import cut
from data.log.archiving.files import FOLDER, begin_file, enter, sweep, write_file
from data.log.archiving.rows import Rows
from data.log.statements import insert_new
from data.log.store import Store
from data.log.tables import ARCHIVED_KEYS, DECISIONS, EVENTS, FEEDBACK, PARTS, REJECTS, VERSIONS, Log

_AT_ONCE = 1_000  # rows written or deleted in one transaction
_ORDER: Final[tuple[Log[Any], ...]] = (DECISIONS, FEEDBACK, EVENTS, REJECTS, VERSIONS)
"""Decisions first: feedback follows its decision."""

Watch: TypeAlias = Callable[[str, int], object]
"""Is told what was done, and with how many rows: a progress bar, or a test that kills the process there."""


@dataclass
class Moved:
    """What was done."""

    rows: dict[str, int] = field(default_factory=dict)
    """By table."""
    bytes: int = 0
    """Of the files that were written."""
    days: set[date] = field(default_factory=set)
    left: dict[str, int] = field(default_factory=dict)
    """Rows of closed days that stay in the log, by table."""


class Mover:
    """Moves rows of one log to one archive. Its user holds the log's lock `archive`."""

    def __init__(self, store: Store, uri: str, watch: Watch = lambda what, rows: None) -> None:
        """Take the log, the path or URI of the archive, and who is told what is done.

        Raises:
            DataError: the URI names no filesystem that pyarrow knows.
        """
        self._store, self._watch = store, watch
        self._root = store.parts.root(uri)
        self._filesystem, self._path = locate(uri)

    def tidy(self) -> int:
        """Bring to an end what a process that died had begun; returns how many files it had left."""
        swept = sweep(self._store)
        with self._store.reading() as connection:
            parts = [part for log in _ORDER for part in select_parts(connection, log.table.name, ~PARTS.c.cleared)]
        for part in parts:
            self.clear(part)
        return swept

    def move(self, until: datetime) -> Moved:
        """Move the rows of the days before a midnight.

        Raises:
            StoreError: the log did not answer; what was not done is done by the next call.
            DataError: the archive did not; the same.
        """
        moved = Moved()
        for log in _ORDER:
            with self._store.reading() as connection:
                end = cut(connection, log, until, self._store.now())
            rows = Rows(self._store, log, end, (until - timedelta(days=1)).date())
            while part := self._write(log, rows):
                self._enter(part, rows)
                self.clear(part)
                moved.rows[log.table.name] = moved.rows.get(log.table.name, 0) + part.rows
                moved.bytes += part.bytes
                moved.days.add(part.day)
            if rows.left:
                moved.left[log.table.name] = rows.left
        return moved

    def _write(self, log: Log[Any], rows: "Rows") -> Part | None:
        """Write the next part, of one day; None: there are no more rows."""
        with self._store.reading() as connection:
            rows.begin(last_part(connection))
        groups = rows.of_day()
        if (first := next(groups, None)) is None:
            return None
        day, begins = rows.day, first["seq"][0].as_py()
        path = begin_file(self._store, self._root, f"{FOLDER}/{log.table.name}/day={day}", begins)
        summary = write_file(self._filesystem, self._path, path, log, chain([first], groups))
        self._watch("written", summary.rows)
        return summary.part(log, day, self._root, path)

    def _enter(self, part: Part, rows: "Rows") -> None:
        """Let a part count."""
        log = rows.log
        for number, table in enumerate(self._groups(part, keys.columns(log))):
            entries = iter(sorted(keys.entries(log, table)))
            while some := [{"number": n, "seq": seq} for n, seq in islice(entries, 5 * _AT_ONCE)]:
                with Yielding(), self._store.writing() as connection:
                    connection.execute(insert_new(ARCHIVED_KEYS), some)
            self._watch("named", number)
        with self._store.writing() as connection:
            columns = log.table.c
            there = sa.select(sa.func.count()).where(columns.seq.between(part.first, part.last))
            same = connection.execute(there).scalar_one() == part.rows + rows.left_between(part.first, part.last)
            if not same or last_part(connection) != rows.generation:
                raise DataError(
                    "rows of the log were deleted, or the archive was changed, while a part of it was written: "
                    "run it again"
                )
            enter(connection, part)
        self._watch("entered", part.rows)

    def clear(self, part: Part) -> None:
        """Delete the rows of a part from the log."""
        table = next(log for log in _ORDER if log.table.name == part.kind).table
        for group in self._groups(part, ["seq"]):
            seqs = iter(group["seq"].to_pylist())
            while some := list(islice(seqs, _AT_ONCE)):
                with Yielding(), self._store.writing() as connection:
                    connection.execute(sa.delete(table).where(table.c.seq.in_(some)))
                self._watch("deleted", len(some))
        with self._store.writing() as connection:
            same = (PARTS.c.kind == part.kind, PARTS.c.root == part.root, PARTS.c.path == part.path)
            connection.execute(sa.update(PARTS).where(*same).values(cleared=True))
        self._watch("cleared", part.rows)

    def _groups(self, part: Part, columns: Sequence[str]) -> Iterator[pa.Table]:
        groups = range(self._store.parts.footer(part).metadata.num_row_groups)
        return self._store.parts.groups(part, groups, columns)


class Yielding:
    """Wait after a transaction for as long as it took, so that others can write too."""

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        time.sleep(max(0.001, time.monotonic() - self._began))
