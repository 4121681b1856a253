"""Kind `bandit`: a contextual bandit learns in a simulator."""

from typing import Annotated, Any, Literal

from pydantic import Field

from rl.algorithms.bandit.config import ENV_STEPS_PER_REPORT, BanditHyperparameters
from rl.policies import PolicyConfig
from rl.policy.interface import Policy
from rl.training.run.experiment import SimulatorExperiment


class BanditTable(BanditHyperparameters):
    """What learns, and how often it is reported on."""

    env_steps_per_report: Annotated[int, Field(ge=1, description="environment steps between two reports")] = (
        ENV_STEPS_PER_REPORT
    )


class BanditExperiment(SimulatorExperiment):
    """Train a contextual bandit in a simulator."""

    kind: Literal["bandit"] = "bandit"
    envs_per_runner: int = Field(default=20, ge=1, description="decisions between two updates, of each runner")
    bandit: BanditTable = BanditTable()

    def algorithm(self) -> Any:
        """See `SimulatorExperiment.algorithm`."""
        from rl.algorithms.bandit.algorithm import BanditConfig

        steps = min(self.bandit.env_steps_per_report, self.env_steps)
        config = self.configure(BanditConfig()).training(policy=self.bandit.policy)
        return config.reporting(min_sample_timesteps_per_iteration=steps)

    def policy_config(self) -> PolicyConfig:
        """See `SimulatorExperiment.policy_config`."""
        return self.bandit.policy

    def get_policy(self, module: Any) -> Policy:
        """Return the policy itself."""
        policy: Policy = module.acting_policy()
        return policy
