"""The learner of Q learning: the loss of a batch of columns, the schedules, and the averaged network."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor, nn

from rl.algorithms.bypass.flat import flatten
from rl.algorithms.bypass.update import update
from rl.algorithms.dqn.module import QModule
from rl.algorithms.dqn.td import compute_loss, greedy_values, targets
from rl.experience.checks import NEXT

Batch = dict[str, Tensor]


class QLearner(TorchLearner):
    """Double Q learning with a target network that is an average of the online network.

    With `config.plain` an update is RLlib's, else that of `rl.algorithms.bypass.update`: both call the methods below.
    """

    config: Any
    results: dict[str, Tensor]
    """What the last loss was made of, by name; the TD errors [B] among it."""

    def build(self) -> None:
        """Build the module, its averaged copy and the optimiser."""
        super().build()
        module = self.q_module
        if not hasattr(module, "_target"):
            module.make_target_networks()
        self._average = self._parameters(module.get_target_network_pairs()[0][1])
        self._updates = 0

    def _parameters(self, network: nn.Module) -> list[nn.Parameter]:
        return [*network.parameters()] if self.config.plain else [flatten(network)]

    @property
    def q_module(self) -> QModule:
        """The only module."""
        module: QModule = self.module[DEFAULT_MODULE_ID].unwrapped()
        return module

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Make AdamW.

        Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).
        """
        self._online = self._parameters(self.q_module.net)
        optimiser = torch.optim.AdamW(
            self._online, lr=config.lr, weight_decay=config.weight_decay, eps=config.adam_epsilon, fused=True
        )
        self.register_optimizer(module_id=module_id, optimizer=optimiser, params=self._online)

    def update(
        self,
        batch: Any = None,
        *,
        training_data: TrainingData | None = None,
        timesteps: dict[str, int] | None = None,
        **options: Any,
    ) -> dict[str, np.ndarray]:
        """Take one step.

        Returns:
            The TD errors [B] before it, the loss, and the mean Q value of the actions taken.
        """
        if self.config.plain:
            super().update(batch, training_data=training_data, timesteps=timesteps, **options)
        else:
            update(self, (training_data.batch if training_data else batch)[DEFAULT_MODULE_ID], timesteps or {})
        return {name: array.cpu().numpy() for name, array in self.results.items()}

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Set the learning rate, and let the network hide items, which it does not after a runner here has acted."""
        if not self.q_module.net.training:
            self.q_module.net.train()
        for group in self.get_optimizer(DEFAULT_MODULE_ID).param_groups:
            group["lr"] = self.config.lr_at(timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Move the averaged network, and set the probability of exploring."""
        self._follow()
        self.q_module.epsilon.fill_(self.config.epsilon_at(timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)))

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Batch, fwd_out: dict[str, Any]) -> Tensor:
        """Return the loss of a batch of columns of `Transitions`, and keep what it is made of in `results`."""
        loss, results = self.loss(config, batch)
        self.results = {name: array.detach() for name, array in (results | {"loss": loss}).items()}
        return loss

    def loss(self, config: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, and what it is made of."""
        _, taken = self._compute_values(batch)
        errors = taken - self._targets(self.q_module, batch)
        return compute_loss(config.loss, errors, batch["weights"]), {"td_errors": errors, "q_mean": taken.mean()}

    def _compute_values(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the network's values of all candidates [B, A], and of the actions taken [B]."""
        q = self.q_module.q_values(self.q_module.net, batch)
        return q, q.gather(1, batch["actions"]).squeeze(1)

    def _targets(self, module: QModule, batch: Batch) -> Tensor:
        """Return what the Q values of the actions taken should be, [B]."""
        if "discounts" not in batch:  # γ = 0: the reward is all there is
            return batch["rewards"]
        after = {name.removeprefix(NEXT): tensor for name, tensor in batch.items() if name.startswith(NEXT)}
        with torch.no_grad():
            values = module.q_values(module._target, after)
            chooser = module.q_values(module.net, after) if self.config.double_q else values
            best = greedy_values(values, chooser, after["mask"])
            return targets(batch["rewards"], batch["discounts"], best)

    def _follow(self) -> None:
        """Move the averaged copy towards the network: a plain mean at first, then an exponential one of rate τ.

        Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992).
        """
        self._updates += 1
        with torch.no_grad():
            rate = max(self.config.tau, 1 / (self._updates + 1))
            for average, online in zip(self._average, self._online, strict=True):
                average.lerp_(online, rate)

    def get_state(self, components: str | Sequence[str] | None = None, **options: Any) -> dict[str, Any]:
        """Add the number of updates, which the average's rate depends on."""
        state: dict[str, Any] = super().get_state(components, **options)
        return state | {"updates": self._updates}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `get_state`."""
        super().set_state(state)
        self._updates = state.get("updates", self._updates)
