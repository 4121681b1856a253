"""What the configurations of Q learning share, from runners' experience or from a table."""

from abc import abstractmethod
from typing import ClassVar

from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rl.algorithms.configuration import HyperparameterConfig
from rl.algorithms.dqn.learner import QLearner
from rl.algorithms.dqn.module import QModule


class QLearningConfig(HyperparameterConfig):
    """Base of the configurations of algorithms with a `QLearner`."""

    module_class: ClassVar[type[QModule]] = QModule

    @abstractmethod
    def length(self) -> int:
        """Return the steps of the whole training, in what the learner counts."""

    def lr_at(self, steps: int) -> float:
        """Return the learning rate after so many steps."""
        left = max(0.0, 1 - steps / self.length())
        return float(self.lr * max(self.lr_final_share, min(1.0, left / max(self.lr_decay_share, 1e-9))))

    def epsilon_at(self, steps: int) -> float:
        """Return the probability of a uniform draw after so many steps: 0 where nobody explores."""
        return 0.0

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Name the module, with the seed of its weights."""
        return RLModuleSpec(
            module_class=self.module_class, model_config=self.network.model_dump() | {"seed": self.seed or 0}
        )

    def get_default_learner_class(self) -> type[QLearner]:
        """Name the learner."""
        return QLearner
