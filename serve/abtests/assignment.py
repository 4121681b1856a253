"""Which users are whose: intervals of a hash, of which as few change hands as the shares allow.

A user's place in [0, 1) is a hash of their id with the test's salt, so it is the same on every machine, and that of one
test says nothing of that of another. Who owns which interval is kept with the test. Where shares change, those who are
to have less give up the ends of their intervals, and those who are to have more get these: the users that move are just
those by whom some share has grown.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple


class Interval(NamedTuple):
    """From the end of the one before it (the first: 0) to its own."""

    end: float
    variant: str | None
    """None: users of no variant, who are answered as without the test."""


def unit_interval(key: str) -> float:
    """Hash a key to [0, 1), the same on every machine (Python's own hash of a string is not)."""
    return int.from_bytes(blake2b(key.encode(), digest_size=6).digest()) / 2**48


def allot(shares: Mapping[str, float]) -> tuple[Interval, ...]:
    """Give each variant its share of the users, in the order given; what is left is nobody's."""
    return reallot((Interval(1.0, None),), shares)


def reallot(intervals: Sequence[Interval], shares: Mapping[str, float]) -> tuple[Interval, ...]:
    """Change the shares of variants (those that are not named get 0), moving as few users as that takes."""
    left: dict[str | None, float] = {None: max(0.0, 1.0 - sum(shares.values()))}
    left.update(shares.items())
    pieces, begin = list[tuple[float, float, str | None]](), 0.0
    for end, variant in intervals:
        pieces.append((begin, end, variant))
        begin = end
    kept, freed = list[tuple[float, float, str | None]](), list[tuple[float, float]]()
    for start, end, variant in pieces:
        keeps = min(end - start, left.get(variant, 0.0))
        left[variant] = left.get(variant, 0.0) - keeps
        middle = start + keeps if keeps < end - start else end
        if middle > start:
            kept.append((start, middle, variant))
        if end > middle:
            freed.append((middle, end))
    for start, end in freed:
        while start < end:
            # By rounding there may be a little more than what all lack: nobody's then.
            taker = next((name for name, lack in left.items() if lack > 1e-12), None)
            lack = left.get(taker, 0.0)
            middle = end if taker is None or lack >= end - start else start + lack
            kept.append((start, middle, taker))
            left[taker] = lack - (middle - start)
            start = middle
    return _join(sorted(kept))


def _join(pieces: Sequence[tuple[float, float, str | None]]) -> tuple[Interval, ...]:
    joined = list[Interval]()
    for _, end, variant in pieces:
        if joined and joined[-1].variant == variant:
            joined.pop()
        joined.append(Interval(end, variant))
    return (*joined[:-1], Interval(1.0, joined[-1].variant))


def measure(intervals: Sequence[Interval]) -> dict[str, float]:
    """Return the share of each variant."""
    shares, begin = dict[str, float](), 0.0
    for end, variant in intervals:
        if variant is not None:
            shares[variant] = shares.get(variant, 0.0) + end - begin
        begin = end
    return shares


def moved(before: Sequence[Interval], after: Sequence[Interval]) -> dict[tuple[str | None, str | None], float]:
    """Return the share of the users that change hands: from whom and to whom; None: nobody has them."""
    found, begin = dict[tuple[str | None, str | None], float](), 0.0
    for end in sorted({*(end for end, _ in before), *(end for end, _ in after)}):
        middle = (begin + end) / 2
        pair = _owner(before, middle), _owner(after, middle)
        if pair[0] != pair[1]:
            found[pair] = found.get(pair, 0.0) + end - begin
        begin = end
    return found


def _owner(intervals: Sequence[Interval], place: float) -> str | None:
    return intervals[bisect_right([end for end, _ in intervals], place)].variant


class Assignment:
    """Says whose a user is."""

    def __init__(self, salt: str, intervals: Sequence[Interval]) -> None:
        self._salt = salt
        self._ends = [end for end, _ in intervals]
        self._variants = [variant for _, variant in intervals]

    @classmethod
    def of_share(cls, salt: str, share: float, variant: str) -> "Assignment":
        """Return one in which a share of the users is a variant's, and the others are nobody's."""
        return cls(salt, allot({variant: share}))

    def find(self, key: str) -> str | None:
        """Return the variant of a user (or, without one, of a decision); None: they are of none."""
        return self._variants[bisect_right(self._ends, unit_interval(f"{self._salt}\0{key}"))]
