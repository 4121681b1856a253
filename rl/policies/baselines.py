"""What every policy is measured against: chance, and what sells anyway."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from rl.policy.arrays import FloatArray, check_array
from rl.policy.explorers import EpsilonGreedy, Uniform
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query


class RandomConfig(BaseModel):
    """Uniform among the candidates."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["random"] = "random"


class PopularityConfig(BaseModel):
    """Always what sold most in the fitted data."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["popularity"] = "popularity"


class Random(Policy):
    """Uniform among the candidates; learns nothing."""

    learns = False

    def __init__(self) -> None:
        self.explorer = Uniform()

    def expected(self, query: Query) -> FloatArray:
        """Return zeros, [B, A]: this policy expects nothing of any item."""
        return np.zeros(query.mask.shape)

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

    def update(self, impressions: Impressions) -> None:
        """Learn nothing."""

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return the popularity of each catalogue position, [N + 1]."""
        return {"popularity": self._popularity.copy()}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.interface.Policy.load_state_dict`."""
        self._popularity = check_array(state, "popularity", self._popularity.shape)
