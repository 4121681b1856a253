"""Every kind of policy of dense features, small and untrained."""

import numpy as np
import torch

from data.features.rfm import N_STATES
from rl.policies import (
    LinearThompsonConfig,
    LinUCBConfig,
    NeuralLinearConfig,
    PolicyConfig,
    PopularityConfig,
    RandomConfig,
    RFMBanditConfig,
    RidgeConfig,
    SlateTransformerConfig,
    TransformerConfig,
    build,
)
from rl.policies.linear.basis import Quadratic, RandomFourier
from rl.policies.linear.config import Relevance
from rl.policies.slates.config import SlateNetworkConfig
from rl.policies.transformer.config import QNetworkConfig
from rl.policy.explorers import EpsilonGreedy, Softmax, SquareCB, Uniform, Votes
from rl.policy.interface import Policy

F, N = 4, 6
EXPLORERS = (Uniform(), EpsilonGreedy(), Softmax(), SquareCB(), Votes())
CONFIGS: list[PolicyConfig] = [
    RandomConfig(),
    PopularityConfig(),
    LinearThompsonConfig(samples=20),
    LinearThompsonConfig(samples=20, noise_sd=0.5),
    LinUCBConfig(),
    LinUCBConfig(regularisation=2.0),
    *(RidgeConfig(explorer=explorer) for explorer in EXPLORERS),
    *(RFMBanditConfig(explorer=explorer) for explorer in EXPLORERS),
    LinearThompsonConfig(samples=20, models="per_item"),
    LinUCBConfig(models="per_item", basis=Quadratic()),
    RidgeConfig(models="per_item", basis=RandomFourier(n=8), relevance=Relevance()),
    # A refresh comes later than anything here learns: across one, order counts (see test_neural_linear).
    NeuralLinearConfig(head=RidgeConfig(models="per_item"), hidden=(7,), refresh_every=1_000),
    NeuralLinearConfig(head=LinearThompsonConfig(samples=20), hidden=(7, 5), refresh_every=1_000),
    TransformerConfig(network=QNetworkConfig(width=8)),
    SlateTransformerConfig(network=SlateNetworkConfig(width=8), slate=2),
]


def name_of(config: PolicyConfig) -> str:
    parts = [config.kind, *(str(getattr(config, name).kind) for name in ("explorer", "head") if name in set_in(config))]
    return "-".join(parts + (["per_item"] if "models" in set_in(config) else []))


def set_in(config: PolicyConfig) -> set[str]:
    return config.model_fields_set


def untrained(config: PolicyConfig) -> Policy:
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of a network's first weights
        return build(config, F, N_STATES, np.array([0.0, 3.0, 9.0, 1.0, 4.0, 7.0, 2.0]))
