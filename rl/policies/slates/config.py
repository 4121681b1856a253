"""The configurations of slate networks and their policies. Light: pydantic."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from rl.policies.transformer.config import QNetworkConfig
from rl.policy.explorers import EpsilonGreedy, ExplorerConfig


class SlateNetworkConfig(QNetworkConfig):
    """The shape of a slate network."""

    dueling: Annotated[Literal[True], Field(description="values are always those of no choice and what it adds")] = True
    value_scale: Annotated[
        float, Field(gt=0, description="how far values go, in units of reward: outputs are times it")
    ] = 1
    added_scale: Annotated[
        float, Field(gt=0, description="the same of what a choice adds; also the unit of errors")
    ] = 1


class SlateTransformerConfig(BaseModel):
    """A slate network with an explorer over the candidates' part in the best slate."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["slate_transformer"] = "slate_transformer"
    network: SlateNetworkConfig = SlateNetworkConfig()
    slate: Annotated[int, Field(ge=1, description="K: slots of the slates that scores are for")] = 3
    explorer: Annotated[ExplorerConfig, Field(description="of the served policy")] = EpsilonGreedy(epsilon=0.05)
