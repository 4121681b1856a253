"""The stages of an ingestion: read, clean and stage blocks of the input; join, finish and write partitions of the rows.

Each takes rows of a Ray Data dataset, which are whole blocks (see `data.ingest.blocks`), and yields others. They run in
Ray's workers, as `data.ingest.pipeline` connects them.

A block's accepted and rejected rows are staged as two Arrow files with one record batch for each *partition*: the rows
whose digest begins with the same bits. All rows with one id therefore meet in one partition, and a partition is small
enough to be merged in memory whatever the size of the input.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.archive.parquet import KINDS, Archive, Kind, write_part
from data.ingest.blocks import each, pack, unpack, unpack_array
from data.ingest.clean import clean, finish_events, finish_rejects
from data.ingest.reading import Piece, read_piece
from data.nodes.digest import raw_bytes
from data.nodes.node import NodeSpec
from data.nodes.scaler import Moments, Scaler
from data.private import create_private

PARTITION_ROWS = 1_000_000
MOST_BITS = 12
"""At most this many bits of a digest tell its partition: 4,096 partitions."""
REPORT = pa.schema(
    [
        *((name, pa.string()) for name in ("kind", "prefix", "path")),
        *((name, pa.int64()) for name in ("new", "duplicates", "known")),
    ]
)
"""What is known of a partition that was written."""


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


def read_blocks(pieces: Sequence[Piece], node: NodeSpec) -> Iterator[pa.Table]:
    """Read pieces of the input; yields a row for each block: piece, source, first row, rows, positions, malformed.

    Raises:
        DataError: a file turned out to be damaged.
    """
    for piece in pieces:
        for block in read_piece(piece, node):
            if block.table.num_rows:
                yield pack(
                    piece=piece.number,
                    source=piece.file.uri,
                    first=pc.min(block.rows).as_py(),
                    rows=block.table,
                    positions=block.rows,
                    malformed=block.malformed,
                )


def clean_blocks(batch: pa.Table, node: NodeSpec) -> Iterator[pa.Table]:
    """Clean blocks; yields a row for each: its name, events, rejects, counts, distinct ids and moments."""
    for row in each(batch):
        malformed = None if pa.types.is_null(row["malformed"].type) else unpack_array(row, "malformed")
        raw, positions = unpack(row, "rows"), unpack_array(row, "positions")
        cleaned = clean(raw, node, row["source"][0].as_py(), positions, malformed)
        moments = {
            f"moments_{column.name}": Moments.of(cleaned.events[column.stored_name].combine_chunks()).model_dump()
            for column in node.scaled_columns
        }
        distinct = {
            f"distinct_{role}": cleaned.events[column.stored_name].chunk(0).dictionary
            for role in ("user", "item", "session")
            if (column := node.with_role(role))
        }
        yield pack(
            block=f"{row['piece'][0].as_py():08d}-{row['first'][0].as_py():014d}",
            events=cleaned.events,
            rejects=cleaned.rejects,
            read=cleaned.read,
            accepted=cleaned.events.num_rows,
            rejected=_counts(cleaned.rejected),
            dropped=_counts(cleaned.dropped),
            **distinct,
            **moments,
        )


def _counts(counts: Mapping[str, int]) -> pa.Array:
    """Return counts by name as an array of pairs."""
    pairs = [{"name": name, "count": count} for name, count in counts.items()]
    return pa.array(pairs, pa.struct({"name": pa.string(), "count": pa.int64()}))


def stage_blocks(batch: pa.Table, job: Job) -> Iterator[pa.Table]:
    """Write the events and rejects of blocks, by partition; yields what else is known about each block."""
    create_private()
    for row in each(batch):
        for kind in KINDS:
            _write_partitions(unpack(row, kind), f"{job.staging}/{row['block'][0].as_py()}.{kind}", job)
        yield row.drop_columns(list(KINDS))


def _write_partitions(table: pa.Table, path: str, job: Job) -> None:
    """Write a table as one record batch a partition, in the order of the partitions, rows in their order."""
    partitions = _choose_partitions(table["digest"].combine_chunks(), job.bits)
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


def _choose_partitions(digests: pa.Array, bits: int) -> npt.NDArray[np.uint16]:
    """Return [N] partitions: the first bits of each digest."""
    raw = raw_bytes(digests)
    first = raw[:, 0].astype(np.uint32) << 8 | raw[:, 1]
    return (first >> (16 - bits)).astype(np.uint16)


def join_partitions(partitions: Sequence[int], job: Job, staged: Sequence[str]) -> Iterator[pa.Table]:
    """Bring together the staged rows of some partitions; of rows with one id, the first in the order of the input.

    Args:
        partitions: their numbers.
        job: what the run is.
        staged: names of the staged blocks, in the order of the input.

    Yields:
        A row for each partition and kind: kind, prefix, rows, and the number of duplicates that were left out.
    """
    for kind in KINDS:
        paths = [f"{job.staging}/{block}.{kind}" for block in staged]
        files = [pa.ipc.open_file(job.archive.filesystem.open_input_file(path)) for path in paths]
        for partition in partitions:
            rows = _join_batches([file.get_batch(partition) for file in files])
            first = _is_first(rows["digest"].combine_chunks())
            unique = rows if first.all() else rows.filter(pa.array(first))
            duplicates = rows.num_rows - unique.num_rows
            yield pack(kind=kind, prefix=job.prefix(partition), rows=unique, duplicates=duplicates)


def finish_partitions(
    batch: pa.Table, job: Job, parts: Mapping[Kind, Sequence[tuple[str, str]]], scaler: Scaler | None
) -> Iterator[pa.Table]:
    """Give rows their ids and scaled values, and leave out what the archive has; yields rows, with how many it had.

    Args:
        batch: rows of `join_partitions`.
        job: what the run is.
        parts: what `Archive.parts` gives of each kind.
        scaler: what the node's columns are scaled with.
    """
    for row in each(batch):
        kind, prefix, rows = row["kind"][0].as_py(), row["prefix"][0].as_py(), unpack(row, "rows")
        if kind == "events":
            table = finish_events(rows, job.node, scaler, encoded_text=True)
        else:
            table = finish_rejects(rows, job.node, encoded_text=True)
        for own, path in parts[kind]:
            if own.startswith(prefix) or prefix.startswith(own):
                table = _drop_known(table, _identity(kind), path, job)
        known = rows.num_rows - table.num_rows
        yield pack(kind=kind, prefix=prefix, rows=table, duplicates=row["duplicates"][0].as_py(), known=known)


def _drop_known(table: pa.Table, identity: str, path: str, job: Job) -> pa.Table:
    with job.archive.filesystem.open_input_file(path) as stream:
        known = pq.read_table(stream, columns=[identity], use_threads=False)[identity]
    return table.filter(pc.invert(pc.is_in(table[identity], known)))


def write_partitions(batch: pa.Table, job: Job) -> pa.Table:
    """Write rows of partitions as Parquet, still in the staging folder.

    Returns:
        A row for each of the batch: kind, prefix, path of the file (null where nothing is new), and the numbers of
        new, duplicate and already known rows.
    """
    create_private()
    reports = []
    for row in each(batch):
        table = unpack(row, "rows")
        report = row.drop_columns(["rows"]).to_pylist()[0] | {"new": table.num_rows, "path": None}
        if table.num_rows:
            report["path"] = f"{job.staging}/{report['kind']}-{report['prefix']}.parquet"
            write_part(table, report["path"], _identity(report["kind"]), job.archive)
        reports.append(report)
    return pa.Table.from_pylist(reports, REPORT)


def _identity(kind: Kind) -> str:
    return f"{kind.removesuffix('s')}_id"


def _join_batches(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Return the rows of all batches as one chunk, each text column with one dictionary for all."""
    columns = {}
    for name in batches[0].schema.names:
        parts = [batch[name] for batch in batches]
        columns[name] = _unify(parts) if pa.types.is_dictionary(parts[0].type) else pa.concat_arrays(parts)
    return pa.table(columns)


def _unify(parts: Sequence[pa.Array]) -> pa.Array:
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
