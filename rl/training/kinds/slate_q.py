"""Kind `slate_q`: a slate network learns in a simulator of slates."""

from typing import Any, Literal

from rl.algorithms.slate_q.config import SlateQHyperparameters
from rl.policies import PolicyConfig, SlateTransformerConfig
from rl.training.kinds.dqn import QLearningExperiment
from rl.training.run.environments import environment
from rl.training.run.errors import TrainingError


class SlateQExperiment(QLearningExperiment):
    """Train a slate network in a simulator of slates by SlateQ."""

    kind: Literal["slate_q"] = "slate_q"
    slate_q: SlateQHyperparameters = SlateQHyperparameters()

    def algorithm(self) -> Any:
        """See `SimulatorExperiment.algorithm`.

        Raises:
            TrainingError: there is no such simulator, or it is not one of slates.
        """
        self.slots()
        from rl.algorithms.slate_q.algorithm import SlateQConfig

        return self.configure(SlateQConfig()).training(hyperparameters=self.slate_q, horizon=self.env_steps)

    def policy_config(self) -> PolicyConfig:
        """See `SimulatorExperiment.policy_config`."""
        return SlateTransformerConfig(network=self.slate_q.network, slate=self.slots())

    def slots(self) -> int:
        """Return K, the slots of the simulator's slates.

        Raises:
            TrainingError: there is no such simulator, it takes one item at a time, or it does not tell the choice.
        """
        env = environment(self.environment, 1)
        shape = env.single_action_space.shape
        if not shape or "chosen" not in env.logged:
            lacking = "does not tell what was chosen from a slate" if shape else "takes one item at a time, no slates"
            raise TrainingError(f"environment: {self.environment.name} {lacking}; kind slate_q cannot learn there")
        return int(shape[0])
