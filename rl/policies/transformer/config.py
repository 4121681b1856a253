"""The description of a Q network and of its policy."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rl.policy.config import BasePolicyConfig
from rl.policy.explorers import EpsilonGreedy, ExplorerConfig
from rl.policy.interface import Policy


class QNetworkConfig(BaseModel):
    """The shape of a Q network."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    width: Annotated[int, Field(ge=1, description="W: length of every vector")] = 32
    heads: Annotated[int, Field(ge=1, description="H: attention heads; divides the width")] = 1
    layers: Annotated[int, Field(ge=0, description="self-attention blocks over the history")] = 1
    oldest: Annotated[int, Field(ge=1, description="age in steps from which entries are told apart no more")] = 32
    dueling: Annotated[bool, Field(description="a value for the state and an advantage for each candidate")] = True
    item_dropout: Annotated[float, Field(ge=0, lt=1, description="share of items hidden in training")] = 0.0

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "QNetworkConfig":
        if self.width % self.heads:
            raise ValueError(f"heads must divide the width, got {self.heads} heads of width {self.width}")
        return self


class TransformerConfig(BasePolicyConfig):
    """A Q network with an explorer over its values."""

    kind: Literal["transformer"] = "transformer"
    network: QNetworkConfig = QNetworkConfig()
    explorer: Annotated[ExplorerConfig, Field(description="of the served policy")] = EpsilonGreedy(epsilon=0.05)

    def build(self, n_features: int, n_states: int, popularity: NDArray[np.float64]) -> Policy:
        """See `BasePolicyConfig.build`."""
        from rl.policies.transformer.network import QNetwork
        from rl.policies.transformer.policy import TransformerPolicy

        # Not in training: there items would be hidden at random.
        return TransformerPolicy(QNetwork(self.network, len(popularity) - 1, n_features).eval(), self.explorer)

    def serve(self, graph: bytes, state: dict[str, NDArray[np.float64]]) -> Policy:
        """See `BasePolicyConfig.serve`."""
        from rl.policies.transformer.runtime import GraphPolicy

        return GraphPolicy(graph, self.explorer, state)
