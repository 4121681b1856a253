"""Where the rows of CSV begin and end, and which quotes are stray ones. Light: no Ray, no pyarrow.

A quote is one only where a value begins. Between two, a line break is a part of the value, so a stray quote would make
one value of all rows up to the next. It is taken for a stray one where its value is longer than the declaration
allows, does not close, or has several lines and goes on after the closing quote.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property

from data.dialect import Csv

LINE_END = re.compile(rb"\r\n|\n|\r")
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
        return re.compile(self._value(b"("))

    @cached_property
    def row(self) -> re.Pattern[bytes]:
        """A row with its line end; it does not match one whose quotes do not close."""
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
class Split:
    """A block cut into rows."""

    rows: list[bytes] = field(default_factory=list)
    """Stretches of whole rows."""
    stray: list[tuple[int, bytes]] = field(default_factory=list)
    """Row number and text of each line that has a stray quote."""
    count: int = 0
    rest: bytes = b""
    """Of a row that goes on in the next block."""


def split(lexer: Lexer, data: bytes, is_last: bool) -> Split:
    """Cut a block into rows, one after the other; of one with a stray quote the first line is cut out alone.

    Args:
        lexer: how the rows are written.
        data: whole lines.
        is_last: nothing comes after them.
    """
    found, start, at = Split(), 0, 0
    while at < len(data):
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
