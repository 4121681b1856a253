"""How the RFM bandit is set up."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rl.policies.forgetting.config import Forgetting
from rl.policy.config import BasePolicyConfig
from rl.policy.explorers import EpsilonGreedy, ExplorerConfig
from rl.policy.interface import Policy


class RFMBanditConfig(BasePolicyConfig):
    """A table of shrunk averages."""

    kind: Literal["rfm_bandit"] = "rfm_bandit"
    shrinkage: Annotated[float, Field(gt=0, description="weight of the wider context, in impressions")] = 30.0
    explorer: ExplorerConfig = EpsilonGreedy(epsilon=0.05)
    forgetting: Annotated[Forgetting | None, Field(description="how it forgets, where rewards drift; none: never")] = (
        None
    )

    def build(self, n_features: int, n_states: int, popularity: NDArray[np.float64]) -> Policy:
        """See `BasePolicyConfig.build`."""
        from rl.policies.forgetting.policy import ForgettingPolicy
        from rl.policies.rfm.policy import RFMBandit

        n_items = len(popularity) - 1
        if self.forgetting is not None:
            return ForgettingPolicy(self.forgetting, lambda: RFMBandit(self, n_states, n_items))
        return RFMBandit(self, n_states, n_items)
