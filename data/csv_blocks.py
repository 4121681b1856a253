"""CSV as blocks of rows: encodings, headers, and quotes that are never closed. No Ray.

pyarrow parses. It takes a line break between quotes for a part of the value, so a stray quote would make one value
of all rows up to the next quote. Here a file is cut at line breaks, and a block in which there are as many rows as
lines is as it should be. In any other one, each row that has more lines is looked at: where its quoted value is longer
than the declaration allows, or goes on after its closing quote, the quote is a stray one. Then the first line alone is
malformed, and the next line begins a row.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from data.dialect import Csv
from data.errors import UnreadableError

BLOCK_BYTES = 16 << 20
"""Of text that is parsed at once; no line may be longer."""
BOMS = {
    codecs.BOM_UTF32_LE: "utf-32-le",  # before the one of UTF-16, which it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
LINE_END = re.compile(rb"\r\n|\n|\r")
_ONE_CHARACTER = b"\x1f"  # stands for a delimiter of several


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
    lexer = _Lexer(csv)
    for data, is_last in _blocks(stream, csv.encoding):
        names, _ = _names(lexer, data, is_last)
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
    lexer, names, rest, first = _Lexer(csv), None, b"", 0
    for chunk, is_last in _blocks(stream, csv.encoding):
        data = rest + chunk
        if names is None:
            names, header_end = _names(lexer, data, is_last)
            data = data[header_end:]
        if names is not None:
            rows, rest = _parse_block(lexer, data, is_last, [names.index(name) for name in wanted], len(names), first)
            first += len(rows.positions) + len(rows.malformed)
            yield Rows(rows.table.rename_columns(list(wanted)), rows.positions, rows.undecoded, rows.malformed)


def _blocks(stream: Any, encoding: str) -> Iterator[tuple[bytes, bool]]:
    """Yield a file as UTF-8, whole lines at a time, and whether it is the last; bytes that cannot be decoded stay.

    Raises:
        UnreadableError: a line is longer than a block.
    """
    rest = b""
    for text in _utf8(stream, encoding):
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


def _utf8(stream: Any, encoding: str) -> Iterator[bytes]:
    chunk = stream.read(BLOCK_BYTES)
    for mark, marked in BOMS.items():
        if chunk.startswith(mark):
            chunk, encoding = chunk[len(mark) :], marked
            break
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    while chunk:
        yield chunk if is_utf8 else decoder.decode(chunk).encode(errors="surrogateescape")
        chunk = stream.read(BLOCK_BYTES)
    yield decoder.decode(b"", final=True).encode(errors="surrogateescape")


@dataclass(frozen=True)
class _Lexer:
    """Where rows begin and end, as pyarrow sees it: a quote is one only where a value begins."""

    csv: Csv

    @cached_property
    def delimiter(self) -> bytes:
        return self.csv.delimiter.encode() if len(self.csv.delimiter) == 1 else _ONE_CHARACTER

    @cached_property
    def quote(self) -> bytes:
        return self.csv.quote.encode()

    @cached_property
    def value(self) -> re.Pattern[bytes]:
        """A value; groups: what is quoted, and what goes on after the closing quote or, without quotes, all of it."""
        return re.compile(self._value(b"("))

    @cached_property
    def row(self) -> re.Pattern[bytes]:
        value = self._value(b"(?:")
        return re.compile(b"(?:%b)(?:%b(?:%b))*+(?:\r\n|\n|\r|\\Z)" % (value, re.escape(self.delimiter), value))

    def _value(self, group: bytes) -> bytes:
        plain = b"[^%b\r\n]*+" % re.escape(self.delimiter)
        if not self.quote:
            return b"%b)%b%b)" % (group, group, plain)
        q = re.escape(self.quote)
        inner = b"[^%b]*+(?:%b%b[^%b]*+)*+" % (q, q, q, q)
        return b"(?:%b%b%b)%b|(?!%b))%b%b)" % (q, group, inner, q, q, group, plain)

    def values(self, row: bytes) -> list[bytes]:
        """Return the values of one row."""
        values, at = [], 0
        while match := self.value.match(row, at):
            values.append((match[1] or b"").replace(self.quote * 2, self.quote) + match[2])
            at = match.end() + 1
            if row[match.end() : at] != self.delimiter:
                break
        return values

    def joined(self, data: bytes) -> bytes:
        """Return the data with a delimiter of one character."""
        return data.replace(self.csv.delimiter.encode(), self.delimiter)

    def text(self, data: str) -> str:
        """Return a line as it was."""
        return data.replace(self.delimiter.decode(), self.csv.delimiter)

    def is_stray(self, data: bytes, start: int) -> bool:
        """Return whether a quote of the row that begins at `start` is a stray one."""
        at = start
        while match := self.value.match(data, at):
            quoted = match[1] or b""
            breaks = len(LINE_END.findall(quoted))
            if self._is_long(quoted, breaks) or (breaks and match[2]):
                return True
            at = match.end() + 1
            if data[match.end() : at] != self.delimiter:
                return False
        return self._is_long(data[at + 1 :], len(LINE_END.findall(data, at)))  # one that is not closed yet

    def _is_long(self, quoted: bytes, breaks: int) -> bool:
        return breaks >= self.csv.max_value_lines or len(quoted) > self.csv.max_value_bytes


@dataclass
class _Split:
    """A block cut into rows."""

    rows: list[bytes] = field(default_factory=list)
    """Stretches of whole rows."""
    stray: list[tuple[int, bytes]] = field(default_factory=list)
    """Row number and text of each line that has a stray quote."""
    count: int = 0
    rest: bytes = b""
    """Of a row that goes on in the next block."""


def _split(lexer: _Lexer, data: bytes, is_last: bool) -> _Split:
    """Cut a block into rows, one after the other."""
    split, start, at = _Split(), 0, 0
    while at < len(data):
        match = lexer.row.match(data, at)
        line = LINE_END.search(data, at)
        line_end = line.end() if line else len(data)
        end = match.end() if match else 0
        longer = end != line_end or end - at > lexer.csv.max_value_bytes
        if longer and (lexer.is_stray(data, at) or (not match and is_last)):
            split.rows.append(data[start:at])
            split.stray.append((split.count, data[at:line_end].rstrip(b"\r\n")))
            start = end = line_end
        elif not match:
            break
        split.count += not line or line.start() != at  # pyarrow passes over empty lines
        at = end
    split.rows.append(data[start:at])
    split.rest = data[at:]
    return split


def _names(lexer: _Lexer, data: bytes, is_last: bool) -> tuple[list[str] | None, int]:
    """Return the names of the columns, and where in the first block the header ends; None: there are only blanks."""
    start = len(data) - len(data.lstrip(b"\r\n"))
    if start == len(data):
        return None, start
    declared = list(lexer.csv.header)
    match = lexer.row.match(data, start)
    if not match or lexer.is_stray(data, start):
        raise UnreadableError(f"the quotes of its first line do not close: {_shown(data[start : start + 200])}")
    values = lexer.values(lexer.joined(match[0]))
    try:
        names = [value.decode() for value in values]
    except UnicodeDecodeError as error:
        if not declared:
            raise UnreadableError(
                f"its header is not {lexer.csv.encoding}: {_shown(match[0])}; "
                "name its encoding, such as latin-1 or cp1252, as encoding in [csv] of the node"
            ) from error
        names = [_readable(value) for value in values]
    if lexer.csv.trim:
        names = [name.strip() for name in names]
    if not declared or names == declared:
        return names, match.end()
    if len(names) != len(declared):
        raise UnreadableError(
            f"its first line has {len(names)} values, header in [csv] of the node names {len(declared)}"
        )
    return declared, start


def _parse_block(
    lexer: _Lexer, data: bytes, is_last: bool, wanted: Sequence[int], width: int, first: int
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
        split = _split(lexer, data, is_last)
        count, stray, rest = split.count, split.stray, split.rest
        parsed = _parse(lexer, b"".join(split.rows), wanted, width)
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
        return self.table.num_rows + len(self.invalid)


def _parse(lexer: _Lexer, data: bytes, wanted: Sequence[int], width: int) -> _Parsed:
    """Parse whole rows."""
    data = lexer.joined(data)
    is_text = _is_utf8(data)
    if not is_text:  # byte by byte, so that what is not UTF-8 is one row's fault
        data = data.decode("latin-1").encode()
    table, invalid = _arrow(lexer, data, wanted, width)
    undecoded = pa.nulls(table.num_rows, pa.string())
    if not is_text:
        invalid = [(number, _readable(line.encode("latin-1"))) for number, line in invalid]
        table, undecoded = _decoded(table)
    if lexer.csv.trim:
        columns = [pc.utf8_trim_whitespace(column) for column in table.columns]
        table = pa.Table.from_arrays(columns, names=table.column_names)
    return _Parsed(table, undecoded, invalid)


def _arrow(lexer: _Lexer, data: bytes, wanted: Sequence[int], width: int) -> tuple[pa.Table, list[tuple[int, str]]]:
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


def _decoded(table: pa.Table) -> tuple[pa.Table, pa.Array]:
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


def _shown(line: bytes) -> str:
    return repr(_readable(line).rstrip("\r\n"))
