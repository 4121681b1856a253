"""Kind `bandit`: a contextual bandit learns in a simulator. Light: RLlib is imported when it is run."""

from typing import Annotated, Any, Literal

from pydantic import Field

from rl.policies import LinearThompsonConfig, OnlinePolicyConfig, PolicyConfig
from rl.policy.interface import Policy
from rl.training.kinds.experiment import Section, SimulatorExperiment
from rl.training.kinds.simulated import run

__all__ = ["Bandit", "Experiment", "run"]


class Bandit(Section):
    """What learns."""

    policy: OnlinePolicyConfig = LinearThompsonConfig(models="per_item")
    env_steps_per_report: Annotated[int, Field(ge=1, description="environment steps between two reports")] = 1_000


class Experiment(SimulatorExperiment):
    """Train a contextual bandit in a simulator."""

    kind: Literal["bandit"] = "bandit"
    envs_per_runner: int = Field(default=20, ge=1, description="decisions between two updates, of each runner")
    bandit: Bandit = Bandit()

    def algorithm(self) -> Any:
        """See `SimulatorExperiment.algorithm`."""
        from rl.algorithms.bandit.algorithm import BanditConfig

        steps = min(self.bandit.env_steps_per_report, self.env_steps)
        config = self.configured(BanditConfig()).training(policy=self.bandit.policy)
        return config.reporting(min_sample_timesteps_per_iteration=steps)

    def policy_config(self) -> PolicyConfig:
        """See `SimulatorExperiment.policy_config`."""
        return self.bandit.policy

    def learned(self, module: Any) -> Policy:
        """Return the policy itself."""
        policy: Policy = module.acting_policy()
        return policy
