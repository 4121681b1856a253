"""Sums by time, for a span that grows: when there would be too many buckets, they become wider.

Letters in comments: R rows, K buckets, F fields.
"""

from typing import Final

import numpy as np

from rl.policy.arrays import FloatArray, IntArray

SECOND: Final = 1_000_000
WIDTHS: Final = tuple(
    SECOND * s for s in (1, 5, 15, 60, 300, 900, 3_600, 10_800, 43_200, 86_400, 7 * 86_400, 28 * 86_400)
)
"""In microseconds; each is a multiple of the one before, so that buckets become wider without being cut."""


class Timeline:
    """Sums of fields by row and bucket."""

    def __init__(self, fields: int, most: int) -> None:
        """Begin with nothing.

        Args:
            fields: F.
            most: buckets, at least 2.
        """
        self._most = most
        self.width = WIDTHS[0]
        """Of a bucket, in microseconds."""
        self.first = 0
        """Which bucket is the first one, counted from 1970."""
        self.sums: FloatArray = np.zeros((0, 0, fields))
        """[R, K, F]"""

    @property
    def starts(self) -> IntArray:
        """[K] when the buckets begin, in microseconds since 1970 UTC."""
        return (self.first + np.arange(self.sums.shape[1])) * self.width

    def add(self, rows: IntArray, times_us: IntArray, values: FloatArray) -> None:
        """Add values [N, F] at times [N] to rows [N], which may be new."""
        if not len(rows):
            return
        low, high = int(times_us.min()), int(times_us.max())
        if self.sums.shape[1]:
            low = min(low, self.first * self.width)
            high = max(high, (self.first + self.sums.shape[1] - 1) * self.width)
        while high // self.width - low // self.width >= self._most:
            self._widen()
        self._make_room(int(rows.max()) + 1, low // self.width, high // self.width + 1)
        np.add.at(self.sums, (rows, times_us // self.width - self.first), values)

    def _widen(self) -> None:
        wider = next((width for width in WIDTHS if width > self.width), 2 * self.width)
        factor, count = wider // self.width, self.sums.shape[1]
        at = (self.first + np.arange(count)) // factor
        self.width, self.first = wider, self.first // factor
        sums = np.zeros((self.sums.shape[0], int(at[-1]) - self.first + 1 if count else 0, self.sums.shape[2]))
        np.add.at(sums.swapaxes(0, 1), at - self.first, self.sums.swapaxes(0, 1))
        self.sums = sums

    def _make_room(self, rows: int, first: int, end: int) -> None:
        old_rows, count, fields = self.sums.shape
        if not count:
            self.first = first
        before, after = self.first - first, end - (self.first + count)
        if rows > old_rows or before > 0 or after > 0:
            room = -(-rows // 64) * 64 if rows > old_rows else old_rows  # not anew with every item that is met
            sums = np.zeros((room, max(before, 0) + count + max(after, 0), fields))
            sums[:old_rows, max(before, 0) : max(before, 0) + count] = self.sums
            self.sums, self.first = sums, min(self.first, first)


def merge_buckets(starts: IntArray, width: int, sums: FloatArray, most: int) -> tuple[IntArray, FloatArray]:
    """Return starts [k] and sums [..., k, F] of about as many wider buckets, so many at most, as a picture shows."""
    if not len(starts):
        return starts, sums
    factor = 1
    while int(starts[-1]) // (width * factor) - int(starts[0]) // (width * factor) >= most:
        factor += 1
    at = starts // (width * factor)
    merged = np.zeros((*sums.shape[:-2], int(at[-1] - at[0]) + 1, sums.shape[-1]))
    np.add.at(np.moveaxis(merged, -2, 0), at - at[0], np.moveaxis(sums, -2, 0))
    return (int(at[0]) + np.arange(merged.shape[-2])) * width * factor, merged
