"""A row's identity: 128 bits of BLAKE2b over its values. Light: no Ray.

The hashed bytes of a row cannot be those of another row with other values: words of 8 bytes, little endian, then the
strings in UTF-8. The first word has a bit for each column, the first column's being the lowest, set if the value is
null (two words for 65 to 128 columns, and so on). Then comes one word for each column: the value of an integer, a bool
or a time in microseconds, the bits of a float, the length in bytes of a string; 0 for a null.
"""

from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from operator import methodcaller

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

SIZE = 16
"""Bytes of a digest."""

_HEX = np.frombuffer(bytes(range(256)).hex().encode(), dtype=np.uint16)
"""The two letters of each byte."""


def digest_rows(columns: Sequence[pa.Array], prefix: bytes = b"") -> pa.Array:
    """Hash rows.

    Args:
        columns: each [N]: int64, float64, bool, timestamp[us], string, or dictionary of strings.
        prefix: bytes before each row's own.

    Returns:
        [N] fixed-size binary of `SIZE` bytes.
    """
    rows, flags = len(columns[0]), -(-len(columns) // 64)
    words = np.zeros((rows, flags + len(columns)), dtype="<u8")
    strings: list[pa.Array] = []
    for position, column in enumerate(columns):
        if column.null_count:
            nulls = column.is_null().to_numpy(zero_copy_only=False).astype("<u8")
            words[:, position // 64] |= nulls << np.uint64(position % 64)
        words[:, flags + position] = _word(column)
        if pa.types.is_dictionary(column.type):
            strings.append(column.dictionary.cast(pa.binary()).take(column.indices))
        elif pa.types.is_string(column.type):
            strings.append(column.cast(pa.binary()))
    head = pa.Array.from_buffers(pa.binary(8 * words.shape[1]), rows, [None, pa.py_buffer(words)]).cast(pa.binary())
    strings = [pa.repeat(pa.scalar(prefix), rows), head, *strings] if prefix else [head, *strings]
    joined = pc.binary_join_element_wise(*strings, b"", null_handling="replace", null_replacement=b"")
    hashes = map(partial(blake2b, digest_size=SIZE), joined.to_numpy(zero_copy_only=False))
    hashed = b"".join(map(methodcaller("digest"), hashes))
    return pa.Array.from_buffers(pa.binary(SIZE), rows, [None, pa.py_buffer(hashed)])


def _word(column: pa.Array) -> npt.NDArray[np.uint64]:
    """Return [N] 8-byte words: a number's own bits or a string's length; 0 for a null."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(column.dictionary).take(column.indices)
        numbers = lengths.cast(pa.int64())
    elif pa.types.is_string(kind):
        numbers = pc.binary_length(column).cast(pa.int64())
    elif pa.types.is_floating(kind):
        # Adding 0.0 makes one zero of -0.0 and 0.0.
        floats = column.fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0
        bits: npt.NDArray[np.uint64] = floats.view("<u8")
        return bits
    else:
        numbers = column.cast(pa.int64())
    words: npt.NDArray[np.uint64] = numbers.fill_null(0).to_numpy(zero_copy_only=False).view("<u8")
    return words


def hexadecimal(digests: pa.Array) -> pa.Array:
    """Return [N] strings: the digests in lower-case hexadecimal."""
    size = digests.type.byte_width
    raw = raw_bytes(digests)
    letters = _HEX.take(raw)
    offsets = np.arange(len(digests) + 1, dtype=np.int32) * (2 * size)
    return pa.StringArray.from_buffers(len(digests), pa.py_buffer(offsets), pa.py_buffer(letters))


def raw_bytes(digests: pa.Array) -> npt.NDArray[np.uint8]:
    """Return [N, size] bytes of digests without nulls."""
    size = digests.type.byte_width
    data = np.frombuffer(digests.buffers()[1], dtype=np.uint8)
    start = digests.offset * size
    return data[start : start + len(digests) * size].reshape(len(digests), size)
