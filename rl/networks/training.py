"""Training a network on tensors."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from rl.networks.description.inputs import Described, NetworkError
from rl.networks.measuring import (
    Losses,
    Tensors,
    compute_losses,
    mean_losses,
    same_rows,
    take,
)
from rl.networks.module.losses import has_target, row_losses, weighted_sum
from rl.networks.module.network import Network


class Training(Described):
    """How to train."""

    epochs: Annotated[int, Field(ge=1, description="passes over the data")] = 10
    batch_size: Annotated[int, Field(ge=1, description="rows of one step")] = 64
    learning_rate: Annotated[float, Field(gt=0, description="of Adam")] = 1e-3
    validation: Annotated[float, Field(ge=0, lt=1, description="share of rows that are not learned from")] = 0.0
    seed: Annotated[int, Field(ge=0, description="of the split, the order of rows, and dropout")] = 0


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data did."""

    number: int
    """From 1."""
    training: Losses
    """While learning: with dropout, each batch before its step."""
    validation: Losses | None
    """After the pass; None where no rows were held out."""


def fit(
    network: Network,
    inputs: Tensors,
    targets: Tensors,
    training: Training | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train a network with Adam and return what each epoch did; afterwards it is in evaluation mode.

    Numeric inputs are standardised by the rows that are learned from. Equal arguments give equal weights.

    Args:
        network: learns in place. A second call goes on from there, with the statistics of the first.
        inputs: of each input its tensor, rows first.
        targets: see `encode_targets`; a row without a target for an output is left out of that output's loss.
        training: how.
        progress: called after every epoch.

    Raises:
        NetworkError: tensors that do not fit, nothing to learn from, or a loss that is not finite any more.
    """
    training = training or Training()
    rows = same_rows(inputs, targets)
    if not any(has_target(name, output, targets).any() for name, output in network.description.outputs.items()):
        raise NetworkError("no row has a target for any output: there is nothing to learn from")
    generator = torch.Generator().manual_seed(training.seed)
    shuffled = torch.randperm(rows, generator=generator)
    cut = int(rows * training.validation)
    held_out, learned = shuffled[:cut], shuffled[cut:]
    network.standardise(take(inputs, learned))
    optimiser = torch.optim.Adam(network.parameters(), lr=training.learning_rate)
    history = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(training.seed)  # which dropout draws from
        for number in range(1, training.epochs + 1):
            order = learned[torch.randperm(len(learned), generator=generator)]
            losses = _learn(network, optimiser, inputs, targets, torch.split(order, training.batch_size))
            if not math.isfinite(losses.total):
                raise NetworkError(f"the loss became {losses.total} in epoch {number}; try a lower learning_rate")
            unseen = compute_losses(network, take(inputs, held_out), take(targets, held_out)) if len(held_out) else None
            history.append(Epoch(number, losses, unseen))
            if progress:
                progress(history[-1])
    return history


def _learn(
    network: Network, optimiser: torch.optim.Optimizer, inputs: Tensors, targets: Tensors, batches: tuple[Tensor, ...]
) -> Losses:
    """Take one step for every batch of row numbers."""
    outputs = network.description.outputs
    seen: dict[str, list[Tensor]] = {name: [] for name in outputs}
    network.train()
    for batch in batches:
        losses = row_losses(outputs, network(take(inputs, batch)), take(targets, batch))
        total = weighted_sum(outputs, losses)
        if total.requires_grad:  # not so in a batch without any target
            optimiser.zero_grad()
            torch.autograd.backward(total)
            optimiser.step()
        for name, of_rows in losses.items():
            seen[name].append(of_rows.detach())
    network.eval()
    return mean_losses(outputs, {name: torch.cat(parts) for name, parts in seen.items()})
