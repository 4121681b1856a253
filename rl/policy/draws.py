"""Drawing slots from distributions over candidates. Axis names as in `rl.policy.interface`."""

from collections.abc import Callable

import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray


def sample(p: FloatArray, rng: np.random.Generator) -> IntArray:
    """Draw one index a row of p [B, A] by inversion of the cumulative distribution, [B].

    An index of probability 0 is never drawn, whatever the rounding of the cumulative sums.
    """
    cumulative = p.cumsum(axis=1)
    # (0, total]: strictly above every index before the first of positive probability, at most the last one's sum
    threshold = (1.0 - rng.random((len(p), 1))) * cumulative[:, -1:]
    drawn: IntArray = (cumulative >= threshold).argmax(axis=1)
    return drawn


def sample_one(
    distribution: Callable[[BoolArray], FloatArray], mask: BoolArray, k: int, rng: np.random.Generator
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Sample one slate of k slots without repeats: the one that `sample`, slot by slot, draws.

    Args:
        distribution: gives probabilities [A] for a mask [A].
        mask: [A] which candidates may be chosen; at least k.
        k: number of slots.
        rng: gives one number a slot.

    Returns:
        Positions [1, K] and propensities [1, K] of the slots, and the distribution of the first slot [1, A].
    """
    left = mask.copy()
    positions, propensities, first = list[int](), list[float](), np.empty(0)
    for drawn in rng.random(k).tolist():
        p = distribution(left)
        cumulative = np.add.accumulate(p)
        chosen = int(cumulative.searchsorted((1.0 - drawn) * cumulative[-1]))  # as in `sample`
        first = first if positions else p
        positions.append(chosen)
        propensities.append(float(p[chosen]))
        left[chosen] = False
    return np.array([positions]), np.array([propensities]), first[None]
