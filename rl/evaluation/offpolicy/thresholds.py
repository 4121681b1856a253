"""How far importance weights are let grow: closed forms in their second moment.

A weight that is cut to M loses at most E[w^2] / M of the value, for rewards of absolute value one, and what is left
strays from its mean by about M L / (3 n), with L = log(1 / delta): Bernstein's inequality. Both are the same for
M = sqrt(3 n E[w^2] / L). It grows with the log, so that what is lost goes to zero.

Source: Papini, Metelli, Lupo and Restelli (2019), Optimistic policy optimization via multiple importance sampling,
section 4.
"""

from typing import Final

import numpy as np

from rl.policy.arrays import FloatArray

_LOG: Final = float(np.log(1 / 0.05))


def largest_weight(weights: FloatArray) -> float:
    """Return the threshold M of weights [n] that balances loss against spread; infinite where all are 0."""
    second = float(np.mean(weights**2))
    return float(np.sqrt(3 * len(weights) * second / _LOG)) if second else np.inf


def shrinkage(weights: FloatArray) -> float:
    """Return the lambda with which w lambda / (w^2 + lambda) has half of `largest_weight`, sqrt(lambda) / 2, at most.

    The bias is then at most E[w^2] / (2 sqrt(lambda)), a fourth of that of cutting at the same maximum.
    """
    return largest_weight(weights) ** 2
