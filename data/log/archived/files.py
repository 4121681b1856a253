"""What is in a file of archived rows, row group by row group.

Where a part is, is said by its root and the path within it. A root that lies in the folder of a log in SQLite is kept
relative to that, so that a home may be moved or restored elsewhere.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.errors import DataError
from data.filesystems import locate
from data.log.archived.columns import DECISION_SEQ, add_missing, check_version
from data.log.archived.parts import Part, PartGone

_KNOWN = 64  # files whose footers are kept


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
            DataError: it cannot be read, or a newer version of this program has written it.
        """
        key = (part.root, part.path)
        with self._lock:
            if known := self._footers.get(key):
                self._footers.move_to_end(key)
                return known
        with self._open(part) as stream:
            metadata = pq.read_metadata(stream)
        written = metadata.schema.to_arrow_schema()
        check_version(written, f"{part.path} in {self.uri(part.root)}")
        names = written.names
        seqs = _bounds(metadata, names.index("seq"))
        refers = _bounds(metadata, names.index(DECISION_SEQ)) if DECISION_SEQ in names else seqs
        footer = Footer(metadata, seqs, refers)
        with self._lock:
            self._footers[key] = footer
            while len(self._footers) > _KNOWN:
                self._footers.popitem(last=False)
        return footer

    def groups(self, part: Part, groups: Iterable[int], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield row groups of a part, some columns of each: of those that it is older than, what `add_missing` says.

        Raises:
            PartGone: the file is not there.
            DataError: it cannot be read, or lacks a column that has no default.
        """
        if not (wanted := [int(group) for group in groups]):
            return
        metadata = self.footer(part).metadata
        with self._open(part) as stream:
            file = pq.ParquetFile(stream, metadata=metadata)
            there = [name for name in columns if name in file.schema_arrow.names]
            for group in wanted:
                try:
                    table = file.read_row_group(group, there, use_threads=False)
                    yield table if len(there) == len(columns) else add_missing(part.kind, table, columns)
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
