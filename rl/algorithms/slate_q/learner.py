"""One gradient step of SlateQ from columns: of the values and of the choice model."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rl.algorithms.dqn.learner import Batch, QLearner
from rl.algorithms.dqn.module import inputs
from rl.algorithms.dqn.td import compute_loss, targets
from rl.algorithms.slate_q.module import SlateQModule
from rl.experience.checks import CHOSEN, NEXT, WEIGHTS
from rl.policies.slates.choice import best_slates, choice_logits, slate_values
from rl.policies.slates.network import Judged


class SlateQLearner(QLearner):
    """Q learning of the alternatives' values from what was chosen, whatever else the slate held.

    Source: Ie et al., "SlateQ" (2019), decomposed Q-learning, with the best next slate found exactly.
    """

    @property
    def q_module(self) -> SlateQModule:
        """The only module."""
        module: SlateQModule = super().q_module
        return module

    def loss(self, config: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch of columns of `Transitions`, with `chosen`: of values and of the choice."""
        module = self.q_module
        judged, slates = self._judge_slates(module, batch)
        values = compute_choice_value(judged, slates, batch[CHOSEN])
        errors = (values - self._targets(module, batch)) / module.net.added_scale
        logits = choice_logits(judged.logits, slates)
        surprise = functional.cross_entropy(logits, batch[CHOSEN] + 1, reduction="none")  # [B]
        weights = batch[WEIGHTS] if WEIGHTS in batch else torch.ones_like(errors)
        of_values = compute_loss(config.loss, errors, weights)
        loss = of_values + config.choice_weight * (weights * surprise).mean()
        return loss, {"td_errors": errors, "q_mean": values.mean(), "choice_loss": surprise.mean()}

    def _judge_slates(self, module: SlateQModule, batch: Batch) -> tuple[Judged, Tensor]:
        """Return what the network says of candidates that hold those shown, and where they are, [B, K].

        Where features describe the context alone, candidates do not change what is said of each other, and only those
        shown are judged.
        """
        items, _, history, features = inputs(batch)
        slates = batch["actions"]
        if features.shape[1] == 1:
            items, slates = items.gather(1, slates), torch.arange(slates.shape[1]).expand_as(slates)
        return module.net.judge(items, history, features), slates

    def _targets(self, module: SlateQModule, batch: Batch) -> Tensor:
        """Return what the values of the choices should be, [B]: r + γ' Q(s', A') with the best slate A'."""
        if "discounts" not in batch:  # γ = 0: the reward is all there is
            return batch["rewards"]
        going = batch["discounts"] > 0  # with long n-step returns few are: most episodes have ended by then
        after = {name.removeprefix(NEXT): tensor[going] for name, tensor in batch.items() if name.startswith(NEXT)}
        values = torch.zeros_like(batch["rewards"])
        if going.any():
            with torch.no_grad():
                judged = module.judge(module._target, after)
                chooser = module.judge(module.net, after) if self.config.double_q else judged
                slates, _ = best_slates(chooser.added, chooser.logits, after["mask"], module.k)
                values[going] = slate_values(*judged, slates)
        return targets(batch["rewards"], batch["discounts"], values)


def compute_choice_value(judged: Judged, slates: Tensor, chosen: Tensor) -> Tensor:
    """Return Q̄ of what was chosen, [B], for slates of positions [B, K] and slots chosen [B], -1 for nothing."""
    position = slates.gather(1, chosen.clamp(min=0).unsqueeze(1))
    return judged.nothing + torch.where(chosen >= 0, judged.added.gather(1, position).squeeze(1), 0.0)
