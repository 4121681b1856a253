"""Reward and regret over time, of policies or of an A/B test's variants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from data.schema import ORACLE
from rl.evaluation.board.estimates import Means, at_every_look, pointwise, variance
from rl.evaluation.board.tally import BEST, COUNT, ELSEWHERE, KNOWN, SLOTS, SQUARES, SUM, Arm, Tally
from rl.evaluation.board.timeline import merge_buckets
from rl.policy.arrays import FloatArray, IntArray

LEAST: Final = 100
"""Decisions after which a group may be what others are compared with."""
_Z: Final = 1.959963984540054


@dataclass(frozen=True)
class Regret:
    """What a group has earned less than what it is compared with, added up: K buckets."""

    value: FloatArray
    """[K]"""
    low: FloatArray
    high: FloatArray
    missing: int
    """Decisions made when there was nothing to compare them with: they are left out."""


@dataclass(frozen=True)
class Curve:
    """What a group's decisions have earned."""

    name: str
    over_time: Means
    """[K] of a decision; the intervals are pointwise."""
    decisions: int
    total: Means
    """[1] of a decision, over the whole time; the interval holds at every look."""
    exploration: FloatArray
    """[K] the probability that a slot, drawn again, would have shown another item."""
    exploration_total: float
    regret: Regret | None
    """None: there is nothing that it could be compared with."""


@dataclass(frozen=True)
class Curves:
    """Of several groups, in K buckets."""

    starts_us: IntArray
    """[K]"""
    width_us: int
    curves: tuple[Curve, ...]
    """The group with the most decisions first."""
    reference: str | None
    """What regret is compared with: `ORACLE`, or the group of the highest mean; None: there is nothing."""


def draw_curves(tally: Tally, group: Callable[[Arm], str | None], most: int = 60) -> Curves:
    """Return the curves of groups.

    Args:
        tally: of decisions.
        group: the group of an arm; None: it is left out.
        most: buckets.
    """
    sums, names = _group(tally, group)
    line = tally.decisions
    starts, sums = merge_buckets(line.starts, line.width, sums, most)
    width = int(starts[1] - starts[0]) if len(starts) > 1 else line.width
    order = np.argsort(-sums[:, :, COUNT].sum(1), kind="stable").tolist()
    reference, of_reference = _reference(sums, names)
    curves = tuple(_curve(names[at], sums[at], of_reference, reference) for at in order if sums[at].any())
    return Curves(starts, width, curves, reference if curves else None)


def _group(tally: Tally, group: Callable[[Arm], str | None]) -> tuple[FloatArray, list[str]]:
    """Return the sums of each group, [groups, K, F], and their names."""
    found = dict[str, list[int]]()
    for arm, number in tally.arms.items():
        if (name := group(arm)) is not None and number < len(tally.decisions.sums):
            found.setdefault(name, []).append(number)
    every = tally.decisions.sums
    sums = [every[numbers].sum(0) for numbers in found.values()]
    return (np.stack(sums) if sums else np.zeros((0, *every.shape[1:]))), list(found)


def _reference(sums: FloatArray, names: Sequence[str]) -> tuple[str | None, FloatArray | None]:
    """Return what regret is compared with, and its sums [K, F]; of an oracle None."""
    if not len(sums):
        return None, None
    totals = sums.sum(1)
    if totals[:, KNOWN].sum() > 0:
        return ORACLE, None
    enough = totals[:, COUNT] >= LEAST
    if enough.sum() < 2:
        return None, None
    means = np.where(enough, totals[:, SUM] / np.maximum(totals[:, COUNT], 1), -np.inf)
    return names[int(means.argmax())], sums[int(means.argmax())]


def _curve(name: str, sums: FloatArray, of_reference: FloatArray | None, reference: str | None) -> Curve:
    total = sums.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        exploration = np.where(sums[:, SLOTS] > 0, sums[:, ELSEWHERE] / sums[:, SLOTS], np.nan)
    counts, rewards, squares = (np.atleast_1d(total[field]) for field in (COUNT, SUM, SQUARES))
    whole = at_every_look(counts, rewards, squares)
    regret = None
    if reference == ORACLE:
        regret = _beside_oracle(sums)
    elif of_reference is not None:
        regret = _beside(sums, of_reference, same=name == reference)
    return Curve(
        name=name,
        over_time=pointwise(sums[:, COUNT], sums[:, SUM], sums[:, SQUARES]),
        decisions=round(total[COUNT]),
        total=whole,
        exploration=exploration,
        exploration_total=float(total[ELSEWHERE] / total[SLOTS]) if total[SLOTS] else np.nan,
        regret=regret,
    )


def _beside(sums: FloatArray, reference: FloatArray, same: bool) -> Regret:
    """Return the regret beside a group that answered others at the same times.

    In a bucket, n decisions would have earned n times the reference's mean, whose error is that of the reference's own
    decisions there; buckets are independent of each other.
    """
    n, m = sums[:, COUNT], reference[:, COUNT]
    fair = (m >= 2) & (n >= 2)
    mean = np.where(fair, reference[:, SUM] / np.maximum(m, 1), 0.0)
    lost = np.where(fair, n * mean - sums[:, SUM], 0.0)
    spread = np.zeros_like(n)
    if not same:
        of_reference = variance(m, reference[:, SUM], reference[:, SQUARES]) * n**2 / np.maximum(m, 1)
        of_own = variance(n, sums[:, SUM], sums[:, SQUARES]) * n
        spread = np.where(fair, of_reference + of_own, 0.0)
    value, half = np.cumsum(lost), _Z * np.sqrt(np.cumsum(spread))
    return Regret(value, value - half, value + half, missing=round(float(n[~fair].sum())))


def _beside_oracle(sums: FloatArray) -> Regret:
    """Return the regret beside an oracle, which says of each decision what the best slate earns on average.

    Decisions of which it said nothing are left out, at their bucket's mean.
    """
    n, known = sums[:, COUNT], sums[:, KNOWN]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(n > 0, sums[:, SUM] / n, 0.0)
    spread = np.nan_to_num(variance(n, sums[:, SUM], sums[:, SQUARES])) * known
    value, half = np.cumsum(sums[:, BEST] - known * mean), _Z * np.sqrt(np.cumsum(spread))
    return Regret(value, value - half, value + half, missing=round(float((n - known).sum())))
