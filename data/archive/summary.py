"""What the archive of ingested files holds, for people who look: sizes, and rejects by reason. Bounded work."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector

from data.archive.parquet import Archive, Kind
from data.errors import DataError

_COUNTED_FILES = 200
"""Of a table with more files the rows are not counted: each file's footer would be read."""
_READ_ROWS = 100_000
"""Rejects of a node whose reasons are counted."""
_EXAMPLES = 3


@dataclass(frozen=True)
class ArchivedTable:
    """Files of one node and kind."""

    files: int
    bytes: int
    rows: int | None
    """None: too many files to count."""
    newest: datetime | None
    """When the last file was added."""


@dataclass(frozen=True)
class Reason:
    """A rule that rows broke."""

    rule: str
    column: str | None
    count: int
    values: tuple[str | None, ...]
    """Examples, as they were read."""


@dataclass(frozen=True)
class ArchivedNode:
    """What was ingested of a node from files."""

    name: str
    events: ArchivedTable
    rejects: ArchivedTable
    reasons: tuple[Reason, ...]
    """Of the rejects that were read, the most frequent first."""
    read: int
    """How many rejects the reasons are of."""


def summarise(archive: Archive) -> list[ArchivedNode]:
    """Return what the archive holds of each node. Blocks.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return [_summarise(archive, name) for name in archive.nodes()]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"the archive at {archive.root} cannot be read: {' '.join(str(error).split())}") from error


def _summarise(archive: Archive, name: str) -> ArchivedNode:
    reasons, read = _reasons(archive, name)
    return ArchivedNode(name, _measure(archive, "events", name), _measure(archive, "rejects", name), reasons, read)


def _measure(archive: Archive, kind: Kind, name: str) -> ArchivedTable:
    selector = FileSelector(archive.folder(kind, name), allow_not_found=True)
    known = {path for _, path in archive.parts(kind, name)}
    files = [entry for entry in archive.filesystem.get_file_info(selector) if entry.path in known]
    rows = None
    if len(files) <= _COUNTED_FILES:
        rows = 0
        for file in files:
            with archive.filesystem.open_input_file(file.path) as stream:
                rows += pq.read_metadata(stream).num_rows
    newest = max((file.mtime for file in files if file.mtime is not None), default=None)
    return ArchivedTable(len(files), sum(file.size for file in files), rows, newest)


def _reasons(archive: Archive, name: str) -> tuple[tuple[Reason, ...], int]:
    paths = [path for _, path in archive.parts("rejects", name)]
    if not paths:
        return (), 0
    dataset: Any = pads.dataset(paths[:_COUNTED_FILES], format="parquet", filesystem=archive.filesystem)
    table = dataset.head(_READ_ROWS, columns=["rule", "column", "value"], batch_size=20_000)
    rules, columns, values = (table[column] for column in ("rule", "column", "value"))
    counts = Counter(zip(rules.to_pylist(), columns.to_pylist(), strict=True))
    examples = dict[tuple[str, str | None], dict[str | None, None]]()  # the first values, each once
    for rule, column, value in zip(rules.to_pylist(), columns.to_pylist(), values.to_pylist(), strict=True):
        seen = examples.setdefault((rule, column), {})
        if len(seen) < _EXAMPLES:
            seen.setdefault(value)
    found = [
        Reason(rule, column, count, tuple(examples[rule, column])) for (rule, column), count in counts.most_common()
    ]
    return tuple(found), table.num_rows
