"""One gradient step of a learner with one module and one optimiser, without the rest of RLlib's `Learner.update`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID


def update(learner: Any, columns: Mapping[str, np.ndarray], timesteps: dict[str, Any]) -> None:
    """Take a step on a batch of columns, by the methods of the learner that RLlib's own update calls, in its order.

    Left out are RLlib's conversion and slicing of batches, its forward pass apart from the loss, and what it counts and
    logs of each batch.

    Args:
        learner: a `TorchLearner` whose loss calls the module itself.
        columns: [B, ...] each.
        timesteps: see `Learner.update`.
    """
    learner.before_gradient_based_update(timesteps=timesteps)
    batch = {name: torch.as_tensor(column, device=learner._device) for name, column in columns.items()}
    config, optimiser = learner.config, learner.get_optimizer(DEFAULT_MODULE_ID)
    loss = learner.compute_loss_for_module(module_id=DEFAULT_MODULE_ID, config=config, batch=batch, fwd_out={})
    optimiser.zero_grad(set_to_none=False)
    loss.backward()
    if config.grad_clip is not None:
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, config.grad_clip)
    optimiser.step()
    learner.after_gradient_based_update(timesteps=timesteps)
    learner._weights_seq_no += 1
