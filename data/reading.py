"""Rows of files as blocks of bounded size. No Ray.

What one task reads is a list of pieces: row groups of a Parquet file, or a whole CSV or JSON Lines file. A piece is
read as a stream of blocks, so memory depends neither on the size of a file nor on that of the input.
"""

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from data.errors import DataError
from data.files import InputFile
from data.lines import parse_line, record_table, value_text
from data.node import NodeSpec

BLOCK_ROWS = 280_000
BLOCK_BYTES = 64 << 20
CSV_BLOCK_BYTES = 16 << 20
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
    try:
        yield from {"parquet": _read_parquet, "csv": _read_csv, "jsonl": _read_jsonl}[piece.file.format](piece, node)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(f"cannot read {piece.file.uri} to its end: {' '.join(str(error).split())}") from error


def _read_parquet(piece: Piece, node: NodeSpec) -> Iterator[Block]:
    headers = [column.header for column in node.columns]
    groups = [piece.file.groups[index] for index in piece.groups]
    rows = sum(group.rows for group in groups)
    width = sum(group.size for group in groups) / max(rows, 1)
    most = max(1, min(BLOCK_ROWS, int(BLOCK_BYTES / max(width, 1))))
    size = -(-rows // max(1, -(-rows // most)))  # equal blocks: no small remainder at the end
    position = piece.first_row
    with piece.file.filesystem.open_input_file(piece.file.path) as stream:
        schema = pq.read_schema(stream)
        strings = [name for name in headers if pa.types.is_string(schema.field(name).type)]
        source = pq.ParquetFile(stream, read_dictionary=strings, pre_buffer=False)
        for batch in source.iter_batches(
            max(size, 1), row_groups=list(piece.groups), columns=headers, use_threads=False
        ):
            yield Block(pa.Table.from_batches([batch]).select(headers), _positions(position, len(batch)))
            position += len(batch)


def _read_csv(piece: Piece, node: NodeSpec) -> Iterator[Block]:
    headers = [column.header for column in node.columns]
    invalid: list[tuple[int, str]] = []

    def keep_invalid(row: pacsv.InvalidRow) -> str:
        invalid.append((row.number - 2, row.text))  # Arrow counts from 1, the header included
        return "skip"

    with piece.file.open() as stream:
        reader = pacsv.open_csv(
            stream,
            read_options=pacsv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep_invalid),
            # As bytes: text that is not UTF-8 is one row's fault, not the file's.
            convert_options=pacsv.ConvertOptions(
                include_columns=headers, column_types=dict.fromkeys(headers, pa.binary()), strings_can_be_null=True,
                null_values=[""], quoted_strings_can_be_null=True, check_utf8=False,
            ),
        )  # fmt: skip
        position = 0
        for batch in reader:
            table, bad = _decode(pa.Table.from_batches([batch]))
            skipped = np.array([number for number, _ in invalid], dtype=np.int64)
            around = np.arange(position, position + len(batch) + len(skipped))
            rows = np.setdiff1d(around, skipped)[: len(batch)]
            position = int(rows[-1]) + 1 if len(rows) else position
            before = [row for row in invalid if row[0] < position]
            invalid[:] = [row for row in invalid if row[0] >= position]
            yield _with_invalid(table, rows, bad, before)
        if invalid:
            nothing = pa.table({header: pa.array([], pa.string()) for header in headers})
            yield _with_invalid(nothing, np.array([], np.int64), pa.array([], pa.string()), invalid)


def _with_invalid(table: pa.Table, rows: npt.NDArray[np.int64], bad: pa.Array, invalid: list[tuple[int, str]]) -> Block:
    """Append the lines that had too few or too many values, as rows without values."""
    if not invalid:
        return Block(table, pa.array(rows), bad)
    empty = pa.table({name: pa.nulls(len(invalid), pa.string()) for name in table.column_names})
    numbers = np.concatenate([rows, np.array([number for number, _ in invalid], dtype=np.int64)])
    lines = pa.concat_arrays([bad, pa.array([line for _, line in invalid], pa.string())])
    return Block(pa.concat_tables([table, empty]), pa.array(numbers), lines)


def _decode(table: pa.Table) -> tuple[pa.Table, pa.Array]:
    """Turn bytes into text; also return [N] strings: the first value of a row that is not UTF-8, null if all are."""
    bad = pa.nulls(table.num_rows, pa.string())
    columns = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        try:
            columns[name] = column.cast(pa.string())
        except pa.ArrowInvalid:
            values = column.to_pylist()
            texts = [value if value is None else value.decode(errors="backslashreplace") for value in values]
            columns[name] = pa.array(texts, pa.string())
            wrong = [
                text if value != (text and text.encode()) else None for value, text in zip(values, texts, strict=True)
            ]
            bad = pc.coalesce(bad, pa.array(wrong, pa.string()))
    return pa.table(columns), bad


def _read_jsonl(piece: Piece, node: NodeSpec) -> Iterator[Block]:
    with piece.file.open() as stream:
        lines = enumerate(io.BufferedReader(stream, CSV_BLOCK_BYTES))
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
