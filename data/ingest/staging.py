"""The two tasks of an ingestion: stage a piece of the input; merge a partition. Runs in Ray workers, imports no Ray.

A block's accepted and rejected rows are staged as two Arrow files with one record batch for each *partition*: the rows
whose digest begins with the same bits. All rows with one id therefore meet in one partition, and a
partition is small enough to be merged in memory whatever the size of the input.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.archive.parquet import KINDS, Archive, Kind, write_part
from data.ingest.clean import clean, finish_events, finish_rejects
from data.ingest.reading import Block, Piece, read_piece
from data.nodes.digest import raw_bytes
from data.nodes.node import NodeSpec
from data.nodes.scaler import Moments, Scaler
from data.private import create_private

PARTITION_ROWS = 1_000_000
MOST_BITS = 12
"""At most this many bits of a digest tell its partition: 4,096 partitions."""
Finish: TypeAlias = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Job:
    """What every task of one run knows."""

    archive: Archive
    node: NodeSpec
    staging: str
    run: str
    bits: int
    """How many bits of a digest tell its partition."""

    def prefix(self, partition: int) -> str:
        """Return the bits with which the digests of a partition begin."""
        return f"{partition:0{self.bits}b}" if self.bits else ""


def bits_for(rows: int) -> int:
    """Return how many bits give partitions of about `PARTITION_ROWS` rows or fewer."""
    return next((bits for bits in range(MOST_BITS) if rows <= PARTITION_ROWS << bits), MOST_BITS)


def stage_piece(piece: Piece, job: Job) -> Iterator[pa.Table]:
    """Read, clean and stage a piece of the input; yields the report of each of its blocks.

    Raises:
        DataError: the file turned out to be damaged.
    """
    create_private()
    for block in read_piece(piece, job.node):
        if block.table.num_rows:
            yield stage_block(block, piece, job)


def stage_block(block: Block, piece: Piece, job: Job) -> pa.Table:
    """Clean a block and stage its rows.

    Returns:
        One row of what there is to know about the block: its files, counts, distinct ids and moments.
    """
    cleaned = clean(block.table, job.node, piece.file.uri, block.rows, block.malformed)
    path = f"{job.staging}/{piece.number:08d}-{pc.min(block.rows).as_py():014d}"
    for kind, table in zip(KINDS, (cleaned.events, cleaned.rejects), strict=True):
        _write_partitions(table, f"{path}.{kind}", job)
    moments = {
        column.name: Moments.of(cleaned.events[column.stored].combine_chunks()).model_dump()
        for column in job.node.scaled
    }
    distinct = {
        role: cleaned.events[column.stored].chunk(0).dictionary
        for role in ("user", "item", "session")
        if (column := job.node.with_role(role))
    }
    report = {"path": path, "read": cleaned.read, "accepted": cleaned.events.num_rows}
    pairs = {"rejected": cleaned.rejected, "dropped": cleaned.dropped}
    return pa.table(
        {name: [value] for name, value in report.items()}
        | {name: pa.array([list(value.items())], pa.map_(pa.string(), pa.int64())) for name, value in pairs.items()}
        | {f"distinct_{role}": pa.array([values], pa.list_(pa.string())) for role, values in distinct.items()}
        | {f"moments_{name}": [values] for name, values in moments.items()}
    )


def _write_partitions(table: pa.Table, path: str, job: Job) -> None:
    """Write a table as one record batch a partition, in the order of the partitions, rows in their order."""
    partitions = _partition_of(table["digest"].combine_chunks(), job.bits)
    order = np.argsort(partitions, kind="stable")
    bounds = np.searchsorted(partitions[order], np.arange((1 << job.bits) + 1))
    sorted_rows = table.take(pa.array(order)).combine_chunks()
    (batch,) = sorted_rows.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
    with (
        job.archive.filesystem.open_output_stream(path) as stream,
        pa.ipc.new_file(stream, table.schema) as writer,
    ):
        for start, end in itertools.pairwise(bounds):
            writer.write_batch(batch.slice(start, end - start))


def _partition_of(digests: pa.Array, bits: int) -> npt.NDArray[np.uint16]:
    """Return [N] partitions: the first bits of each digest."""
    raw = raw_bytes(digests)
    first = raw[:, 0].astype(np.uint32) << 8 | raw[:, 1]
    return (first >> (16 - bits)).astype(np.uint16)


def merge_partitions(partitions: Sequence[int], job: Job, staged: Sequence[str], scaler: Scaler | None) -> pa.Table:
    """Bring together the staged rows of some partitions, without duplicates and without what the archive has.

    Of rows with one id, the first in the order of the input is kept.

    Args:
        partitions: their numbers.
        job: what the run is.
        staged: paths of the staged blocks without extension, in the order of the input.
        scaler: what the node's columns are scaled with.

    Returns:
        One row for each partition and kind: kind, path of the Parquet file in the staging folder (null where nothing
        is new), prefix, and the numbers of new, duplicate and already known rows.
    """
    create_private()
    finish: dict[Kind, Finish] = {
        "events": lambda table: finish_events(table, job.node, scaler, encoded_text=True),
        "rejects": lambda table: finish_rejects(table, job.node, encoded_text=True),
    }
    reports = []
    for kind in KINDS:
        parts = job.archive.parts(kind, job.node.name)
        files = [pa.ipc.open_file(job.archive.filesystem.open_input_file(f"{path}.{kind}")) for path in staged]
        for partition in partitions:
            table = _joined([file.get_batch(partition) for file in files])
            reports.append(_merge(table, kind, job.prefix(partition), parts, job, finish[kind]))
    return pa.Table.from_pylist(reports)


def _merge(
    staged: pa.Table,
    kind: Kind,
    prefix: str,
    parts: list[tuple[str, str]],
    job: Job,
    finish: Callable[[pa.Table], pa.Table],
) -> dict[str, Any]:
    """Merge one partition of one kind; returns its row of `merge_partitions`."""
    identity = f"{kind.removesuffix('s')}_id"
    first = _is_first(staged["digest"].combine_chunks())
    unique = staged if first.all() else staged.filter(pa.array(first))
    table = finish(unique)
    overlapping = [path for own, path in parts if own.startswith(prefix) or prefix.startswith(own)]
    for path in overlapping:
        with job.archive.filesystem.open_input_file(path) as stream:
            known = pq.read_table(stream, columns=[identity], use_threads=False)[identity]
        table = table.filter(pc.invert(pc.is_in(table[identity], known)))
    report = {
        "kind": kind,
        "prefix": prefix,
        "path": f"{job.staging}/{kind}-{prefix}.parquet" if table.num_rows else None,
        "new": table.num_rows,
        "duplicates": staged.num_rows - unique.num_rows,
        "known": unique.num_rows - table.num_rows,
    }
    if report["path"]:
        write_part(table, report["path"], identity, job.archive)
    return report


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Return the rows of all batches as one chunk, each text column with one dictionary for all."""
    columns = {}
    for name in batches[0].schema.names:
        parts = [batch[name] for batch in batches]
        columns[name] = _unified(parts) if pa.types.is_dictionary(parts[0].type) else pa.concat_arrays(parts)
    return pa.table(columns)


def _unified(parts: Sequence[pa.Array]) -> pa.Array:
    """Join dictionary arrays; the dictionary of the result has each value once and none that no row has.

    Arrow's own `unify_dictionaries` keeps the values that no row has: in a partition, those of the whole input.
    """
    indices, distinct, count = [], [], 0
    for part in parts:
        used = np.zeros(len(part.dictionary), dtype=np.bool_)
        used[part.indices.drop_null().to_numpy()] = True
        positions = np.cumsum(used, dtype=np.int32) + np.int32(count - 1)
        indices.append(pa.array(positions).take(part.indices))
        distinct.append(part.dictionary.filter(pa.array(used)))
        count += len(distinct[-1])
    values = pa.concat_arrays(distinct).dictionary_encode()
    return pa.DictionaryArray.from_arrays(values.indices.take(pa.concat_arrays(indices)), values.dictionary)


def _is_first(digests: pa.Array) -> npt.NDArray[np.bool_]:
    """Return [N] bool: no row before has the same digest."""
    codes = digests.dictionary_encode().indices.to_numpy()  # numbered in the order of first appearance
    first = np.ones(len(codes), dtype=np.bool_)
    first[1:] = codes[1:] > np.maximum.accumulate(codes)[:-1]
    return first
