"""Bets against a hypothesis: factors by which a stake grows, 1 or less on average as long as the hypothesis holds.

Axis names: n observations, K bets of a kind.
"""

from typing import Final

import numpy as np

from rl.policy.arrays import FloatArray

_STAKES: Final = np.array([0.1, 0.3, 0.9])
_WEIGHT_STAKES: Final = np.array([0.02, 0.1, 0.5])


def bet_on_change(ranks: FloatArray) -> FloatArray:
    """Bet that ranks [n] are not uniform: small, large, at the ends, in the middle, or very small; [n, K]."""
    slope, ends = 2 * ranks[:, None] - 1, (12 * (ranks[:, None] - 0.5) ** 2 - 1) / 2  # both 0 on average, from -1 on
    bets = [1 + _STAKES * slope, 1 - _STAKES * slope, 1 + _STAKES * ends, 1 - _STAKES * ends / 2]
    return np.concatenate([*bets, _power(ranks)], axis=1)


def bet_on_small(ranks: FloatArray) -> FloatArray:
    """Bet that ranks [n] are smaller than uniform ones, [n, K]."""
    return np.concatenate([1 - _STAKES * (2 * ranks[:, None] - 1), _power(ranks)], axis=1)


def bet_on_weights(weights: FloatArray) -> FloatArray:
    """Bet that weights [n], none below 0, are above 1 on average, [n, K]."""
    return 1 + _WEIGHT_STAKES * (weights[:, None] - 1)


def _power(ranks: FloatArray) -> FloatArray:
    """Return 1 / (2√rank), [n, 1], which is 1 on average."""
    factors: FloatArray = 0.5 / np.sqrt(np.maximum(ranks[:, None], 1e-12))
    return factors
