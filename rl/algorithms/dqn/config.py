"""What the configurations of Q learning share, from runners' experience or from a table. Needs ray, torch."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rl.algorithms.dqn.learner import QLearner
from rl.algorithms.dqn.module import QModule


class QLearningConfig(AlgorithmConfig):
    """Base of the configurations of algorithms with a `QLearner`."""

    module_class: type[QModule] = QModule

    def __init__(self, algo_class: type[Algorithm]) -> None:
        super().__init__(algo_class=algo_class)
        self.gamma = None  # the discounts are the simulator's or the table's own
        self.lr = 1e-3
        self.network: dict[str, Any] = {}
        self.double_q = True
        self.loss = "huber"
        self.tau = 0.005
        self.weight_decay = 0.0
        self.adam_epsilon = 1e-8
        self.lr_final_share, self.lr_decay_share = 1.0, 0.5

    def training(
        self,
        *,
        network: dict[str, Any] = NotProvided,
        double_q: bool = NotProvided,
        loss: str = NotProvided,
        tau: float = NotProvided,
        weight_decay: float = NotProvided,
        adam_epsilon: float = NotProvided,
        lr_final_share: float = NotProvided,
        lr_decay_share: float = NotProvided,
        **options: Any,
    ) -> Self:
        """Set what training does.

        Args:
            network: fields of `rl.policies.transformer.network.QNetworkConfig`.
            double_q: let the online network choose the next action that the averaged one values.
            loss: `mse` or `huber`, of the TD errors.
            tau: rate of the averaged network, per update.
            weight_decay: of AdamW.
            adam_epsilon: of AdamW.
            lr_final_share: share of the learning rate that is left at the end.
            lr_decay_share: the learning rate falls linearly over this last share of the training.
            options: see `AlgorithmConfig.training`.
        """
        given = locals()
        super().training(**options)
        return self.set_given(given)

    def set_given(self, arguments: Mapping[str, Any]) -> Self:
        """Set the fields that are among a method's arguments, its `locals()`, and were given."""
        for name, value in arguments.items():
            if name not in ("self", "options", "__class__") and value is not NotProvided:
                setattr(self, name, value)
        return self

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

    def validate(self) -> None:
        """Check what RLlib does not know of.

        Raises:
            ValueError: a value that cannot be trained with.
        """
        super().validate()
        self.require("loss", ("mse", "huber"))

    def require(self, name: str, known: tuple[str, ...]) -> None:
        """Raise a ValueError if a field has none of the known values."""
        if getattr(self, name) not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    def require_positive(self, *names: str) -> None:
        """Raise a ValueError if one of the fields is not positive."""
        for name in names:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Name the module, with the seed of its weights."""
        return RLModuleSpec(module_class=self.module_class, model_config=dict(self.network) | {"seed": self.seed or 0})

    def get_default_learner_class(self) -> type[QLearner]:
        """Name the learner."""
        return QLearner
