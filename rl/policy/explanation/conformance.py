"""What every explanation promises, whoever made it; one of the promises of `rl.policy.conformance`."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from rl.policy.arrays import FloatArray
from rl.policy.explanation.parts import EXACT, Explanation, ItemExplanation, Names
from rl.policy.queries import Query

_ROUNDING = 1e-9  # relative to the largest number that is added up
_QUERIES = 3
_TOPS = (2, 1_000_000)


class Explained(Protocol):
    """The part of `rl.policy.interface.Policy` that is looked at."""

    def expected(self, query: Query) -> FloatArray:
        """See there."""
        ...

    def posterior(self, query: Query) -> tuple[FloatArray, FloatArray | None]:
        """See there."""
        ...

    def explain(self, query: Query, positions: Sequence[int], names: Names, top: int) -> Explanation:
        """See there."""
        ...


def find_fault(policy: Explained, queries: Query) -> str | None:
    """Return what is wrong with a policy's explanations; None: nothing.

    They are of what is expected, and list no more than was asked for. By the methods "exact" and "table" contributions
    add up to the score; shares of the variance add up to 1, and its root is the posterior's deviation.
    """
    for row in range(min(_QUERIES, len(queries))):
        query = queries.rows(slice(row, row + 1))
        positions = np.flatnonzero(query.mask[0]).tolist()
        expected, (mean, sd) = policy.expected(query)[0], policy.posterior(query)
        if (off := _off(mean[0], expected)) > 0:
            return f"the posterior's mean is off what is expected by {off:.3g}"
        for top in _TOPS:
            explained = policy.explain(query, positions, Names(), top)
            if len(explained.items) != len(positions):
                return f"{len(explained.items)} of {len(positions)} candidates were explained"
            for position, item in zip(positions, explained.items, strict=True):
                deviation = None if sd is None else float(sd[0, position])
                if fault := _fault(explained, item, float(expected[position]), deviation, top):
                    return f"of candidate {position} of query {row}, {fault}"
    return None


def _fault(
    explained: Explanation, item: ItemExplanation, expected: float, deviation: float | None, top: int
) -> str | None:
    if len(item.contributions) > top:
        return f"{len(item.contributions)} contributions are listed, {top} were asked for"
    if _off(np.array([item.score]), np.array([expected])):
        return f"the score is {item.score:.12g}, expected is {expected:.12g}"
    size = max(1.0, abs(item.score), abs(item.base), *(abs(one.contribution) for one in item.contributions))
    if explained.method in EXACT and not abs(item.error) <= _ROUNDING * size:
        return f"the method is {explained.method}, and the sum is off the score by {item.error:.3g}"
    if not np.isfinite(item.error):
        return "a contribution is not finite"
    if (uncertain := item.uncertainty) is None or deviation is None:
        return None
    if not abs(uncertain.sd - deviation) <= 1e-6 * max(1.0, deviation):
        return f"the deviation is {uncertain.sd:.12g}, the posterior's {deviation:.12g}"
    total = sum(one.share for one in uncertain.shares) + uncertain.other_shares
    if uncertain.sd > 0 and not abs(total - 1.0) <= 1e-6:
        return f"shares of the variance add up to {total:.12g}"
    return None


def _off(found: FloatArray, wanted: FloatArray) -> float:
    """Return by how much numbers differ, beyond rounding; 0: they do not."""
    off = float(np.abs(found - wanted).max(initial=0.0))
    return off if not off <= _ROUNDING * max(1.0, float(np.abs(wanted).max(initial=0.0))) else 0.0
