"""The policies: each is configured by a kind, which is registered here, and built by its configuration."""

from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rl.policies.baselines import PopularityConfig as PopularityConfig
from rl.policies.baselines import RandomConfig as RandomConfig
from rl.policies.crossed.config import CrossedConfig as CrossedConfig
from rl.policies.linear.config import LinearThompsonConfig as LinearThompsonConfig
from rl.policies.linear.config import LinUCBConfig as LinUCBConfig
from rl.policies.linear.config import NeuralLinearConfig as NeuralLinearConfig
from rl.policies.linear.config import RidgeConfig as RidgeConfig
from rl.policies.rfm.config import RFMBanditConfig as RFMBanditConfig
from rl.policies.slates.config import SlateTransformerConfig as SlateTransformerConfig
from rl.policies.transformer.config import TransformerConfig as TransformerConfig
from rl.policy.interface import Policy

# A new policy is added here, once: to this union if it learns from each impression or need not, else to the next.
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
_Network: TypeAlias = TransformerConfig | SlateTransformerConfig

OnlinePolicyConfig: TypeAlias = Annotated[_Online, Field(discriminator="kind")]
"""A policy that learns from each impression, or need not learn."""
PolicyConfig: TypeAlias = Annotated[_Online | _Network, Field(discriminator="kind")]
"""Any policy."""


def build(config: PolicyConfig, n_features: int, n_states: int, popularity: NDArray[np.float64]) -> Policy:
    """Build an untrained policy; see `rl.policy.config.BasePolicyConfig.build`."""
    return config.build(n_features, n_states, popularity)
