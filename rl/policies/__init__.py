"""Policies, each built from its configuration by `build`. Light: numpy and pydantic."""

from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rl.policies.baselines import Popularity, PopularityConfig, Random, RandomConfig
from rl.policies.linear import Linear, LinearThompsonConfig, LinUCBConfig, RidgeConfig
from rl.policies.rfm_bandit import RFMBandit, RFMBanditConfig
from rl.policy import Policy

__all__ = [
    "LinUCBConfig",
    "LinearThompsonConfig",
    "PolicyConfig",
    "PopularityConfig",
    "RFMBanditConfig",
    "RandomConfig",
    "RidgeConfig",
    "build",
]

PolicyConfig: TypeAlias = Annotated[
    RandomConfig | PopularityConfig | RFMBanditConfig | LinearThompsonConfig | LinUCBConfig | RidgeConfig,
    Field(discriminator="kind"),
]
"""Any policy, told apart by its `kind`."""


def build(config: PolicyConfig, n_features: int, n_states: int, popularity: NDArray[np.float64]) -> Policy:
    """Build an untrained policy.

    Args:
        config: which one, and how.
        n_features: length F of the joint features.
        n_states: number of discrete context states.
        popularity: [N + 1] of each catalogue position; position 0 is the unknown item.
    """
    match config:
        case RandomConfig():
            return Random()
        case PopularityConfig():
            return Popularity(popularity)
        case RFMBanditConfig():
            return RFMBandit(config, n_states, n_items=len(popularity) - 1)
        case LinearThompsonConfig() | LinUCBConfig() | RidgeConfig():
            return Linear(config, n_features)
