"""Estimators of a policy's value from logged slates, whose feedback is one reward a slot or one for all.

What is assumed of users is said with each: the more, the less the spread. Weights of a slot are the target's
probability of its item over the log's, given the slots above it (`conditional`) or whatever stands there (`marginal`).

Sources: PI Swaminathan et al. (2017), Off-policy evaluation for slate recommendation; IIPS Li et al. (2018); RIPS
McInerney et al. (2020), Counterfactual evaluation of slate recommendations with sequential reward interactions;
cascade-DR Kiyohara et al. (2022); PI with control variates Vlassis et al. (2021), Control variates for slate off-policy
evaluation.
"""

from dataclasses import dataclass

import numpy as np

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.estimators import Estimate
from rl.policy.arrays import FloatArray

_LONGEST = 16  # 2^k subsets


@dataclass(frozen=True)
class SlateLog:
    """What a policy showed and what came of each slot, and how much more often the target shows the same."""

    rewards: FloatArray
    """[n, k] of the slots."""
    conditional: FloatArray
    """[n, k] weights of the slots' items, given those above."""
    marginal: FloatArray
    """[n, k] weights of the slots' items, over all that may stand above."""

    def __post_init__(self) -> None:
        """Check the arrays.

        Raises:
            EvaluationError: there are no slates, shapes differ, a weight is negative, or a value is no number.
        """
        shape = self.rewards.shape
        if len(shape) != 2 or not all(shape):
            raise EvaluationError(f"rewards must be (slates, slots), with one of each at least, got {shape}")
        if not np.isfinite(self.rewards).all():
            raise EvaluationError("rewards must be finite")
        for name in ("conditional", "marginal"):
            weights = getattr(self, name)
            if weights.shape != shape:
                raise EvaluationError(f"{name} weights must be {shape}, as the rewards, got {weights.shape}")
            if not (weights >= 0).all() or not np.isfinite(weights).all():
                raise EvaluationError(f"{name} weights must be finite and not negative")

    @property
    def cascade(self) -> FloatArray:
        """Weights [n, k] of all slots up to each."""
        weights: FloatArray = np.cumprod(self.conditional, axis=1, dtype=np.float64)
        return weights


def slate_ips(log: SlateLog) -> Estimate:
    """Weigh whole slates: users may do anything; the spread grows with the power of the slots."""
    return Estimate("slate_ips", log.cascade[:, -1] * log.rewards.sum(axis=1))


def pseudo_inverse(log: SlateLog) -> Estimate:
    """Weigh by 1 + sum(w - 1): a slate is worth the sum of what its slots are worth, and the log draws them by
    themselves.

    Only the sum of the rewards is used.
    """
    return Estimate("pseudo_inverse", _pseudo_inverse(log) * log.rewards.sum(axis=1))


def independent_ips(log: SlateLog) -> Estimate:
    """Weigh each slot by itself: what users do at one depends on no other."""
    return Estimate("independent_ips", (log.marginal * log.rewards).sum(axis=1))


def reward_interaction_ips(log: SlateLog) -> Estimate:
    """Weigh each slot with those above, divided by the weights' sum: users read from the top."""
    weights = log.cascade
    totals = weights.sum(axis=0)
    if not totals.all():
        return Estimate("reward_interaction_ips", np.full(len(weights), np.nan))
    values = (weights * log.rewards).sum(axis=0) / totals
    terms = values.sum() + ((log.rewards - values) * weights * (len(weights) / totals)).sum(axis=1)
    return Estimate("reward_interaction_ips", terms)


def cascade_dr(log: SlateLog, predicted: FloatArray, expected: FloatArray) -> Estimate:
    """Correct a model of what is still to come from each slot on: users read from the top.

    Args:
        log: the log.
        predicted: [n, k] rewards from each slot on, with the item that was shown there and the target below.
        expected: [n, k] the same, in the mean over the items that the target shows there, given those above.
    """
    weights = log.cascade
    terms = expected[:, 0] + (weights * (log.rewards + _future(expected) - predicted)).sum(axis=1)
    return Estimate("cascade_dr", terms)


def pseudo_inverse_dr(log: SlateLog, predicted: FloatArray, expected: FloatArray) -> Estimate:
    """Correct a model of the slots by the pseudo-inverse's weights, divided by their sum: the one to take.

    Of what users do it assumes the least among those whose weights do not multiply: not that they read from the top,
    nor that they look at each slot by itself, but that what the model does not know of a slate is a sum over its slots.
    Where items influence each other in pairs it is nearer to the truth than others, but its interval, which knows only
    the spread, holds it too seldom (`ope_slates`).

    Args:
        log: the log.
        predicted: see `cascade_dr`.
        expected: see `cascade_dr`.
    """
    surprises = (log.rewards + _future(expected) - predicted).sum(axis=1)
    weights = _pseudo_inverse(log)
    weights = weights / (mean if (mean := weights.mean()) > 0 else np.nan)
    correction = float((weights * surprises).mean())
    terms = expected[:, 0] + correction + weights * (surprises - correction)
    return Estimate("pseudo_inverse_dr", terms)


def _future(expected: FloatArray) -> FloatArray:
    """Return what is expected from the next slot on, [n, k]."""
    return np.column_stack([expected[:, 1:], np.zeros(len(expected))])


def _pseudo_inverse(log: SlateLog) -> FloatArray:
    weights: FloatArray = 1.0 + (log.marginal - 1.0).sum(axis=1)
    return weights


def unordered_propensities(first: FloatArray) -> FloatArray:
    """Return the exact probabilities [n] of sets of items that are drawn one after the other without replacement.

    By dynamic programming over the subsets, k 2^(k - 1) steps instead of k! orders.

    Args:
        first: [n, k] probabilities with which each of the set's items would be the first; after a draw those that are
        left
            keep their proportions (Plackett-Luce).

    Raises:
        EvaluationError: a probability is not in (0, 1], a row sums to more than one, or the sets are too large.
    """
    n, k = first.shape
    if k > _LONGEST:
        raise EvaluationError(f"sets of {_LONGEST} items at most can be worked out, got {k}")
    if not ((first > 0) & (first <= 1)).all() or (first.sum(axis=1) > 1 + 1e-9).any():
        raise EvaluationError("probabilities of a set's items must be in (0, 1], and sum to one at most")
    sums = np.zeros((1 << k, n))
    found = np.zeros((1 << k, n))
    found[0] = 1.0
    for subset in range(1, 1 << k):
        lowest = (subset & -subset).bit_length() - 1
        sums[subset] = sums[subset & (subset - 1)] + first[:, lowest]
        for item in range(k):
            if subset >> item & 1:
                others = subset ^ (1 << item)
                # Rounding may leave less than the last item's own share.
                left = np.maximum(1.0 - sums[others], first[:, item])
                found[subset] += found[others] * first[:, item] / left
    probabilities: FloatArray = found[-1]
    return probabilities
