"""By how much one policy is better than another, from decisions of a third: both are estimated on the same decisions.

What both would have done alike takes itself out: only decisions on which they differ have a spread.
"""

from dataclasses import dataclass

import numpy as np

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.evaluation.offpolicy.sequences import FIRST, lower_bounds
from rl.policy.arrays import FloatArray, IntArray

_ROUNDING = 1e-9
"""Share by which a weight may be larger than was said."""


@dataclass(frozen=True)
class Difference:
    """Doubly robust terms of challenger minus champion."""

    terms: FloatArray
    """[n], in the order of the log."""
    floor: float
    """What no term can be below, whatever the reward."""
    least: float
    """What the difference itself cannot be below: all of the champion's rewards against none."""

    @property
    def value(self) -> float:
        """The mean."""
        return float(self.terms.mean())

    def lower_bounds(self, alpha: float, horizon: int, looks: IntArray | None = None) -> FloatArray:
        """Return a lower bound of the difference at each look; see `sequences.lower_bounds`.

        It holds if each decision was predicted from those before it; of the first hundred, from these. Minus infinity
        where there is none yet.
        """
        bounds = lower_bounds(self.terms, self.floor, alpha, horizon, looks)
        return np.where(np.isneginf(bounds), bounds, np.maximum(bounds, self.least))


def difference(
    challenger: BanditLog,
    champion: BanditLog,
    predicted: FloatArray,
    rewards: tuple[float, float],
    most: tuple[float, float],
    cap: float | None = None,
) -> Difference:
    """Return the terms of challenger minus champion.

    Args:
        challenger: the log with its distributions.
        champion: the same log with those of the champion.
        predicted: [n, A] rewards, of each decision by a model that has not seen its reward; for bounds, by one that has
            seen no later decision either, as `cross_fit` has.
        rewards: the least and the largest that a decision can earn.
        most: how large an importance weight of the challenger, and of the champion, can be at most, by how the log's
            policy explores: one over the least propensity; 1 for a champion that is the log's policy.
        cap: what no prediction is above; default: what the first decisions suggest, of which no bound says anything.

    Raises:
        EvaluationError: the logs are not the same, a reward or weight is out of its bounds, or propensities were not
            logged: nobody knows then how large a weight can be.
    """
    if challenger.weaker or champion.weaker:
        raise EvaluationError("bounds of a difference need propensities that were logged, not fitted ones")
    if not np.array_equal(challenger.chosen, champion.chosen) or not np.array_equal(
        challenger.rewards, champion.rewards
    ):
        raise EvaluationError("challenger and champion must be of the same log")
    low, high = rewards
    if challenger.rewards.min() < low or challenger.rewards.max() > high:
        raise EvaluationError(
            f"rewards must be in [{low:g}, {high:g}], got {challenger.rewards.min():g} to {challenger.rewards.max():g}"
        )
    for log, name, largest in ((challenger, "challenger", most[0]), (champion, "champion", most[1])):
        if log.weights.max() > largest * (1 + _ROUNDING):
            raise EvaluationError(
                f"weights of the {name} must be {largest:g} at most, got {log.weights.max():g}: "
                "the log's policy explores less than was said"
            )
    # What is predicted may be anything, so it is kept where a wrong one costs little, and the floor with it.
    cap = float(np.clip(np.quantile(predicted[:FIRST], 0.999) if cap is None else cap, low, high))
    model = np.clip(predicted, low, cap)
    one, other = Predictions(challenger, model), Predictions(champion, model)
    terms = one.expected - other.expected + (challenger.weights - champion.weights) * one.residuals
    # Least: the challenger's action earned nothing where most was predicted, or the champion's most where nothing was.
    floor = -(cap - low) - max(most[0] * (cap - low), most[1] * (high - low))
    return Difference(terms, floor * (1 + _ROUNDING), low - high)
