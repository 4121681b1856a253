"""Kind `dqn`: a transformer Q network learns in a simulator."""

from typing import Any, Literal

from rl.algorithms.dqn.config import DQNHyperparameters
from rl.policies import PolicyConfig, TransformerConfig
from rl.policy.interface import Policy
from rl.training.run.experiment import SimulatorExperiment


class QLearningExperiment(SimulatorExperiment):
    """Base of the experiments of deep Q learning."""

    fragment_of_processes = 10
    """A replay does not mind weights that are a little older, and handing over has its price."""

    def get_policy(self, module: Any) -> Policy:
        """Return the policy of the averaged network."""
        policy: Policy = module.averaged_policy()
        return policy

    def schedules(self, config: Any, env_steps: int) -> dict[str, float]:
        """Return the probability of exploring and the learning rate."""
        return {"epsilon": config.epsilon_at(env_steps), "lr": config.lr_at(env_steps)}


class DQNExperiment(QLearningExperiment):
    """Train a transformer Q network in a simulator by deep Q learning."""

    kind: Literal["dqn"] = "dqn"
    dqn: DQNHyperparameters = DQNHyperparameters()

    def algorithm(self) -> Any:
        """See `SimulatorExperiment.algorithm`."""
        from rl.algorithms.dqn.algorithm import DQNConfig

        return self.configure(DQNConfig()).training(hyperparameters=self.dqn, horizon=self.env_steps)

    def policy_config(self) -> PolicyConfig:
        """See `SimulatorExperiment.policy_config`."""
        return TransformerConfig(network=self.dqn.network)
