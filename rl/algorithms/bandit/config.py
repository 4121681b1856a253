"""Hyper-parameters of contextual bandits."""

from rl.algorithms.hyperparameters import Hyperparameters
from rl.policies import LinearThompsonConfig, OnlinePolicyConfig

ENV_STEPS_PER_REPORT = 1_000
"""Environment steps that one report, RLlib's `train()`, is on by default."""


class BanditHyperparameters(Hyperparameters):
    """What learns."""

    policy: OnlinePolicyConfig = LinearThompsonConfig(models="per_item")
