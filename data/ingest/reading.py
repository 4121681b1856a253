"""Rows of files as blocks of bounded size. No Ray.

What one task reads is a list of pieces: row groups of a Parquet file, or a whole CSV or JSON Lines file. A piece is
read as a stream of blocks, so memory depends neither on the size of a file nor on that of the input.
"""

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.errors import DataError, UnreadableError
from data.ingest.csv_blocks import Rows, read_rows
from data.ingest.files import InputFile
from data.ingest.lines import parse_line, record_table, value_text
from data.nodes.node import NodeSpec

BLOCK_ROWS = 280_000
BLOCK_BYTES = 64 << 20
JSON_BUFFER_BYTES = 16 << 20
JSON_LINES = 50_000
LEAST_TASK_ROWS, MOST_TASK_ROWS = 250_000, 4_000_000
"""A task with fewer rows is not worth its start; one with more is a lot to repeat when its machine is lost."""


@dataclass(frozen=True)
class Piece:
    """What is read in one go; `groups` are row groups of a Parquet file and `first_row` the position of the first."""

    number: int
    file: InputFile
    groups: tuple[int, ...] = ()
    first_row: int = 0


@dataclass(frozen=True)
class Block:
    """Some rows of a file."""

    table: pa.Table
    """[N] rows: the node's columns under their headers."""
    rows: pa.Array
    """[N] int64 positions in the file."""
    malformed: pa.Array | None = None
    """[N] strings: the text of a line that could not be parsed, null for the others."""


def task_rows(files: Sequence[InputFile], tasks: int) -> int:
    """Return how many rows a task should have if the files are to be read by about this many tasks."""
    return min(max(sum(file.rows for file in files) // tasks, LEAST_TASK_ROWS), MOST_TASK_ROWS)


def divide(files: Sequence[InputFile], rows_per_task: int) -> Iterator[list[Piece]]:
    """Divide files, in order, into tasks of about `rows_per_task` rows; a row group or a text file is never cut."""
    task: list[Piece] = []
    held = 0
    for number, file in enumerate(files):
        first = 0
        parts: list[tuple[tuple[int, ...], int]]
        parts = [((index,), group.rows) for index, group in enumerate(file.groups)] or [((), file.rows)]
        for groups, rows in parts:
            if task and groups and task[-1].number == number:
                task[-1] = replace(task[-1], groups=task[-1].groups + groups)
            else:
                task.append(Piece(number, file, groups, first))
            first, held = first + rows, held + rows
            if held >= rows_per_task:
                yield task
                task, held = [], 0
    if task:
        yield task


def read_piece(piece: Piece, node: NodeSpec) -> Iterator[Block]:
    """Yield the blocks of a piece.

    Raises:
        DataError: the file turned out to be damaged after its beginning had been checked.
    """
    blocks = {"parquet": _read_parquet, "csv": _read_csv, "jsonl": _read_jsonl}[piece.file.format](piece, node)
    try:
        for block in blocks:
            yield replace(block, table=_with_partition(block.table, piece.file, node))
    except (OSError, EOFError, UnicodeError, pa.ArrowException, UnreadableError) as error:
        raise DataError(f"cannot read {piece.file.uri} to its end: {' '.join(str(error).split())}") from error


def _with_partition(table: pa.Table, file: InputFile, node: NodeSpec) -> pa.Table:
    """Return the node's columns, those that the file lacks with the values that its path gives them."""
    columns = {name: table[name] for name in table.column_names}
    for name, value in file.partition:
        codes = pa.array(np.zeros(table.num_rows, np.int32))
        given = pa.DictionaryArray.from_arrays(codes, pa.array([value], pa.string()))
        own = columns.get(name)
        columns[name] = given if own is None else pc.coalesce(own, given.cast(pa.string()))
    return pa.table({column.header: columns[column.header] for column in node.columns})


def _read_parquet(piece: Piece, node: NodeSpec) -> Iterator[Block]:
    headers = piece.file.own(node)
    groups = [piece.file.groups[index] for index in piece.groups]
    rows = sum(group.rows for group in groups)
    width = sum(group.size for group in groups) / max(rows, 1)
    most = max(1, min(BLOCK_ROWS, int(BLOCK_BYTES / max(width, 1))))
    size = -(-rows // max(1, -(-rows // most)))  # equal blocks: no small remainder at the end
    position = piece.first_row
    with piece.file.filesystem.open_input_file(piece.file.path) as stream:
        schema = pq.read_schema(stream)
        strings = [name for name in headers if pa.types.is_string(schema.field(name).type)]
        parquet = pq.ParquetFile(stream, read_dictionary=strings, pre_buffer=False)
        for batch in parquet.iter_batches(
            max(size, 1), row_groups=list(piece.groups), columns=headers, use_threads=False
        ):
            yield Block(pa.Table.from_batches([batch]), _positions(position, len(batch)))
            position += len(batch)
    if position - piece.first_row != rows:
        raise UnreadableError(f"{position - piece.first_row} rows were read of {rows}")


def _read_csv(piece: Piece, node: NodeSpec) -> Iterator[Block]:
    with piece.file.open() as stream:
        yield from map(_append_malformed, read_rows(stream, node.csv, piece.file.own(node)))


def _append_malformed(rows: Rows) -> Block:
    """Append the lines that could not be parsed, as rows without values."""
    if not rows.malformed:
        return Block(rows.table, pa.array(rows.positions), rows.undecoded)
    positions, lines = zip(*rows.malformed, strict=True)
    empty = pa.table({name: pa.nulls(len(lines), pa.string()) for name in rows.table.column_names})
    return Block(
        pa.concat_tables([rows.table, empty]),
        pa.array(np.concatenate([rows.positions, np.array(positions, dtype=np.int64)])),
        pa.concat_arrays([rows.undecoded, pa.array(lines, pa.string())]),
    )


def _read_jsonl(piece: Piece, node: NodeSpec) -> Iterator[Block]:
    with piece.file.open() as stream:
        lines = enumerate(io.BufferedReader(stream, JSON_BUFFER_BYTES))
        while numbered := list(itertools.islice(lines, JSON_LINES)):
            held = [(number, parse_line(line)) for number, line in numbered if line.strip()]
            records = [record if isinstance(record, dict) else {} for _, record in held]
            bad = [None if isinstance(record, dict) else value_text(record) for _, record in held]
            # A line that holds null is malformed too, and its text is not missing.
            bad = ["null" if record is None else line for (_, record), line in zip(held, bad, strict=True)]
            rows = pa.array([number for number, _ in held], pa.int64())
            yield Block(record_table(records, node), rows, pa.array(bad, pa.string()))


def _positions(first: int, count: int) -> pa.Array:
    return pa.array(np.arange(first, first + count, dtype=np.int64))
