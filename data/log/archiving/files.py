"""Files of archived rows, as they are written: row groups by position, with the bounds by which rows are found."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa
from pyarrow.fs import FileSystem, FileType, LocalFileSystem

from data.atomic import sync
from data.errors import DataError
from data.fields import from_us
from data.filesystems import locate
from data.log.archived.columns import DECISION_SEQ, schema
from data.log.archived.parts import Part
from data.log.archiving.closing import time_column
from data.log.store import Store
from data.log.tables import PARTS, STRAYS, Log

FOLDER: Final = "log"
"""Of the archived rows, in the archive."""
_COMPRESSION_LEVEL = 9


@dataclass
class Summary:
    """What is said of a part in its entry."""

    time_column: str
    rows: int = 0
    bytes: int = 0
    _seqs: list[int] = field(default_factory=list)
    _refers: list[int] = field(default_factory=list)
    _times: list[int] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        """Take a row group."""
        self.rows += table.num_rows
        self._seqs += _ends(table["seq"])
        self._times += _ends(table[self.time_column])
        if DECISION_SEQ in table.column_names:
            self._refers += _ends(table[DECISION_SEQ])

    def part(self, log: Log[Any], day: date, root: str, path: str, cleared: bool = False) -> Part:
        """Return the part that was written."""
        refers = (min(self._refers), max(self._refers)) if self._refers else None
        first, last = (from_us(us) for us in (min(self._times), max(self._times)))
        ends = min(self._seqs), max(self._seqs)
        return Part(0, log.table.name, day, *ends, refers, (first, last), self.rows, self.bytes, root, path, cleared)


def _ends(column: pa.ChunkedArray) -> list[int]:
    ends = pc.min_max(column.cast(pa.int64())).as_py()
    return [ends["min"], ends["max"]]


def write_file(filesystem: FileSystem, root: str, path: str, log: Log[Any], groups: Iterable[pa.Table]) -> Summary:
    """Write row groups as a file, and wait until it is on the disk.

    Args:
        filesystem: of the archive.
        root: its folder there.
        path: of the file, in the folder.
        log: the table that the rows are of.
        groups: rows, at least one.

    Raises:
        DataError: the archive cannot be written to.
    """
    full, summary = f"{root}/{path}", Summary(time_column(log))
    try:
        filesystem.create_dir(full.rpartition("/")[0])
        with (
            filesystem.open_output_stream(full) as stream,
            pq.ParquetWriter(stream, schema(log), **_options(log)) as writer,
        ):
            for table in groups:
                summary.add(table)
                writer.write_table(table)
        summary.bytes = filesystem.get_file_info(full).size
        if isinstance(filesystem, LocalFileSystem):
            _sync_with_folders(full, root)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be written to {root}: {' '.join(str(error).split())}") from error
    return summary


def enter(connection: sa.Connection, part: Part) -> None:
    """Enter a part, in a transaction: from its commit on it is no stray any more.

    Raises:
        DataError: it was taken for a stray and deleted.
    """
    stray = sa.delete(STRAYS).where(STRAYS.c.root == part.root, STRAYS.c.path == part.path)
    if connection.execute(stray).rowcount != 1:
        raise DataError(f"{part.path} was deleted while it was written: run it again")
    refers = part.refers or (None, None)
    connection.execute(
        sa.insert(PARTS).values(
            kind=part.kind,
            day=str(part.day),
            first=part.first,
            last=part.last,
            refers_first=refers[0],
            refers_last=refers[1],
            time_first=part.times[0],
            time_last=part.times[1],
            rows=part.rows,
            bytes=part.bytes,
            root=part.root,
            path=part.path,
            cleared=part.cleared,
        )
    )


def begin_file(store: Store, root: str, folder: str, first: int) -> str:
    """Return the path of a file that is to be written, after a note that it is: a process that dies leaves a stray."""
    path = f"{folder}/{first:012d}-{uuid4().hex[:8]}.parquet"
    with store.writing() as connection:
        note_stray(connection, root, path)
    return path


def note_stray(connection: sa.Connection, root: str, path: str) -> None:
    """Note in a transaction that a file is to be deleted."""
    connection.execute(sa.insert(STRAYS).values(root=root, path=path))


def sweep(store: Store) -> int:
    """Delete the strays, which processes that died have left or which were replaced; returns how many.

    Who calls holds the log's lock `archive`: nobody is writing one now.

    Raises:
        DataError: the archive does not answer.
    """
    with store.reading() as connection:
        strays = [(root, path) for root, path in connection.execute(sa.select(STRAYS.c.root, STRAYS.c.path))]
    for root, path in strays:
        filesystem, folder = locate(store.parts.uri(root))
        try:
            if filesystem.get_file_info(f"{folder}/{path}").type != FileType.NotFound:
                filesystem.delete_file(f"{folder}/{path}")
        except OSError as error:
            raise DataError(f"{path} cannot be deleted from {folder}: {' '.join(str(error).split())}") from error
        with store.writing() as connection:
            connection.execute(sa.delete(STRAYS).where(STRAYS.c.root == root, STRAYS.c.path == path))
    return len(strays)


def _options(log: Log[Any]) -> dict[str, Any]:
    ids = {column.name for column in log.key} | {"decision_id"}
    names = [name for name in _leaves(schema(log)) if name.partition(".")[0] not in ids]
    bounded = [
        field.name for field in schema(log) if pa.types.is_integer(field.type) or pa.types.is_temporal(field.type)
    ]
    return {
        "compression": "zstd",
        "compression_level": _COMPRESSION_LEVEL,
        "use_dictionary": [name for name in names if name not in bounded],
        "column_encoding": dict.fromkeys(bounded, "DELTA_BINARY_PACKED"),
        "write_statistics": bounded,
    }


def _leaves(columns: pa.Schema) -> list[str]:
    return [f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name for f in columns]


def _sync_with_folders(path: str, root: str) -> None:
    sync(path)
    folder = path.rpartition("/")[0]
    while folder.startswith(root):
        with suppress(OSError):
            sync(folder)
        folder = folder.rpartition("/")[0]
