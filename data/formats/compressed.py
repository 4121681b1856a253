"""Lines of a text file as UTF-8, whatever it is compressed with and however it is encoded."""

import io
from collections.abc import Iterator
from typing import BinaryIO, cast

import pyarrow as pa

from data.errors import DataError

LONGEST = 1 << 24
"""Bytes of a line that is read."""

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_ENCODED = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"{\x00": "utf-16-le", b"\x00{": "utf-16-be"}
_BOM = b"\xef\xbb\xbf"


def read_lines(file: io.BufferedReader) -> Iterator[bytes | DataError]:
    """Yield the lines of a file without their ends, and an error in place of one that is longer than `LONGEST`.

    Compression and encoding are told by the first bytes: gzip, bzip2, Zstandard and LZ4; UTF-8, with a byte order mark
    or without, and UTF-16.

    Raises:
        DataError: the file cannot be read to its end; says after how many lines.
    """
    number = 0
    try:
        opened = _decode(_decompress(file))
        while line := opened.readline(LONGEST):
            number += 1
            if len(line) == LONGEST and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = opened.readline(LONGEST)
                yield DataError(f"it is longer than {LONGEST:,} bytes")
            else:
                yield line.removeprefix(_BOM).strip()
    except (OSError, EOFError, pa.ArrowInvalid, UnicodeError) as error:
        raise DataError(f"it cannot be read further than line {number}: {error}") from error


def _decompress(file: io.BufferedReader) -> io.BufferedReader:
    first = file.peek(4)
    for magic, codec in _COMPRESSED.items():
        if first.startswith(magic):
            return io.BufferedReader(cast(io.RawIOBase, pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)))
    return file


def _decode(file: io.BufferedReader) -> BinaryIO:
    first = file.peek(2)
    for start, encoding in _ENCODED.items():
        if first.startswith(start):
            return io.BufferedReader(_Utf8(file, encoding))
    return cast(BinaryIO, file)


class _Utf8(io.RawIOBase):
    """What a file says, in UTF-8."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._text = io.TextIOWrapper(file, encoding, newline="")
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._left = self._left or self._text.read(len(buffer)).encode()
        given, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)
