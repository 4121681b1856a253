"""CSV as blocks of rows: encodings, headers, and quotes that are never closed. No Ray.

pyarrow parses. A file is cut at line breaks into blocks, and one in which pyarrow finds as many rows as there are lines
is as it should be. In another, values go over several lines: it is cut into rows one by one, and of a row that has a
stray quote only the first line is malformed. What pyarrow finds must then be as many rows as were cut.
"""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from data.errors import UnreadableError
from data.ingest.csv_lexer import Lexer, split
from data.nodes.dialect import Csv

BLOCK_BYTES = 16 << 20
"""Of text that is parsed at once; no line may be longer."""
HEAD_BYTES = 1 << 20
HEAD_ROWS = 10
"""Of a file without a header that are looked at before it is read."""
BOMS = {
    codecs.BOM_UTF32_LE: "utf-32-le",  # before the one of UTF-16, which it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a file."""

    table: pa.Table
    """[N] strings: the wanted columns of the rows that could be parsed."""
    positions: npt.NDArray[np.int64]
    """[N] of these in the file; the header has none."""
    undecoded: pa.Array
    """[N] strings: the first value that is not in the file's encoding, null if all are."""
    malformed: list[tuple[int, str]]
    """Position and text of each of the others."""


def read_names(stream: Any, csv: Csv) -> list[str] | None:
    """Return the names of a file's columns, None if there is nothing in it.

    Raises:
        UnreadableError: the first line cannot be read, or has not one value for each declared name.
    """
    lexer = Lexer(csv)
    for data, _ in _blocks(stream, csv.encoding, HEAD_BYTES):
        names, _ = _names(lexer, data)
        if names is not None:
            return names
    return None


def read_rows(stream: Any, csv: Csv, wanted: Sequence[str]) -> Iterator[Rows]:
    """Yield the rows of a file, block by block.

    Args:
        stream: of the file's uncompressed bytes.
        csv: how it is written.
        wanted: names of columns that the file has.

    Raises:
        UnreadableError: the file is not CSV of this kind.
        pyarrow.ArrowException, OSError: it cannot be read.
    """
    lexer, names, rest, first = Lexer(csv), None, b"", 0
    for chunk, is_last in _blocks(stream, csv.encoding):
        data = rest + chunk
        if names is None:
            names, header_end = _names(lexer, data)
            data = data[header_end:]
        if names is not None:
            rows, rest = _parse_block(lexer, data, is_last, [names.index(name) for name in wanted], len(names), first)
            first += len(rows.positions) + len(rows.malformed)
            yield Rows(rows.table.rename_columns(list(wanted)), rows.positions, rows.undecoded, rows.malformed)


def _blocks(stream: Any, encoding: str, size: int = 0) -> Iterator[tuple[bytes, bool]]:
    """Yield a file as UTF-8, whole lines at a time, and whether it is the last; bytes that cannot be decoded stay.

    Raises:
        UnreadableError: a line is longer than a block.
    """
    rest = b""
    for text in _utf8(stream, encoding, size or BLOCK_BYTES):
        text = rest + text
        end = max(text.rfind(b"\n"), -1 if b"\n" in text else text.rfind(b"\r")) + 1
        if not end and len(text) > BLOCK_BYTES:
            raise UnreadableError(
                f"a line is longer than {BLOCK_BYTES >> 20} MiB: this is no CSV, or its lines have no end"
            )
        if end:
            yield text[:end], False
        rest = text[end:]
    yield rest, True


def _utf8(stream: Any, encoding: str, size: int) -> Iterator[bytes]:
    """Yield a file in parts of so many bytes, as UTF-8."""
    chunk = stream.read(size)
    for mark, marked in BOMS.items():
        if chunk.startswith(mark):
            chunk, encoding = chunk[len(mark) :], marked
            break
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    while chunk:
        yield chunk if is_utf8 else decoder.decode(chunk).encode(errors="surrogateescape")
        chunk = stream.read(size)
    yield decoder.decode(b"", final=True).encode(errors="surrogateescape")


def _names(lexer: Lexer, data: bytes) -> tuple[list[str] | None, int]:
    """Return the names of the columns, and where in the first block the header ends; None: there are only blanks."""
    start = len(data) - len(data.lstrip(b"\r\n"))
    if start == len(data):
        return None, start
    if lexer.csv.header:
        return _declared_names(lexer, data, start)
    match = lexer.row.match(data, start)
    if not match or lexer.is_stray(data, start):
        raise UnreadableError(f"the quotes of its first line do not close: {_shorten(data[start : start + 200])}")
    try:
        return _texts(lexer, match[0]), match.end()
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"its header is not {lexer.csv.encoding}: {_shorten(match[0])}; "
            "name its encoding, such as latin-1 or cp1252, as encoding in [csv] of the node"
        ) from error


def _declared_names(lexer: Lexer, data: bytes, start: int) -> tuple[list[str], int]:
    """Return the declared names, and where a header ends that is there all the same."""
    names, found, at = list(lexer.csv.header), list[list[str]](), start
    while at < len(data) and len(found) < HEAD_ROWS and (match := lexer.row.match(data, at)):
        found.append(_texts(lexer, match[0].decode(errors="backslashreplace").encode()))
        at = match.end()
        if found == [names]:
            return names, at
    if found and all(len(values) != len(names) for values in found):
        raise UnreadableError(
            f"its first line has {len(found[0])} values, header in [csv] of the node names {len(names)}"
        )
    return names, start


