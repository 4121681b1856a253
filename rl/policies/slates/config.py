"""The configurations of slate networks and their policies."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rl.policies.transformer.config import QNetworkConfig
from rl.policy.config import BasePolicyConfig
from rl.policy.explorers import EpsilonGreedy, ExplorerConfig
from rl.policy.interface import Policy


class SlateNetworkConfig(QNetworkConfig):
    """The shape of a slate network."""

    dueling: Annotated[Literal[True], Field(description="values are always those of no choice and what it adds")] = True
    value_scale: Annotated[
        float, Field(gt=0, description="how far values go, in units of reward: outputs are times it")
    ] = 1
    added_scale: Annotated[
        float, Field(gt=0, description="the same of what a choice adds; also the unit of errors")
    ] = 1


class SlateTransformerConfig(BasePolicyConfig):
    """A slate network with an explorer over the candidates' part in the best slate."""

    kind: Literal["slate_transformer"] = "slate_transformer"
    network: SlateNetworkConfig = SlateNetworkConfig()
    slate: Annotated[int, Field(ge=1, description="K: slots of the slates that scores are for")] = 3
    explorer: Annotated[ExplorerConfig, Field(description="of the served policy")] = EpsilonGreedy(epsilon=0.05)

    def build(self, n_features: int, n_states: int, popularity: NDArray[np.float64]) -> Policy:
        """See `BasePolicyConfig.build`."""
        from rl.policies.slates.network import SlateNetwork
        from rl.policies.slates.policy import SlatePolicy

        network = SlateNetwork(self.network, len(popularity) - 1, n_features)
        return SlatePolicy(network.eval(), self.explorer, self.slate)
