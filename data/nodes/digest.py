"""A row's identity: 128 bits over its values, equal wherever and however the row is read.

A value becomes a word of 64 bits (the bits of a number or a float, a time in microseconds, 0 for a null) or, a string,
two: its BLAKE2b of 128 bits, computed once for each distinct string. Two lanes of 64 bits each take up the row's words
in order, `lane = mix(lane ^ word)`, first one with a bit for each column, set where the value is null (two such words
for 65 to 128 columns, and so on). `mix` is the finaliser of MurmurHash3, with multipliers of its own in each lane. It
maps no two words to one, so rows that differ in one number never share an id. For other rows that nobody has
constructed, a pair among n has the same id with probability n^2 / 2^129: 10^-19 for ten billion rows. It is no
signature: who knows the formula can construct rows that share an id.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SIZE = 16
"""Bytes of a digest."""
WORD = np.dtype("<u8")

# Source: MurmurHash3 (fmix64), Appleby 2011; SplitMix64, Steele, Lea, Flood 2014. [2 steps, 2 lanes, 1]
_MULTIPLIERS = np.array(
    [[[0xFF51AFD7ED558CCD], [0xBF58476D1CE4E5B9]], [[0xC4CEB9FE1A85EC53], [0x94D049BB133111EB]]], WORD
)
_SHIFT = np.uint64(33)
_ROWS = 16_384
"""Rows that are hashed at a time: their lanes stay in the processor's cache."""
_HEX = np.frombuffer(bytes(range(256)).hex().encode(), dtype=np.uint16)
"""The two letters of each byte."""


def digest_rows(columns: Sequence[pa.Array], prefix: bytes = b"") -> pa.Array:
    """Hash rows.

    Args:
        columns: each [N]: int64, float64, bool, timestamp[us], string, or dictionary of strings.
        prefix: what the rows have in common and is part of their identity.

    Returns:
        [N] fixed-size binary of `SIZE` bytes.
    """
    words = [*_null_flags(columns), *map(_words, columns)]
    lanes = np.empty((2, len(columns[0])), WORD)
    lanes[:] = _hash_strings([prefix])
    for start in range(0, lanes.shape[1], _ROWS):
        rows = slice(start, start + _ROWS)
        _absorb(lanes[:, rows], [word[:, rows] for word in words])
    digests = np.ascontiguousarray(lanes.T)
    return pa.Array.from_buffers(pa.binary(SIZE), len(digests), [None, pa.py_buffer(digests)])


def _absorb(lanes: npt.NDArray[np.uint64], words: Sequence[npt.NDArray[np.uint64]]) -> None:
    """Take words, each [1 or 2, N], up into the [2, N] lanes."""
    shifted = np.empty_like(lanes)
    for word in words:
        lanes ^= word
        for multiplier in _MULTIPLIERS:
            lanes ^= np.right_shift(lanes, _SHIFT, out=shifted)
            lanes *= multiplier
        lanes ^= np.right_shift(lanes, _SHIFT, out=shifted)


def _null_flags(columns: Sequence[pa.Array]) -> list[npt.NDArray[np.uint64]]:
    """Return the [1, N] words that say which values are null, the first column's bit being the lowest."""
    flags = np.zeros((-(-len(columns) // 64), 1, len(columns[0])), WORD)
    for position, column in enumerate(columns):
        if column.null_count:
            nulls = column.is_null().to_numpy(zero_copy_only=False).astype(WORD)
            flags[position // 64] |= nulls << np.uint64(position % 64)
    return list(flags)


def _words(column: pa.Array) -> npt.NDArray[np.uint64]:
    """Return the words of a column: [1, N] of numbers, [2, N] of strings."""
    if pa.types.is_string(column.type):
        column = column.dictionary_encode()
    if pa.types.is_dictionary(column.type):
        distinct = column.dictionary.cast(pa.binary()).to_numpy(zero_copy_only=False)
        hashes = np.pad(_hash_strings(distinct), ((0, 0), (0, 1)))  # the last is the word of the nulls
        codes: npt.NDArray[np.int32] = column.indices.fill_null(len(distinct)).to_numpy()
        return hashes.take(codes, axis=1)
    if pa.types.is_floating(column.type):
        numbers = column.fill_null(0.0).to_numpy() + 0.0  # makes one zero of -0.0 and 0.0
    else:
        numbers = column.cast(pa.int64()).fill_null(0).to_numpy()
    words: npt.NDArray[np.uint64] = numbers.view(WORD)
    return words[np.newaxis]


def _hash_strings(strings: Iterable[bytes]) -> npt.NDArray[np.uint64]:
    """Return [2, N] words: the BLAKE2b of strings."""
    hashes = b"".join([blake2b(string, digest_size=SIZE).digest() for string in strings])
    return np.frombuffer(hashes, np.uint64).reshape(-1, 2).T


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
