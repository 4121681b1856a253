"""A file tried against a node: what an ingestion of it would accept and reject. Nothing is stored. No Ray."""

import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem
from pydantic import BaseModel, ConfigDict

from data.errors import DataError
from data.ingest.clean import Cleaned, clean, finish_rejects
from data.ingest.files import find_files
from data.ingest.reading import Block, divide, read_piece
from data.nodes.digest import raw_bytes
from data.nodes.node import NodeSpec

MOST_ROWS = 50_000
_EXAMPLES = 5
"""Of each rule."""
_MOST_EXAMPLES = 60


class TriedReject(BaseModel):
    """A row that would be rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    row: int
    """Its position in the file, the first row being 0."""
    rule: str
    column: str | None
    value: str | None
    record: dict[str, str | None]


class Tried(BaseModel):
    """What would become of a file's rows: read = accepted + rejected + dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    node: str
    read: int
    accepted: int
    duplicates: int
    """Of the accepted, those whose id an earlier row has: an ingestion leaves them out."""
    rejected: dict[str, int]
    """By the first rule that each breaks."""
    dropped: dict[str, int]
    """Left out for a missing value, by column."""
    whole: bool
    """False: there are more rows than were tried."""
    rejects: tuple[TriedReject, ...]
    """Some of each rule, in the order of the file."""


def try_file(content: bytes, name: str, node: NodeSpec, most_rows: int = MOST_ROWS) -> Tried:
    """Check the rows of a file as an ingestion would, each on its own.

    Args:
        content: of the file.
        name: of the file, whose extension says its format.
        node: the declaration.
        most_rows: rows that are tried.

    Raises:
        DataError: the file cannot be read, or lacks a column; by its name.
    """
    memory, folder = MemoryFileSystem(), f"/{uuid.uuid4().hex}"  # of this process, and one for all of it
    path = f"{folder}/{name.replace('/', '_')}"
    memory.pipe_file(path, content)
    filesystem = PyFileSystem(FSSpecHandler(memory))
    try:
        tally = _Tally(node, most_rows)
        for block in _blocks(path, node, filesystem):
            if tally.add(block):
                break
    except DataError as error:
        said = (
            str(error).replace(f"{filesystem.type_name}://", "").replace(f"{folder}/", "").replace(folder[1:] + "/", "")
        )
        raise DataError(said) from None
    finally:
        memory.rm(folder, recursive=True)
    return tally.result()


def _blocks(path: str, node: NodeSpec, filesystem: PyFileSystem) -> Iterator[Block]:
    for pieces in divide(find_files([path], node, filesystem), 1):
        for piece in pieces:
            yield from read_piece(piece, node)


class _Tally:
    """What has become of the rows so far."""

    def __init__(self, node: NodeSpec, most_rows: int) -> None:
        self._node, self._left, self._whole = node, most_rows, True
        self._counts: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._shown: Counter[str] = Counter()
        self._rejects = list[TriedReject]()
        self._digests = list[Any]()

    def add(self, block: Block) -> bool:
        """Take a block in; returns whether no more is wanted."""
        if self._left <= 0:
            self._whole = self._whole and block.table.num_rows == 0
            return not self._whole
        table = block.table[: self._left]
        self._whole = table.num_rows == block.table.num_rows
        self._left -= table.num_rows
        malformed = None if block.malformed is None else block.malformed[: table.num_rows]
        self._count(clean(table, self._node, "", block.rows[: table.num_rows], malformed))
        return not self._whole

    def _count(self, cleaned: Cleaned) -> None:
        self._counts.update(read=cleaned.read, accepted=len(cleaned.accepted))
        self._rejected.update(cleaned.rejected)
        self._dropped.update(cleaned.dropped)
        self._digests.append(cleaned.events["digest"].combine_chunks())
        rules: list[str] = cleaned.rejects["rule"].to_pylist()
        wanted = [at for at, rule in enumerate(rules) if self._is_shown(rule)]
        for row in finish_rejects(cleaned.rejects.take(pa.array(wanted, pa.int64())), self._node).to_pylist():
            fields = {name: row[name] for name in ("row", "rule", "column", "value", "record")}
            self._rejects.append(TriedReject(**fields))

    def _is_shown(self, rule: str) -> bool:
        if self._shown[rule] >= _EXAMPLES or self._shown.total() >= _MOST_EXAMPLES:
            return False
        self._shown[rule] += 1
        return True

    def result(self) -> Tried:
        """Return what was found."""
        raw = np.concatenate([np.zeros((0, 16), np.uint8), *(raw_bytes(one)[:, :16] for one in self._digests)])
        return Tried(
            node=self._node.name,
            read=self._counts["read"],
            accepted=self._counts["accepted"],
            duplicates=len(raw) - len(np.unique(raw, axis=0)),
            rejected=dict(self._rejected.most_common()),
            dropped=dict(self._dropped),
            whole=self._whole,
            rejects=tuple(sorted(self._rejects, key=lambda reject: reject.row)),
        )
