"""How unusual each of a stream's values is among those before it, as a number that is uniform if nothing changes.

If values are exchangeable - drawn alike, independently, from whatever distribution - the rank of each among itself and
those before it is uniform, ties broken at random, and independent of all earlier ranks.

Source: Vovk, Gammerman and Shafer, "Algorithmic learning in a random world" (2005), theorem 8.2.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Protocol


class Ranks(Protocol):
    """Ranks the values of a stream."""

    def rank(self, value: object, tie: float) -> float:
        """Take a value in, and return the share of the values so far that are more unusual, in [0, 1].

        Args:
            value: the next of the stream.
            tie: uniform in [0, 1], as a share of those that are as unusual.
        """
        ...


class NumberRanks:
    """The larger a number, the more unusual it is. What is no number is larger than all, what is missing smaller."""

    def __init__(self, numbers: Iterable[object] = ()) -> None:
        """Begin with numbers that are not ranked."""
        self._sorted = sorted(map(_to_number, numbers))

    def rank(self, value: object, tie: float) -> float:
        """See `Ranks.rank`."""
        number = _to_number(value)
        insort(self._sorted, number)
        low, high = bisect_left(self._sorted, number), bisect_right(self._sorted, number)
        return (len(self._sorted) - high + tie * (high - low)) / len(self._sorted)


class CategoryRanks:
    """The rarer a category has been, the more unusual it is."""

    def __init__(self, categories: Iterable[Hashable] = ()) -> None:
        """Begin with categories that are not ranked."""
        self._counts = Counter(categories)
        self._alike = Counter(self._counts.values())  # how many categories were seen so often
        self._total = self._counts.total()

    def rank(self, value: Hashable, tie: float) -> float:
        """See `Ranks.rank`."""
        count = self._counts[value] + 1
        if count > 1:
            self._alike[count - 1] -= 1
            if not self._alike[count - 1]:
                del self._alike[count - 1]
        self._counts[value], self._total = count, self._total + 1
        self._alike[count] += 1
        rarer = sum(n * alike for n, alike in self._alike.items() if n < count)
        return (rarer + tie * count * self._alike[count]) / self._total


def _to_number(value: object) -> float:
    if isinstance(value, int | float) and value == value:
        return float(value)
    return float("-inf") if value is None else float("inf")
