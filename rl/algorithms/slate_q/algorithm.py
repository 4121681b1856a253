"""SlateQ on RLlib: deep Q learning of slates by the value of what the user chooses from them."""

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm

from rl.algorithms.dqn.algorithm import DQN, DQNConfig
from rl.algorithms.slate_q.config import SlateQHyperparameters
from rl.algorithms.slate_q.learner import SlateQLearner
from rl.algorithms.slate_q.module import SlateQModule


class SlateQConfig(DQNConfig):
    """Configuration of `SlateQ`: that of `DQN`, where `network` has the fields of `SlateNetworkConfig`.

    The environment's actions are slates (a MultiDiscrete space) and it logs `chosen`. Its n-step targets are not
    corrected for the slates that later steps explored.

    >>> config = SlateQConfig().environment("raycommend/InterestEvolution-v0").training(n_step=150)
    """

    hyperparameters_class = SlateQHyperparameters
    module_class = SlateQModule

    def __init__(self, algo_class: type[Algorithm] | None = None) -> None:
        super().__init__(algo_class=algo_class or SlateQ)

    def validate(self) -> None:
        """Check what RLlib does not know of.

        Raises:
            ValueError: a value that cannot be trained with.
        """
        super().validate()
        if self.compile_network:
            raise ValueError("compile_network is not for slates: only a Q network of single items is compiled")

    def get_default_learner_class(self) -> type[SlateQLearner]:
        """Name the learner."""
        return SlateQLearner


class SlateQ(DQN):
    """Q learning for slates: a slate's value is the mean of its items' values by the probability of their choice.

    Source: Ie et al., "SlateQ: a tractable decomposition for reinforcement learning with recommendation sets" (2019).
    """

    config: Any

    @classmethod
    def get_default_config(cls) -> SlateQConfig:
        """Return the configuration to begin with."""
        return SlateQConfig()
