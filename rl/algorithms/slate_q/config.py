"""Hyper-parameters of SlateQ."""

from typing import Annotated

from pydantic import Field

from rl.algorithms.dqn.config import DQNHyperparameters
from rl.policies.slates.config import SlateNetworkConfig


class SlateQHyperparameters(DQNHyperparameters):
    """Hyper-parameters of SlateQ: those of deep Q learning, for a network of slates."""

    network: SlateNetworkConfig = SlateNetworkConfig()
    choice_weight: Annotated[float, Field(ge=0, description="of the choice model's loss, beside that of values")] = 1.0
