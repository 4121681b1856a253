"""The description of a Q network and of its policy. Light: a description can be read where torch is not."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rl.policy.explorers import EpsilonGreedy, ExplorerConfig


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


class TransformerConfig(BaseModel):
    """A Q network with an explorer over its values."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["transformer"] = "transformer"
    network: QNetworkConfig = QNetworkConfig()
    explorer: Annotated[ExplorerConfig, Field(description="of the served policy")] = EpsilonGreedy(epsilon=0.05)
