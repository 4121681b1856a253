"""Which files have archived rows of the log, as its database says; and what is in such a file, row group by row group.

Where a part is, is said by its root and the path within it. A root that lies in the folder of a log in SQLite is kept
relative to that, so that a home may be moved or restored elsewhere.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from numpy.typing import NDArray

from data.errors import DataError
from data.filesystems import locate
from data.log.archived.columns import DECISION_SEQ
from data.log.tables import PARTS, Log

_KNOWN = 64  # files whose footers are kept


@dataclass(frozen=True)
class Part:
    """A file of archived rows of one table, in the order of their positions."""

    seq: int
    """Which entry it is; a file that is rewritten gets another."""
    kind: str
    day: date
    first: int
    last: int
    """Positions of its first and last row. Those between are in it, in another part, in the log, or never were."""
    refers: tuple[int, int] | None
    """The same of the decisions that feedback is about."""
    times: tuple[datetime, datetime]
    """Of its earliest and latest row."""
    rows: int
    bytes: int
    root: str
    path: str
    cleared: bool


class PartGone(DataError):  # noqa: N818 - a state: who reads begins anew
    """A file was rewritten or deleted since its entry was read."""


def select_parts(connection: sa.Connection, kind: str, *where: sa.ColumnElement[bool]) -> list[Part]:
    """Return the parts of a table that meet conditions, in the order of their first positions."""
    columns = PARTS.c
    query = sa.select(PARTS).where(columns.kind == kind, columns.path.is_not(None), *where).order_by(columns.first)
    return [_part(row) for row in connection.execute(query)]


def parts_between(connection: sa.Connection, log: Log[Any], after: int, until: int | None = None) -> list[Part]:
    """Return the parts that may have rows after a position, up to another (None: any)."""
    where = [PARTS.c.last > after, *([PARTS.c.first <= until] if until is not None else [])]
    return select_parts(connection, log.table.name, *where)


def parts_about(connection: sa.Connection, first: int, last: int) -> list[Part]:
    """Return the parts that may have feedback about decisions between two positions."""
    return select_parts(connection, "feedback", PARTS.c.refers_first <= last, PARTS.c.refers_last >= first)


def last_part(connection: sa.Connection) -> int:
    """Return the newest entry, 0 if there is none: another one says that something was archived or rewritten."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(PARTS.c.seq), 0))).scalar_one())


def last_archived(connection: sa.Connection, log: Log[Any]) -> int:
    """Return the last position of a table that was archived, 0 if there is none."""
    query = sa.select(sa.func.coalesce(sa.func.max(PARTS.c.last), 0)).where(PARTS.c.kind == log.table.name)
    return int(connection.execute(query).scalar_one())


def archived_after(connection: sa.Connection, log: Log[Any], after: int) -> tuple[int, int | None]:
    """Return how many rows the parts have that reach beyond a position, and the earliest of their times."""
    columns = PARTS.c
    of = sa.select(
        sa.func.coalesce(sa.func.sum(columns.rows), 0), sa.func.min(sa.type_coerce(columns.time_first, sa.BigInteger))
    )
    query = of.where(columns.kind == log.table.name, columns.last > after, columns.path.is_not(None))
    rows, first = connection.execute(query).one()
    return int(rows), first


def _part(row: Any) -> Part:
    refers = None if row.refers_first is None else (row.refers_first, row.refers_last)
    day = date.fromisoformat(row.day)
    ends, times = (row.first, row.last), (row.time_first, row.time_last)
    return Part(row.seq, row.kind, day, *ends, refers, times, row.rows, row.bytes, row.root, row.path, row.cleared)


@dataclass(frozen=True)
class Footer:
    """What a file says of itself."""

    metadata: pq.FileMetaData
    seqs: NDArray[np.int64]
    """[groups, 2] first and last position."""
    refers: NDArray[np.int64]
    """[groups, 2] the same of the decisions that feedback is about; of others the positions again."""


class PartFiles:
    """The files, as one process reads them. May be used by several threads."""

    def __init__(self, folder: Path | None = None) -> None:
        """Take the folder that relative roots lie in."""
        self._folder, self._lock = folder, threading.Lock()
        self._footers: OrderedDict[tuple[str, str], Footer] = OrderedDict()

    def uri(self, root: str) -> str:
        """Return where a root is."""
        if "://" in root or self._folder is None:
            return root
        return str(self._folder / root)

    def root(self, uri: str) -> str:
        """Return what to keep of a path or URI as a root."""
        if "://" in uri or self._folder is None:
            return uri
        path, folder = Path(uri).absolute(), self._folder.absolute()
        return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)

    def footer(self, part: Part) -> Footer:
        """Return what the file of a part says of itself.

        Raises:
            PartGone: it is not there.
            DataError: it cannot be read.
        """
        key = (part.root, part.path)
        with self._lock:
            if known := self._footers.get(key):
                self._footers.move_to_end(key)
                return known
        with self._open(part) as stream:
            metadata = pq.read_metadata(stream)
        names = metadata.schema.to_arrow_schema().names
        seqs = _bounds(metadata, names.index("seq"))
        refers = _bounds(metadata, names.index(DECISION_SEQ)) if DECISION_SEQ in names else seqs
        footer = Footer(metadata, seqs, refers)
        with self._lock:
            self._footers[key] = footer
            while len(self._footers) > _KNOWN:
                self._footers.popitem(last=False)
        return footer

    def groups(self, part: Part, groups: Iterable[int], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield row groups of a part, some columns of each.

        Raises:
            PartGone: the file is not there.
            DataError: it cannot be read.
        """
        if not (wanted := [int(group) for group in groups]):
            return
        metadata = self.footer(part).metadata
        with self._open(part) as stream:
            file = pq.ParquetFile(stream, metadata=metadata)
            for group in wanted:
                try:
                    yield file.read_row_group(group, list(columns), use_threads=False)
                except (OSError, pa.ArrowException) as error:
                    raise DataError(f"{part.path} in {self.uri(part.root)} cannot be read: {error}") from error

    def _open(self, part: Part) -> pa.NativeFile:
        filesystem, root = locate(self.uri(part.root))
        try:
            return filesystem.open_input_file(f"{root}/{part.path}")
        except FileNotFoundError as error:
            raise PartGone(f"{part.path} is not in {self.uri(part.root)}") from error
        except OSError as error:
            raise DataError(f"{part.path} in {self.uri(part.root)} cannot be opened: {error}") from error


def _bounds(metadata: pq.FileMetaData, column: int) -> NDArray[np.int64]:
    """Return the least and the largest value of a column of integers in each row group."""
    found = [metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups)]
    return np.array([(stats.min, stats.max) for stats in found], dtype=np.int64).reshape(-1, 2)
