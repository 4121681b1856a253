"""Policies, each built from its configuration by `build`. Light: numpy and pydantic."""

from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rl.policies.baselines import (
    Popularity,
    PopularityConfig,
    Random,
    RandomConfig,
)
from rl.policies.crossed.config import CrossedConfig
from rl.policies.crossed.policy import CrossedBandit
from rl.policies.linear.linear import (
    Linear,
    LinearThompsonConfig,
    LinUCBConfig,
    RidgeConfig,
)
from rl.policies.linear.neural import NeuralLinear, NeuralLinearConfig
from rl.policies.linear.per_item import PerItem
from rl.policies.rfm_bandit import RFMBandit, RFMBanditConfig
from rl.policies.slates.config import SlateTransformerConfig
from rl.policies.transformer.config import TransformerConfig
from rl.policy.interface import Policy

__all__ = [
    "CrossedConfig",
    "LinUCBConfig",
    "LinearThompsonConfig",
    "NeuralLinearConfig",
    "OnlinePolicyConfig",
    "PolicyConfig",
    "PopularityConfig",
    "RFMBanditConfig",
    "RandomConfig",
    "RidgeConfig",
    "SlateTransformerConfig",
    "TransformerConfig",
    "build",
    "quick",
]

_Online: TypeAlias = (
    RandomConfig
    | PopularityConfig
    | RFMBanditConfig
    | LinearThompsonConfig
    | LinUCBConfig
    | RidgeConfig
    | NeuralLinearConfig
    | CrossedConfig
)
OnlinePolicyConfig: TypeAlias = Annotated[_Online, Field(discriminator="kind")]
"""A policy that learns from each impression, or needs none; told apart by its `kind`."""

PolicyConfig: TypeAlias = Annotated[_Online | TransformerConfig | SlateTransformerConfig, Field(discriminator="kind")]
"""Any policy."""


def build(config: PolicyConfig, n_features: int, n_states: int, popularity: NDArray[np.float64]) -> Policy:
    """Build an untrained policy.

    Args:
        config: which one, and how.
        n_features: length F of the joint features, or of the context's alone.
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
            n_items = len(popularity) - 1
            return Linear(config, n_features) if config.models == "shared" else PerItem(config, n_features, n_items)
        case NeuralLinearConfig():
            return NeuralLinear(config, n_features, n_items=len(popularity) - 1)
        case CrossedConfig():
            return CrossedBandit(config)
        case TransformerConfig():
            from rl.policies.transformer.network import QNetwork  # torch takes seconds to import
            from rl.policies.transformer.policy import TransformerPolicy

            # Not in training: there items would be hidden at random.
            return TransformerPolicy(QNetwork(config.network, len(popularity) - 1, n_features).eval(), config.explorer)
        case SlateTransformerConfig():
            from rl.policies.slates.network import SlateNetwork
            from rl.policies.slates.policy import SlatePolicy

            network = SlateNetwork(config.network, len(popularity) - 1, n_features)
            return SlatePolicy(network.eval(), config.explorer, config.slate)


def quick(policy: Policy, config: PolicyConfig) -> Policy:
    """Return a policy that answers as this one does, up to rounding, and takes least time for one request.

    It is for policies that are not trained any further; those that learn from each impression are returned as they
    are.

    Raises:
        PolicyError: what was made does not answer as the policy does.
    """
    if not isinstance(config, TransformerConfig):
        return policy
    from rl.policies.transformer.policy import TransformerPolicy
    from rl.policies.transformer.runtime import QuickTransformer  # torch takes seconds to import

    assert isinstance(policy, TransformerPolicy), "it was built by its configuration"
    return QuickTransformer(policy)
