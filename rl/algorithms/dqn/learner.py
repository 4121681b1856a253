"""One gradient step of Q learning from columns. Needs ray, torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor

from rl.algorithms.allocator import keep_freed_memory
from rl.algorithms.dqn.flat import flatten
from rl.algorithms.dqn.module import QModule
from rl.algorithms.dqn.td import greedy_values, loss_of, targets

NEXT = "next_"
Batch = dict[str, Tensor]


class QLearner(TorchLearner):
    """Double Q learning with a target network that is an average of the online network.

    RLlib's own `update` converts, slices, counts and logs for every batch; on networks of this size that takes longer
    than the gradient, so this one does only the step.
    """

    config: Any

    def build(self) -> None:
        """Build the module, its averaged copy and the optimiser."""
        super().build()
        keep_freed_memory()
        module = self.q_module
        if not hasattr(module, "_target"):
            module.make_target_networks()
        self._average = flatten(module.get_target_network_pairs()[0][1])
        self._updates = 0

    @property
    def q_module(self) -> QModule:
        """The only module."""
        module: QModule = self.module[DEFAULT_MODULE_ID].unwrapped()
        return module

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Make AdamW over all parameters as one vector.

        Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).
        """
        self._online = flatten(self.q_module.net)
        optimiser = torch.optim.AdamW(
            [self._online], lr=config.lr, weight_decay=config.weight_decay, eps=config.adam_epsilon, fused=True
        )
        self.register_optimizer(module_id=module_id, optimizer=optimiser, params=[self._online])

    def update(
        self,
        batch: Any = None,
        *,
        training_data: TrainingData | None = None,
        timesteps: dict[str, int] | None = None,
        **_: Any,
    ) -> dict[str, np.ndarray]:
        """Take one step.

        Returns:
            The TD errors [B] before it, the loss, and the mean Q value of the actions taken.
        """
        columns = (training_data.batch if training_data else batch)[DEFAULT_MODULE_ID]
        tensors = {name: torch.as_tensor(column, device=self._device) for name, column in columns.items()}
        config, optimiser = self.config, self.get_optimizer(DEFAULT_MODULE_ID)
        if not self.q_module.net.training:  # it is after a runner in this process has acted
            self.q_module.net.train()
        loss, results = self.compute_loss_for_module(
            module_id=DEFAULT_MODULE_ID, config=config, batch=tensors, fwd_out={}
        )
        optimiser.zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        if config.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(self._online, config.grad_clip)
        steps = (timesteps or {}).get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        for group in optimiser.param_groups:
            group["lr"] = config.lr_at(steps)
        optimiser.step()
        self._follow()
        self.q_module.epsilon.fill_(config.epsilon_at(steps))
        self._weights_seq_no += 1
        return {name: array.detach().cpu().numpy() for name, array in (results | {"loss": loss}).items()}

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: Batch, fwd_out: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch of columns of `Transitions`, with what `update` returns of it."""
        _, taken = self._valued(batch)
        errors = taken - self._targets(self.q_module, batch)
        return loss_of(config.loss, errors, batch["weights"]), {"td_errors": errors, "q_mean": taken.mean()}

    def _valued(self, batch: Batch) -> tuple[Tensor, Tensor]:
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
            self._average.lerp_(self._online, rate)

    def get_state(self, components: str | Sequence[str] | None = None, **options: Any) -> dict[str, Any]:
        """Add the number of updates, which the average's rate depends on."""
        state: dict[str, Any] = super().get_state(components, **options)
        return state | {"updates": self._updates}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `get_state`."""
        super().set_state(state)
        self._updates = state.get("updates", self._updates)
