"""What every policy is measured against: chance, and what sells anyway."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rl.policy.arrays import FloatArray, check_array
from rl.policy.config import BasePolicyConfig
from rl.policy.explanation.parts import TOP, Contribution, Explanation, ItemExplanation, Names, Row
from rl.policy.explorers import EpsilonGreedy, Uniform
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query


class Random(Policy):
    """Uniform among the candidates; learns nothing."""

    learns = False

    def __init__(self) -> None:
        self.explorer = Uniform()

    def expected(self, query: Query) -> FloatArray:
        """Return zeros, [B, A]: this policy expects nothing of any item."""
        return np.zeros(query.mask.shape)

    def explain(self, query: Query, positions: Sequence[int], names: Names, top: int = TOP) -> Explanation:
        """Explain exactly: nothing adds anything."""
        return Explanation("exact", (ItemExplanation(score=0.0, base=0.0),) * len(positions))

    def update(self, impressions: Impressions) -> None:
        """Learn nothing."""

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return no arrays."""
        return {}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Take nothing over."""


class Popularity(Policy):
    """The most popular candidates, greedily; learns nothing. Its scores are popularities, not rewards."""

    learns = False

    def __init__(self, popularity: NDArray[np.float64]) -> None:
        self.explorer = EpsilonGreedy(epsilon=0.0)
        self._popularity = popularity  # [N + 1]

    def expected(self, query: Query) -> FloatArray:
        """Return each candidate's popularity, [B, A]."""
        popularity: FloatArray = self._popularity[query.items]
        return popularity

    def explain(self, query: Query, positions: Sequence[int], names: Names, top: int = TOP) -> Explanation:
        """Explain by how often an item was bought in what was fitted."""
        bought = self.expected(query)[0, list(positions)].tolist()
        return Explanation(
            "table",
            tuple(
                ItemExplanation(n, 0.0, (Contribution(("popularity",), n, n),), table=(Row("everyone", n, None, n),))
                for n in bought
            ),
        )

    def update(self, impressions: Impressions) -> None:
        """Learn nothing."""

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return the popularity of each catalogue position, [N + 1]."""
        return {"popularity": self._popularity.copy()}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.interface.Policy.load_state_dict`."""
        self._popularity = check_array(state, "popularity", self._popularity.shape)


class RandomConfig(BasePolicyConfig):
    """Uniform among the candidates."""

    kind: Literal["random"] = "random"

    def build(self, n_features: int, n_states: int, popularity: NDArray[np.float64]) -> Policy:
        """See `BasePolicyConfig.build`."""
        return Random()


class PopularityConfig(BasePolicyConfig):
    """Always what sold most in the fitted data."""

    kind: Literal["popularity"] = "popularity"

    def build(self, n_features: int, n_states: int, popularity: NDArray[np.float64]) -> Policy:
        """See `BasePolicyConfig.build`."""
        return Popularity(popularity)
