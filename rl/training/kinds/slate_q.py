"""Kind `slate_q`: a slate network learns in a simulator of slates. Light: RLlib is imported when it is run."""

from typing import Annotated, Any, Literal

from pydantic import Field

from rl.policies import PolicyConfig, SlateTransformerConfig
from rl.policies.slates.config import SlateNetworkConfig
from rl.training.kinds.dqn import DQN, QExperiment
from rl.training.kinds.simulated import run
from rl.training.run.errors import TrainingError

__all__ = ["Experiment", "SlateQ", "run"]


class SlateQ(DQN):
    """Hyper-parameters, with the names and defaults of `SlateQConfig.training` (`rl.algorithms.slate_q`)."""

    network: SlateNetworkConfig = SlateNetworkConfig()
    choice_weight: Annotated[float, Field(ge=0, description="of the choice model's loss, beside that of values")] = 1.0


class Experiment(QExperiment):
    """Train a slate network in a simulator of slates by SlateQ."""

    kind: Literal["slate_q"] = "slate_q"
    slate_q: SlateQ = SlateQ()

    def algorithm(self) -> Any:
        """See `SimulatorExperiment.algorithm`.

        Raises:
            TrainingError: there is no such simulator, or it is not one of slates.
        """
        self.slots()
        from rl.algorithms.slate_q.algorithm import SlateQConfig

        return self.trained_by(SlateQConfig(), self.slate_q)

    def policy_config(self) -> PolicyConfig:
        """See `SimulatorExperiment.policy_config`."""
        return SlateTransformerConfig(network=self.slate_q.network, slate=self.slots())

    def slots(self) -> int:
        """Return K, the slots of the simulator's slates.

        Raises:
            TrainingError: there is no such simulator, it takes one item at a time, or it does not tell the choice.
        """
        from rl.training.run.environments import environment

        env = environment(self.environment, 1)
        shape = env.single_action_space.shape
        if not shape or "chosen" not in env.logged:
            lacking = "does not tell what was chosen from a slate" if shape else "takes one item at a time, no slates"
            raise TrainingError(f"environment: {self.environment.name} {lacking}; kind slate_q cannot learn there")
        return int(shape[0])
