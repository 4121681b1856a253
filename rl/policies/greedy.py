"""Another policy without its exploration."""

from collections.abc import Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from rl.policy.arrays import FloatArray
from rl.policy.explanation.parts import TOP, Explanation, Names
from rl.policy.explorers import EpsilonGreedy
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query


def greedy(policy: Policy) -> Policy:
    """Return a policy that shares what another has learned and does not explore; ties are drawn evenly."""
    if policy.ranks_by_expected:
        return Greedy(policy)
    alike = copy(policy)
    alike.explorer = EpsilonGreedy(epsilon=0.0)
    return alike


class Greedy(Policy):
    """Takes the candidates of highest expected reward of another policy, which it shares; ties are drawn evenly."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self.explorer = policy, EpsilonGreedy(epsilon=0.0)

    def expected(self, query: Query) -> FloatArray:
        """See `Policy.expected`."""
        return self._policy.expected(query)

    def score(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return the expected rewards as both, computed once."""
        expected = self.expected(query)
        return expected[:, None, :], expected

    def posterior(self, query: Query) -> tuple[FloatArray, FloatArray | None]:
        """See `Policy.posterior`."""
        return self._policy.posterior(query)

    def explain(self, query: Query, positions: Sequence[int], names: Names, top: int = TOP) -> Explanation:
        """See `Policy.explain`."""
        return self._policy.explain(query, positions, names, top)

    def update(self, impressions: Impressions) -> None:
        """See `Policy.update`."""
        self._policy.update(impressions)

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """See `Policy.state_dict`."""
        return self._policy.state_dict()

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `Policy.load_state_dict`."""
        self._policy.load_state_dict(state)
