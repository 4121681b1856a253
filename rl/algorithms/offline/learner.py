"""Learning from logged transitions: conservative Q learning, and cloning of who made the log."""

from typing import Any

import torch
from torch import Tensor

from rl.algorithms.dqn.learner import Batch, QLearner
from rl.algorithms.dqn.module import QModule
from rl.algorithms.dqn.td import compute_loss
from rl.experience.checks import WEIGHTS


class ConservativeQLearner(QLearner):
    """Q learning that keeps down the values of actions which the log does not show.

    The loss is the weighted TD loss plus α times the mean of log Σ_a exp Q(s, a) - Q(s, a_logged) over the candidates
    that were allowed. Source: Kumar et al., "Conservative Q-learning for offline reinforcement learning" (2020), eq. 4.

    The weights are those of `importance_weights` and count in the TD loss alone: the second part is an expectation over
    the logged actions as they were logged.
    """

    def loss(self, config: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """See `QLearner`; `surprise` is what α counts, `evenness` the share of the batch that the weights leave."""
        q, taken = self._compute_values(batch)
        errors = taken - self._targets(self.q_module, batch)
        weights = weigh_rows(self._weights(self.q_module, batch), batch)
        surprise = weigh_rows(compute_surprise(q, taken, batch["mask"]), batch, keep_mean=False).mean()
        loss = compute_loss(config.loss, errors, weights) + config.conservatism * surprise
        of_batch = {"q_mean": taken.mean(), "surprise": surprise, "evenness": evenness(weights)}
        return loss, {"td_errors": errors, **of_batch}

    def _weights(self, module: QModule, batch: Batch) -> Tensor:
        """Return the weights [B] that make the logged actions count as if drawn as `config.towards` says."""
        propensities, mask = batch["propensities"].squeeze(1), batch["mask"].bool()
        if self.config.towards == "behaviour":
            return torch.ones_like(propensities)
        if self.config.towards == "uniform":
            target = 1 / mask.sum(1)
        else:
            with torch.no_grad():
                q = module.q_values(module._target, batch).masked_fill(~mask, -torch.inf)
                learned = torch.softmax(q / self.config.temperature, dim=1)
                target = learned.gather(1, batch["actions"]).squeeze(1)
        return importance_weights(target, propensities, self.config.weight_clip)


class CloningLearner(QLearner):
    """Behaviour cloning: the network's outputs are the logits of what the log shows was done.

    With `config.earned` an action counts by how much more it earned than the batch did on average, over its propensity
    (clipped and self-normalised likewise), so that what is cloned is what paid; else each counts the same. Weights for
    a uniform reference would clone a policy that draws at random.

    Source: Pomerleau, "Efficient training of artificial neural networks for autonomous navigation" (1991); with
    `earned`, Swaminathan and Joachims, "The self-normalized estimator for counterfactual learning" (2015), the part of
    its gradient that is positive.
    """

    def loss(self, config: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """See `QLearner`; `surprise` is the loss, and the TD errors are 0 as nothing is estimated."""
        logits, taken = self._compute_values(batch)
        surprise = compute_surprise(logits, taken, batch["mask"])
        weights = weigh_rows(torch.ones_like(surprise), batch)
        if config.earned:
            gains = (batch["rewards"] - batch["rewards"].mean()).clamp(min=0)
            weights = normalise(weights * gains * (1 / batch["propensities"].squeeze(1)).clamp(max=config.weight_clip))
        of_batch = {"q_mean": taken.mean(), "surprise": surprise.mean(), "evenness": evenness(weights)}
        return (weights * surprise).mean(), {"td_errors": torch.zeros_like(surprise), **of_batch}


def importance_weights(target: Tensor, propensities: Tensor, clip: float) -> Tensor:
    """Return min(π / p, clip) over its mean, [B]: what was drawn with p counts as if drawn with π.

    Clipping bounds the variance that a small propensity brings, for a little bias; dividing by the mean takes out how
    many large weights a batch happens to have, and keeps the size of the step. Sources: Ionides, "Truncated importance
    sampling" (2008), Bottou et al., "Counterfactual reasoning and learning systems" (2013), section 4.4; Swaminathan
    and Joachims (2015), eq. 8.

    Args:
        target: [B] π(a|x) of the logged actions.
        propensities: [B] p(a|x) that they were drawn with, in (0, 1].
        clip: largest ratio.
    """
    return normalise((target / propensities).clamp(max=clip))


def weigh_rows(values: Tensor, batch: Batch, keep_mean: bool = True) -> Tensor:
    """Return values [B] times how much each row counts, where the table says so; else as they are.

    Args:
        values: [B].
        batch: maybe with the column `weights`, of which the mean is taken out.
        keep_mean: the values are weights themselves, whose mean stays 1.
    """
    if WEIGHTS not in batch:
        return values
    weighted = values * normalise(batch[WEIGHTS])
    return normalise(weighted) if keep_mean else weighted


def normalise(weights: Tensor) -> Tensor:
    """Return weights [B] over their mean; all 0 stay so."""
    return weights / weights.mean().clamp(min=torch.finfo(weights.dtype).tiny)


def evenness(weights: Tensor) -> Tensor:
    """Return the effective sample size (Σ w)² / Σ w² as a share of the batch: 1 if all weights are alike."""
    squares = weights.square().sum() * len(weights)
    return weights.sum().square() / squares.clamp(min=torch.finfo(weights.dtype).tiny)


def compute_surprise(q: Tensor, taken: Tensor, mask: Tensor) -> Tensor:
    """Return log Σ_a exp q_a - q_taken over the allowed actions, [B]; q and mask are [B, A], taken is [B]."""
    return q.masked_fill(~mask.bool(), -torch.inf).logsumexp(1) - taken
