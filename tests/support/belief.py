"""The best guess in `ShopPlus`: exact Bayesian filtering of what is hidden, then greedy. Light: numpy.

It knows the simulator's probabilities, but not the user: what it earns is what a learner that sees the same can
hope for. It does not probe for the sake of later steps, so the optimum may lie a little higher.
"""

import numpy as np
from numpy.typing import NDArray

from rl.policy.arrays import FloatArray, IntArray
from rl.policy.explorers import EpsilonGreedy
from rl.policy.interface import Policy
from rl.policy.queries import CLICK, IGNORED, ITEM, OUTCOME, Impressions, Query
from rl.simulators.shop.plus import (
    AFFINITIES,
    AGE_BANDS,
    AGE_GIVEN_PROPENSITY,
    AT_HOME,
    GENDERS,
    LEVELS,
    LOCATIONS,
    PROPENSITIES,
    SHIFT,
    USER_FEATURES,
    outcome_probabilities,
)
from rl.simulators.shop.shop import FAVOURITES, PRODUCTS

_AWAY = (1 - AT_HOME) / (LOCATIONS - 1)
_GRID = np.arange(AFFINITIES)[:, None], np.arange(len(PROPENSITIES))[None, :]


class GreedyBelief(Policy):
    """Shows the product of highest expected reward under the exact belief; learns nothing.

    The belief is over favourite, affinity and propensity, [B, 5, 11, 3]. It is computed anew from each query's history,
    and from the user's features where there are any, so the policy has no state.
    """

    def __init__(self) -> None:
        self.explorer = EpsilonGreedy(epsilon=0.0)
        # [2, 4, 11, 3]: other product or favourite, outcome, affinity, propensity
        match = np.array([False, True])[:, None, None]
        self._likelihood = np.moveaxis(outcome_probabilities(match, *_GRID), -1, 1)
        self._reward = np.einsum("moar,o->mar", self._likelihood, LEVELS)  # [2, 11, 3]

    def belief(self, query: Query) -> FloatArray:
        """Return the probabilities of favourite, affinity and propensity given all that was seen, [B, 5, 11, 3]."""
        assert query.history is not None
        belief = prior(query)
        seen = query.history[:, :, ITEM] > 0
        for t in np.flatnonzero(seen.any(axis=0)):
            known = seen[:, t]
            belief[known] = self.after(belief[known], query.history[known, t, ITEM], query.history[known, t, OUTCOME])
        return belief

    def after(self, belief: FloatArray, items: IntArray, outcomes: IntArray) -> FloatArray:
        """Take in what came of showing items [B] to each user, and that a step has passed; returns the new belief."""
        match = items[:, None] == np.arange(1, FAVOURITES + 1)  # [B, 5]
        belief = belief * self._likelihood[match.astype(np.int64), outcomes[:, None] - IGNORED]
        grown = np.zeros_like(belief)
        grown[:, :, 1:] = belief[:, :, :-1]
        grown[:, :, -1] += belief[:, :, -1]
        belief = np.where((outcomes >= CLICK)[:, None, None, None], grown, belief)
        belief /= belief.sum(axis=(1, 2, 3), keepdims=True)
        moved = (belief.sum(axis=1, keepdims=True) - belief) / (FAVOURITES - 1)
        mixed: FloatArray = (1 - SHIFT) * belief + SHIFT * moved
        return mixed

    def rewards(self, belief: FloatArray) -> FloatArray:
        """Return the expected reward of showing each of the 10 products, [B, 10]."""
        mass = belief.reshape(*belief.shape[:2], -1)  # [B, 5, 33]
        other, favourite = np.moveaxis(mass @ self._reward.reshape(2, -1).T, -1, 0)  # [B, 5], by favourite
        unloved = other.sum(axis=1, keepdims=True)
        never = np.repeat(unloved, PRODUCTS - FAVOURITES, axis=1)
        return np.concatenate([unloved - other + favourite, never], axis=1)

    def expected(self, query: Query) -> FloatArray:
        """Return the expected reward of showing each candidate, [B, A]."""
        expected: FloatArray = np.take_along_axis(self.rewards(self.belief(query)), query.items - 1, axis=1)
        return expected

    def update(self, observations: Impressions) -> None:
        """Learn nothing."""

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return no arrays."""
        return {}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Take nothing over."""


def prior(query: Query) -> FloatArray:
    """Return the belief before the first step, [B, 5, 11, 3]."""
    favourite = np.full((len(query), FAVOURITES), 1 / FAVOURITES)
    propensity = np.full((len(query), len(PROPENSITIES)), 1 / len(PROPENSITIES))
    if query.features.shape[2] == USER_FEATURES:
        age, _, location = np.split(query.features[:, 0], [AGE_BANDS, AGE_BANDS + GENDERS], axis=1)
        favourite = location @ (np.eye(LOCATIONS) * (AT_HOME - _AWAY) + _AWAY)
        propensity = age @ (AGE_GIVEN_PROPENSITY / AGE_GIVEN_PROPENSITY.sum(axis=0)).T
    affinity = np.full(AFFINITIES, 1 / AFFINITIES)
    joint: FloatArray = np.einsum("bf,a,br->bfar", favourite, affinity, propensity)
    return joint
