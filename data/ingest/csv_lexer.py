"""Where the rows of CSV begin and end, and which quotes are stray ones. Light: no Ray, no pyarrow.

A quote is one only where a value begins. Between two, a line break is a part of the value, so a stray quote would make
one value of all rows up to the next. It is taken for a stray one where its value is longer than the declaration
allows, does not close, or has several lines and goes on after the closing quote.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property

from data.nodes.dialect import Csv

LINE_END = re.compile(rb"\r\n|\n|\r")
_OF_ONE_LINE = b"%(q)b%(quoted_line)b%(q)b%(plain)b|(?!%(q)b)%(plain)b"
_ONE_CHARACTER = b"\x1f"  # stands for a delimiter of several


@dataclass(frozen=True)
class Lexer:
    """Where rows and values begin and end, as pyarrow sees it."""

    csv: Csv

    @cached_property
    def delimiter(self) -> bytes:
        """One character between values."""
        return self.csv.delimiter.encode() if len(self.csv.delimiter) == 1 else _ONE_CHARACTER

    @cached_property
    def quote(self) -> bytes:
        """The character around values, if there is one."""
        return self.csv.quote.encode()

    @cached_property
    def value(self) -> re.Pattern[bytes]:
        """A value; groups: what is quoted, and what goes on after the closing quote or, without quotes, all of it."""
        if not self.quote:
            return re.compile(b"()(%(plain)b)" % self._parts)
        return re.compile(b"(?:%(q)b(%(quoted)b)%(q)b|(?!%(q)b))(%(plain)b)" % self._parts)

    @cached_property
    def row(self) -> re.Pattern[bytes]:
        """A row with its line end; it does not match one whose quotes do not close."""
        value = b"%(q)b%(quoted)b%(q)b%(plain)b|(?!%(q)b)%(plain)b" if self.quote else b"%(plain)b"
        return self._row_pattern(value)

    @cached_property
    def proper_row(self) -> re.Pattern[bytes]:
        """The same, of which no value of several lines goes on after its closing quote."""
        return self._row_pattern(_OF_ONE_LINE + b"|%(q)b%(quoted)b%(q)b(?=%(d)b|[\r\n]|\\Z)")

    @cached_property
    def lines(self) -> re.Pattern[bytes]:
        """As many rows of one line each as there are."""
        value = _OF_ONE_LINE % self._parts
        return re.compile(b"(?:(?:%b)(?:%b(?:%b))*+(?:\r\n|\n|\r))*+" % (value, self._parts[b"d"], value))

    @cached_property
    def _parts(self) -> dict[bytes, bytes]:
        q, d = re.escape(self.quote), re.escape(self.delimiter)
        return {
            b"q": q,
            b"d": d,
            b"plain": b"[^%b\r\n]*+" % d,
            b"quoted": b"[^%b]*+(?:%b%b[^%b]*+)*+" % (q, q, q, q),
            b"quoted_line": b"[^%b\r\n]*+(?:%b%b[^%b\r\n]*+)*+" % (q, q, q, q),
        }

    def _row_pattern(self, value: bytes) -> re.Pattern[bytes]:
        value %= self._parts
        return re.compile(b"(?:%b)(?:%b(?:%b))*+(?:\r\n|\n|\r|\\Z)" % (value, self._parts[b"d"], value))

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
class Split:
    """A block cut into rows."""

    rows: list[bytes] = field(default_factory=list)
    """Stretches of whole rows."""
    stray: list[tuple[int, bytes]] = field(default_factory=list)
    """Row number and text of each line that has a stray quote."""
    count: int = 0
    rest: bytes = b""
    """Of a row that goes on in the next block."""


def _pass_over(lexer: Lexer, data: bytes, at: int) -> tuple[int, int]:
    """Return where the next row begins that has to be looked at, and how many rows are before it: the common case."""
    count = 0
    while True:
        if match := lexer.lines.match(data, at):
            count += sum(map(bool, match[0].splitlines()))
            at = match.end()
        row = lexer.proper_row.match(data, at) if at < len(data) else None
        is_short = row and row.end() - at <= lexer.csv.max_value_bytes
        if not row or not is_short or len(row[0].splitlines()) > lexer.csv.max_value_lines:
            return at, count
        count += 1
        at = row.end()


def split(lexer: Lexer, data: bytes, is_last: bool) -> Split:
    """Cut a block into rows, one after the other; of one with a stray quote the first line is cut out alone.

    Args:
        lexer: how the rows are written.
        data: whole lines.
        is_last: nothing comes after them.
    """
    found, start, at = Split(), 0, 0
    has_long = max(map(len, data.splitlines()), default=0) > lexer.csv.max_value_bytes
    while at < len(data):
        if not has_long:
            at, count = _pass_over(lexer, data, at)
            found.count += count
            if at == len(data):
                break
        match = lexer.row.match(data, at)
        line = LINE_END.search(data, at)
        line_end = line.end() if line else len(data)
        end = match.end() if match else 0
        longer = end != line_end or end - at > lexer.csv.max_value_bytes
        if longer and (lexer.is_stray(data, at) or (not match and is_last)):
            found.rows.append(data[start:at])
            found.stray.append((found.count, data[at:line_end].rstrip(b"\r\n")))
            start = end = line_end
        elif not match:
            break
        found.count += not line or line.start() != at  # pyarrow passes over empty lines
        at = end
    found.rows.append(data[start:at])
    found.rest = data[at:]
    return found