def _texts(lexer: Lexer, row: bytes) -> list[str]:
    values = [value.decode() for value in lexer.values(lexer.joined(row))]
    return [value.strip() for value in values] if lexer.csv.trim else values


def _parse_block(
    lexer: Lexer, data: bytes, is_last: bool, wanted: Sequence[int], width: int, first: int
) -> tuple[Rows, bytes]:
    """Parse a block; returns its rows, and the bytes of one that goes on in the next block.

    Raises:
        UnreadableError: not every row was accounted for.
    """
    lines = data.splitlines()
    count = sum(map(bool, lines))
    longest = max(map(len, lines), default=0)
    last = next((line for line in reversed(lines) if line), b"")
    stray: list[tuple[int, bytes]] = []
    rest = b""
    may_break = bool(lexer.quote) and lexer.quote in data
    del lines
    parsed = None
    if not may_break or (longest <= lexer.csv.max_value_bytes and lexer.row.fullmatch(last)):
        parsed = _parse(lexer, data, wanted, width)
        if parsed.count != count and may_break:
            parsed = None
    if parsed is None:
        cut = split(lexer, data, is_last)
        count, stray, rest = cut.count, cut.stray, cut.rest
        parsed = _parse(lexer, b"".join(cut.rows), wanted, width)
    if parsed.count != count - len(stray):
        raise UnreadableError(f"of {count - len(stray)} rows after row {first}, {parsed.count} were parsed")
    positions = np.delete(np.arange(count), [number for number, _ in stray])  # of what pyarrow has parsed
    skipped = [number for number, _ in parsed.invalid]
    malformed = [(first + number, lexer.text(_readable(line))) for number, line in stray]
    malformed += [(first + int(positions[number]), lexer.text(line)) for number, line in parsed.invalid]
    return Rows(parsed.table, first + np.delete(positions, skipped), parsed.undecoded, sorted(malformed)), rest


@dataclass(frozen=True)
class _Parsed:
    table: pa.Table
    undecoded: pa.Array
    invalid: list[tuple[int, str]]
    """Number, from 0, and text of each row with too few or too many values."""

    @property
    def count(self) -> int:
        return int(self.table.num_rows) + len(self.invalid)


def _parse(lexer: Lexer, data: bytes, wanted: Sequence[int], width: int) -> _Parsed:
    """Parse whole rows."""
    data = lexer.joined(data)
    is_text = _is_utf8(data)
    if not is_text:  # byte by byte, so that what is not UTF-8 is one row's fault
        data = data.decode("latin-1").encode()
    table, invalid = _arrow(lexer, data, wanted, width)
    undecoded = pa.nulls(table.num_rows, pa.string())
    if not is_text:
        invalid = [(number, _readable(line.encode("latin-1"))) for number, line in invalid]
        table, undecoded = _decode(table)
    if lexer.csv.trim:
        columns = [pc.utf8_trim_whitespace(column) for column in table.columns]
        table = pa.Table.from_arrays(columns, names=table.column_names)
    return _Parsed(table, undecoded, invalid)


def _arrow(lexer: Lexer, data: bytes, wanted: Sequence[int], width: int) -> tuple[pa.Table, list[tuple[int, str]]]:
    """Parse UTF-8; returns the wanted columns as text, named by their position, and the rows that were passed over."""
    names, kept = [str(position) for position in range(width)], [str(position) for position in wanted]
    if not data.strip(b"\r\n"):
        return pa.table({name: pa.array([], pa.string()) for name in kept}), []
    invalid: list[tuple[int, str]] = []

    def keep(row: pacsv.InvalidRow) -> str:
        invalid.append((row.number - 1, row.text))
        return "skip"

    table = pacsv.read_csv(
        pa.BufferReader(data),
        pacsv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
        pacsv.ParseOptions(
            delimiter=lexer.delimiter.decode(), quote_char=lexer.csv.quote or False, newlines_in_values=True,
            invalid_row_handler=keep,
        ),
        pacsv.ConvertOptions(
            include_columns=kept, column_types=dict.fromkeys(kept, pa.string()), strings_can_be_null=True,
            null_values=[""], quoted_strings_can_be_null=True, check_utf8=False,
        ),
    )  # fmt: skip
    return table, invalid


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    ends = pa.py_buffer(np.array([0, len(data)], dtype=np.int64))
    try:
        pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(data)]).cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def _decode(table: pa.Table) -> tuple[pa.Table, pa.Array]:
    """Turn bytes that were read one by one into text; also return the first value of a row that is not UTF-8."""
    bad = pa.nulls(table.num_rows, pa.string())
    columns = {}
    for name in table.column_names:
        columns[name] = table[name]
        if pc.all(pc.string_is_ascii(table[name]), min_count=0).as_py():
            continue
        values = [None if value is None else value.encode("latin-1") for value in table[name].to_pylist()]
        texts = [None if value is None else _readable(value) for value in values]
        columns[name] = pa.array(texts, pa.string())
        wrong = [
            None if text is None or text.encode() == value else text for value, text in zip(values, texts, strict=True)
        ]
        bad = pc.coalesce(bad, pa.array(wrong, pa.string()))
    return pa.table(columns), bad


def _readable(line: bytes) -> str:
    return line.decode(errors="backslashreplace")


def _shorten(line: bytes) -> str:
    return repr(_readable(line).rstrip("\r\n"))
