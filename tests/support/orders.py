"""Probabilities of sets by enumeration of their orders."""

from itertools import permutations

import numpy as np

from rl.policy.arrays import FloatArray


def sum_over_orders(first: FloatArray) -> FloatArray:
    """Return the probabilities [n] that k items fill the slots in any order, drawn without replacement.

    Args:
        first: [n, k] probabilities of the items in the first slot.
    """
    total = np.zeros(len(first))
    for order in permutations(range(first.shape[1])):
        left, of_order = np.ones(len(first)), np.ones(len(first))
        for item in order:
            of_order *= first[:, item] / left
            left -= first[:, item]
        total += of_order
    return total
